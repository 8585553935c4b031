# SPDX-License-Identifier: GPL-2.0-only
"""``mergelab torture``: everything at once, under a kernel that checks itself."""

from __future__ import annotations

import argparse
import signal
from datetime import UTC, datetime
from pathlib import Path

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from mergelab import uml
from mergelab.runs import STAMP
from mergelab.torture import plan, run

LOGS = Path(__file__).parents[3] / "reports" / "logs"

FOUND = 3
"""Exit status when the machines ran and something was found."""

WIDTH = 110
COLUMNS = ("operations", "control", "merged", "zeroed", "unshared", "unmerged", "swapped_out", "children")


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``mergelab torture``."""
    verb = subparsers.add_parser(
        "torture", help="merge, write, fork, swap and unload in parallel, from a seed"
    )
    verb.add_argument("--seed", default="", help="a number, as an earlier run has printed (random)")
    verb.add_argument("--ops", default="", help=f"operations of each configuration ({plan.OPS})")
    verb.add_argument(
        "--configuration",
        action="append",
        default=[],
        metavar="NAME",
        help=f"one of {', '.join(each.name for each in plan.CONFIGURATIONS)}; again for several (all)",
    )
    verb.set_defaults(run=_run)


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def _run(options: argparse.Namespace) -> int:
    signal.signal(signal.SIGTERM, _interrupted)  # one that is told to end leaves as little as one by Ctrl-C
    seed, ops = plan.seed_of(options.seed), plan.ops_of(options.ops)
    chosen = plan.choose(options.configuration)
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    LOGS.mkdir(parents=True, exist_ok=True)
    print(f"torture: SEED={seed} OPS={ops}", flush=True)
    kernel = uml.build_kernel(run.PROFILE)
    stamp = f"{datetime.now(UTC):{STAMP}}"
    outcomes = []
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f} of {task.total:.0f}"),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    ) as bar:
        for configuration in chosen:
            log = LOGS / f"torture-{stamp}-{configuration.name}.log"
            task = bar.add_task(configuration.name, total=round(ops * configuration.share))

            def heard(done: int, total: int, name: str = configuration.name, task: int = task) -> None:
                bar.update(task, completed=done, total=total)  # type: ignore[arg-type]  # an id is an int
                if not console.is_terminal:
                    print(f"torture: {name}: {done} of {total}", flush=True)

            outcome = run.run(configuration, kernel, seed, ops, log=log, heard=heard)
            bar.remove_task(task)
            outcomes.append(outcome)
            verdict = f"{len(outcome.findings)} findings" if outcome.findings else "nothing found"
            console.print(f"torture: {configuration.name}: {verdict}; console: {log}", soft_wrap=True)
    show(console, outcomes)
    if not any(outcome.findings for outcome in outcomes):
        return 0
    names = " ".join(f"--configuration {each.name}" for each in outcomes if each.findings)
    console.print(f'again: make torture SEED={seed} OPS={ops} ARGS="{names}"', soft_wrap=True)
    return FOUND


def show(console: Console, outcomes: list[run.Outcome]) -> None:
    """Print a table of the configurations and what was found."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("configuration")
    for name in COLUMNS:
        table.add_column(name.replace("_", " "), justify="right")
    table.add_column("findings", justify="right")
    for outcome in outcomes:
        figures = outcome.figures
        cells = [f"{figures[name]:,}" if name in figures else "–" for name in COLUMNS]
        if "operations" not in figures and "ops" in figures:
            cells[0] = f"{figures['ops']:,}"
        table.add_row(outcome.name, *cells, str(len(outcome.findings)))
    console.print(table)
    for outcome in outcomes:
        for finding in outcome.findings:
            console.print(f"{outcome.name}: {finding}", markup=False, highlight=False, soft_wrap=True)
