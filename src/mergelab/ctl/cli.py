# SPDX-License-Identifier: GPL-2.0-only
"""Command line of `memmergectl`."""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from mergelab.ctl import NotLoadedError, domains, process, status, text, tune, watch
from mergelab.ctl.module import Module
from mergelab.host import HostError

FAILED, USAGE, NOT_LOADED, INTERRUPTED = 1, 2, 3, 130
"""Exit statuses beside 0; USAGE is argparse's."""

_HEAD_EVERY = 20

Verb = Callable[[Module, argparse.Namespace], int]
Answer = TypeVar("Answer")


def main(argv: Sequence[str] | None = None, root: Path = Path("/")) -> int:
    """Runs one verb on the host below `root`; returns the exit status."""
    options = parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    verb: Verb = options.run
    try:
        return verb(Module(root), options)
    except NotLoadedError as error:
        return _complain(error, NOT_LOADED)
    except HostError as error:
        return _complain(error, FAILED)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def parser() -> argparse.ArgumentParser:
    """Builds the parser; the manual and the completion are compared with it."""
    top = argparse.ArgumentParser(
        prog="memmergectl",
        description="Shows and sets everything of the merging engine memmerge.",
        epilog="memmergectl VERB --help explains a verb; memmergectl(8) explains them all.",
        allow_abbrev=False,
    )
    verbs = top.add_subparsers(required=True, metavar="VERB")

    _verb(verbs, "status", "what the engine does and saves, in one look", _status, "memmergectl status")
    add = _verb(
        verbs, "show", "counters and tunables with unit and meaning", _show,
        "memmergectl show", "memmergectl show sleep_millisecs pages_sharing",
        "memmergectl show --json | jq .run.value",
    )  # fmt: skip
    add.add_argument("file", nargs="*", metavar="FILE", help="a file of /sys/kernel/mm/memmerge; default all")
    add = _verb(
        verbs, "set", "set tunables: all of them or, if one is refused, none", _set,
        "memmergectl set sleep_millisecs=100", "memmergectl set pages_to_scan=4000 sleep_millisecs=10 run=1",
    )  # fmt: skip
    add.add_argument("assignment", nargs="+", metavar="FILE=VALUE", help="memmergectl show FILE explains it")
    _verb(verbs, "start", "start the scanner", _start, "memmergectl start")
    _verb(verbs, "stop", "stop the scanner; what is merged stays merged", _stop, "memmergectl stop")
    add = _verb(
        verbs, "unmerge", "stop the scanner and give every merged page its own copy", _unmerge,
        "memmergectl unmerge", "memmergectl unmerge --force",
    )  # fmt: skip
    add.add_argument("--force", action="store_true", help="even if the host does not seem to have the memory")
    add = _verb(
        verbs, "watch", "what the engine does per second", _watch,
        "memmergectl watch", "memmergectl watch --interval 10 --count 6",
        "memmergectl watch --json >rates.jsonl",
    )  # fmt: skip
    add.add_argument(
        "--interval", type=_seconds, default=1.0, metavar="SECONDS", help="between two lines, default 1"
    )
    add.add_argument("--count", type=_positive, metavar="N", help="lines; default: until interrupted")
    add = _verb(
        verbs, "process", "what merging did to processes, by the kernel's account of them", _process,
        "memmergectl process", "memmergectl process 4711 4712",
        "memmergectl process --guest web1 --guest web2",
    )  # fmt: skip
    add.add_argument("pid", nargs="*", type=_positive, metavar="PID", help="default: every running guest")
    add.add_argument("--guest", action="append", default=[], metavar="NAME", help="a guest; may be repeated")
    add = _verb(
        verbs, "domains", "the agent's domains, and why memory in them is not merged", _domains,
        "memmergectl domains", "memmergectl domains tenant-a --json",
    )  # fmt: skip
    add.add_argument("name", nargs="*", metavar="NAME", help="a domain; default all")
    add = _verb(
        verbs, "engine", "show or choose the engine that madvise() and prctl() reach", _engine,
        "memmergectl engine", "memmergectl engine memmerge",
    )  # fmt: skip
    add.add_argument("engine", nargs="?", metavar="ENGINE", help="ksm or memmerge")
    return top


def _verb(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    summary: str,
    run: Verb,
    *examples: str,
) -> argparse.ArgumentParser:
    added = verbs.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog="examples:\n" + "\n".join(f"  {example}" for example in examples),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    added.add_argument("--json", action="store_true", help="print JSON instead of a table")
    added.set_defaults(run=run)
    return added


def _status(module: Module, options: argparse.Namespace) -> int:
    try:
        state = status.gather(module)
    except NotLoadedError:
        if options.json:
            _print_json({"module": {"loaded": False}})
        raise
    return _answer(options, state, text.status)


def _show(module: Module, options: argparse.Namespace) -> int:
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    return _answer(options, status.show(module, options.file), lambda files: text.show(files, width))


def _set(module: Module, options: argparse.Namespace) -> int:
    return _answer(options, tune.apply(module, tune.parse(module, options.assignment)), text.changes)


def _start(module: Module, options: argparse.Namespace) -> int:
    return _answer(options, tune.apply(module, {"run": tune.RUN}), text.changes)


def _stop(module: Module, options: argparse.Namespace) -> int:
    return _answer(options, tune.apply(module, {"run": tune.STOP}), text.changes)


def _unmerge(module: Module, options: argparse.Namespace) -> int:
    terminal = sys.stderr.isatty()

    def progress(done: int, total: int) -> None:
        if terminal:
            print(f"\runmerging: {done} of {total} pages", end="", file=sys.stderr, flush=True)

    try:
        done = tune.unmerge(module, progress, options.force)
    except KeyboardInterrupt:
        print("\nmemmergectl: interrupted: the scanner is stopped, not all is unshared", file=sys.stderr)
        raise
    finally:
        if terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
    return _answer(options, done, text.unmerged)


def _watch(module: Module, options: argparse.Namespace) -> int:
    for at, row in enumerate(watch.rows(module, options.interval, options.count)):
        if options.json:
            _print_json(row)
            continue
        if at == 0 or (sys.stdout.isatty() and at % _HEAD_EVERY == 0):
            print(text.watch_head())
        print(text.watch_row(row), flush=True)
    return 0


def _process(module: Module, options: argparse.Namespace) -> int:
    found, missed = [], 0
    for guest, pid in process.select(options.pid, options.guest):
        try:
            found.append(process.describe(guest, pid, module.proc))
        except HostError as error:
            missed = _complain(error, FAILED)
    if found or options.json:
        _answer(options, found, text.processes)
    return missed


def _domains(_: Module, options: argparse.Namespace) -> int:
    return _answer(options, domains.gather(options.name), text.domains)


def _engine(module: Module, options: argparse.Namespace) -> int:
    return _answer(options, tune.engine(module, options.engine), text.engine)


def _answer(options: argparse.Namespace, value: Answer, render: Callable[[Answer], str]) -> int:
    if options.json:
        _print_json(value)
    else:
        print(render(value), flush=True)
    return 0


def _print_json(value: object) -> None:
    print(json.dumps(value), flush=True)


def _complain(error: HostError, status_: int) -> int:
    print(f"memmergectl: {error}", file=sys.stderr)
    return status_


def _positive(word: str) -> int:
    number = int(word)
    if number < 1:
        raise ValueError(word)
    return number


def _seconds(word: str) -> float:
    number = float(word)
    if not math.isfinite(number) or number <= 0:
        raise ValueError(word)
    return number
