# SPDX-License-Identifier: GPL-2.0-only
"""``mergelab benchmark``: measure the engines, show and compare benchmarks, fetch a guest's memory."""

from __future__ import annotations

import argparse
import os
import signal
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from mergelab import inventory, telemetry
from mergelab.benchmark import compare, guestmemory, host, plan, record, run, terminal
from mergelab.benchmark.progress import Progress
from mergelab.errors import MergelabError
from mergelab.runs import STAMP

PROJECT = Path(__file__).parents[3]
RUNS = PROJECT / "reports" / "runs"
LOGS = PROJECT / "reports" / "logs"

REGRESSED = 3
"""Exit status when everything went well except that a figure became worse than the baseline's."""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``mergelab benchmark``."""
    room = subparsers.add_parser("benchmark", help="measure memmerge beside KSM").add_subparsers(
        metavar="VERB", required=True
    )
    verb = room.add_parser("run", help="measure, and write a page")
    verb.add_argument(
        "--size",
        action="append",
        default=[],
        metavar="SIZE",
        help=f"memory of each case, like 256M or 4G; again for several ({_sizes()})",
    )
    verb.add_argument(
        "--case",
        action="append",
        default=[],
        metavar="CASE",
        help=f"one of {', '.join(plan.CASES)}; again for several (all)",
    )
    verb.add_argument(
        "--pairs", type=int, default=plan.PAIRS, help="runs of each engine on each case (%(default)s)"
    )
    verb.add_argument("--baseline", default="", metavar="BENCH", help="an earlier benchmark to compare with")
    verb.add_argument(
        "--host",
        default="",
        metavar="NAME",
        help="measure on this host of the inventory, with the kernel deployed there (User-Mode Linux here)",
    )
    verb.add_argument("--inventory", default="inventory/virtual", help="of the host (%(default)s)")
    verb.set_defaults(run=_run)
    verb = room.add_parser("show", help="print a benchmark again")
    verb.add_argument("bench", metavar="BENCH")
    verb.set_defaults(run=_show)
    verb = room.add_parser("compare", help="compare two benchmarks; a regression is exit status 3")
    verb.add_argument("before", metavar="BEFORE")
    verb.add_argument("after", metavar="AFTER")
    verb.set_defaults(run=_compare)
    verb = room.add_parser("guest-memory", help="take the memory of running libvirt guests into the cache")
    verb.add_argument("names", nargs="+", metavar="NAME")
    verb.add_argument("--uri", default="qemu:///session", help="of libvirt (%(default)s)")
    verb.set_defaults(run=_guest_memory)


def _sizes() -> str:
    return ", ".join(f"{size // plan.MIB}M" for size in plan.SIZES)


def _console() -> Console:
    """A terminal as wide as it is; a file or pipe wide enough for the tables."""
    console = Console()
    return console if console.is_terminal else Console(width=terminal.WIDTH)


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def _words(given: list[str]) -> list[str]:
    """Options that may be given again, or with commas."""
    return [word for text in given for word in text.split(",") if word]


def _run(options: argparse.Namespace) -> int:
    signal.signal(signal.SIGTERM, _interrupted)  # one that is told to end leaves as little as one by Ctrl-C
    target = inventory.find(options.inventory, options.host) if options.host else None
    facts = telemetry.facts(target) if target else {}
    chosen = plan.make(
        cases=_words(options.case),
        sizes=[plan.parse_size(text) for text in _words(options.size)],
        pairs=options.pairs,
        guest_memory=None if target else guestmemory.default_file(),
        guest_help="only in User-Mode Linux" if target else guestmemory.HOW,
        processors=host.processors(facts) if target else 1,
        kvm=host.runs_guests(facts),
        host=options.host,
    )
    baseline = record.read(RUNS, options.baseline) if options.baseline else None
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "mergelab" / "locks"
    console = _console()
    with run.alone(state):
        name = f"bench-{datetime.now(UTC):{STAMP}}"
        LOGS.mkdir(parents=True, exist_ok=True)
        log = LOGS / f"{name}.console.log"
        with Progress(console, chosen) as progress:
            if target:
                made = host.measure(chosen, name, baseline, progress, log, target=target, facts=facts)
            else:
                made = run.measure(chosen, name, baseline, progress, log)
        from mergelab.benchmark import render  # noqa: PLC0415 - loads the chart library, other verbs need not wait

        folder = run.keep(RUNS, made, {"index.html": render.html(render.page(made))})
    terminal.show(console, made)
    print(f"bench: {folder / 'index.html'}")
    return _status(made)


def _status(made: record.Record) -> int:
    found = made.get("baseline", {}).get("findings", [])
    return REGRESSED if any(each["verdict"] == compare.REGRESSION for each in found) else 0


def _show(options: argparse.Namespace) -> int:
    terminal.show(_console(), record.read(RUNS, options.bench))
    return 0


def _compare(options: argparse.Namespace) -> int:
    before, after = record.read(RUNS, options.before), record.read(RUNS, options.after)
    compare.require_same_machine(before["bench"], before["machine"], after["machine"])
    made = {**after, "baseline": run.against(before, after, record.results(after))}
    terminal.show(_console(), made)
    return _status(made)


def _guest_memory(options: argparse.Namespace) -> int:
    target = guestmemory.default_file()
    size = guestmemory.capture(options.uri, options.names, target)
    if size < plan.AREA:
        raise MergelabError(
            f"{', '.join(options.names)} have {size // plan.MIB} MiB of memory only",
            f"take guests with {plan.AREA // plan.MIB} MiB or more together",
        )
    print(f"{target}: {size // plan.MIB} MiB")
    return 0
