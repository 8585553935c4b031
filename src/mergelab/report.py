# SPDX-License-Identifier: GPL-2.0-only
"""``mergelab report`` and ``mergelab judge``: the thin shell around store, judge and render."""

import argparse
import os
from pathlib import Path

from mergelab import store
from mergelab.errors import MergelabError
from mergelab.evidence import Verdict
from mergelab.files import write_atomically
from mergelab.judge import Judgement, judge_run

NOT_GREEN = 3
"""Exit status when everything went well except the verdict."""


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommands of this room."""
    for name, run, text in (
        ("report", report, "judge a run and write run.json, index.html, report.md and junit.xml"),
        ("judge", judge, "judge a run and print what is not green; writes nothing"),
    ):
        command = subparsers.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        command.add_argument(
            "run_dir",
            nargs="?",
            type=Path,
            metavar="RUN_DIR",
            help="the run's folder; default $MERGELAB_RUN_DIR, else reports/runs/latest",
        )
        command.set_defaults(run=run)


def _run_dir(given: Path | None) -> Path:
    path = given or Path(os.environ.get("MERGELAB_RUN_DIR") or "reports/runs/latest")
    if not path.is_dir():
        raise MergelabError(
            f"there is no run in {path}",
            "name a folder of reports/runs/, or make a run with `make qualify`",
        )
    return path.resolve()


def judged(run_dir: Path) -> tuple[store.Parts, Judgement]:
    """Read a run and judge it."""
    parts = store.read(run_dir)
    judgement = judge_run(
        facts=parts.facts,
        deploy=parts.deploy,
        manifest=parts.manifest,
        evidence=parts.evidence,
        finished="ended" in parts.meta,
        panics=parts.panics,
    )
    return parts, judgement


def write(run_dir: Path) -> tuple[Judgement, bool]:
    """Judge a run and leave its record and the three reports in its folder.

    Returns:
        The judgement, and whether any file changed.
    """
    from mergelab import render  # noqa: PLC0415 - loads the chart library, other commands need not wait for it

    parts, judgement = judged(run_dir)
    record = store.record(parts, judgement)
    changed = [store.write(run_dir, record)]
    page = render.page(record, parts.telemetry)
    for name, text in (
        ("junit.xml", render.junit(record)),
        ("report.md", render.markdown(page)),
        ("index.html", render.html(page)),
    ):
        changed.append(write_atomically(run_dir / name, text))
    return judgement, any(changed)


def report(arguments: argparse.Namespace) -> int:
    """Run ``mergelab report``."""
    run_dir = _run_dir(arguments.run_dir)
    judgement, changed = write(run_dir)
    print(f"{judgement.verdict.value}: {judgement.reason}")
    print(f"{run_dir / 'index.html'} {'written' if changed else 'unchanged'}")
    return _status(judgement.verdict)


def judge(arguments: argparse.Namespace) -> int:
    """Run ``mergelab judge``."""
    _, judgement = judged(_run_dir(arguments.run_dir))
    print(f"{judgement.verdict.value}: {judgement.reason}")
    for each in judgement.findings:
        print(f"  {each.verdict.value:<12} {each.subject}: {each.sentence}")
    return _status(judgement.verdict)


def _status(verdict: Verdict) -> int:
    return 0 if verdict.green else NOT_GREEN
