# SPDX-License-Identifier: GPL-2.0-only
"""Measuring: the kernel and the program built, a machine booted, its lines heard, the record made."""

from __future__ import annotations

import fcntl
import os
import shlex
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mergelab import uml
from mergelab.benchmark import compare, fingerprint, goals, lines, record, summary
from mergelab.benchmark.lines import Line
from mergelab.benchmark.plan import MIB, Plan, check_machine
from mergelab.benchmark.progress import Progress
from mergelab.errors import MergelabError
from mergelab.runs import STAMP, commit

PROGRAM = uml.KERNEL / "bench"
SOURCES = (*PROGRAM.glob("*.[chS]"), PROGRAM / "Makefile")
PROFILE = "um"
SILENCE = 1800
"""Seconds without a word of the measuring program after which it counts as hung; a pass may take 900."""

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - the tmpfs that User-Mode Linux wants for its memory


class Ear:
    """The other end of the machine's serial line: hears measurements, and tells the kernel its CPU time."""

    def __init__(self, progress: Progress) -> None:
        """Start with nothing heard."""
        self.lines: list[Line] = []
        self.done = False
        self._samples: list[dict[str, int]] = []
        self._progress = progress

    def __call__(self, text: str, kernel: int) -> str | None:
        """Take one line; returns the answer to a question.

        Raises:
            MergelabError: it is no measurement, or the program reports an error.
        """
        spent = cpu_ns(kernel)  # before anything else: the kernel goes on while a line is understood
        text = text.strip()
        if text == '{"kind": "cpu?"}':
            return str(spent)
        if text == '{"kind": "delay?"}':
            return str(delay_ns(kernel))
        if not text:
            return None
        line = lines.parse(text)
        if line.kind == "sample":
            self._samples.append({"cpu_ns": spent, **line.data})
            return None
        if line.kind in ("settled", "watching", "looking"):
            made = lines.growth if line.kind == "settled" else lines.watched
            line = made(line, self._samples)
            self._samples = []
        if line.kind == "error":
            raise MergelabError(
                f"the measuring program gave up: {line.data['reason']}",
                "the console's log says more; a case that fails alone can be left out with --case",
            )
        if line.kind == "done":
            self.done = True
            return None
        self.lines.append(line)
        self._progress.heard(line)
        return None


def cpu_ns(process: int) -> int:
    """CPU time of a process so far, exact: its CPU-time clock, as clock_getcpuclockid(3) names it."""
    return time.clock_gettime_ns(~process << 3 | 2)


def delay_ns(process: int) -> int:
    """How long a process has waited for a processor so far."""
    return int(Path(f"/proc/{process}/schedstat").read_text(encoding="ascii").split()[1])


@contextmanager
def alone(state: Path) -> Iterator[None]:
    """Hold the lock that keeps two benchmarks from measuring each other.

    Raises:
        MergelabError: another one runs; says which process.
    """
    state.mkdir(parents=True, exist_ok=True)
    with (state / "benchmark").open("a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise MergelabError(
                f"another benchmark runs: process {lock.read().strip() or 'unknown'}",
                "wait for it, or stop it with kill -INT: two would measure each other",
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


def boot(plan: Plan, kernel: Path, progress: Progress, log: Path) -> list[Line]:
    """Boot a kernel and hear everything that the plan measures.

    Args:
        plan: what to measure.
        kernel: a folder of the cache.
        progress: is told what is heard.
        log: gets the console, whatever happens.

    Raises:
        MergelabError: the machine did not come to its end, or its kernel complained.
    """
    ear = Ear(progress)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        program = uml.build_programs(PROGRAM, Path(folder)) / "memmerge_bench"
        guest = ["--guest-memory", str(plan.guest_memory)] if plan.guest_memory else []
        command = [str(program), "--pairs", str(plan.pairs), "--serial", "/dev/ttyS0", *guest]
        script = Path(folder) / "bench"
        words = shlex.join([*command, *(item.argument for item in plan.items)])
        script.write_text(f"#!/bin/sh\nexec {words}\n", encoding="utf-8")
        script.chmod(0o755)
        progress.say(f"boots User-Mode Linux with {plan.memory // MIB} MiB")
        ended = uml.boot(
            kernel,
            [script],
            memory=f"{plan.memory // MIB}M",
            limit=SILENCE,
            memory_folder=memory_folder(),
            arguments=("slab_nomerge",),  # so that KSM's objects can be told from others
            serial=ear,
            console_log=log,
        )
    if not ear.done or not ended.finished:
        last = "\n".join(f"  | {line}" for line in ended.console.splitlines()[-12:])
        raise MergelabError(
            f"the machine ended before everything was measured; the end of its console:\n{last}",
            f"the whole console is {log}",
        )
    if ended.complaints:
        raise MergelabError(
            f"the kernel complained while it was measured: {ended.complaints[0]}",
            f"its figures are worth nothing then; the whole console is {log}",
        )
    return ear.lines


def memory_folder() -> Path | None:
    """Where the machine's memory is to be: a tmpfs, never written to a disk; None without one."""
    return SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) and os.path.ismount(SHARED_MEMORY) else None


def measure(plan: Plan, name: str, baseline: record.Record | None, progress: Progress, log: Path) -> Any:
    """Measure a plan in User-Mode Linux; returns the record.

    Args:
        plan: what to measure.
        name: of the benchmark.
        baseline: an earlier one to compare with.
        progress: shows what happens.
        log: gets the console.

    Raises:
        MergelabError: this machine cannot, or the measuring failed.
    """
    check_machine(plan, memory_folder())
    machine = fingerprint.machine()
    if baseline is not None:
        compare.require_same_machine(baseline["bench"], baseline["machine"], machine)
    kernel = uml.build_kernel(PROFILE, progress.say)
    before = os.getloadavg()[0]
    heard = boot(plan, kernel, progress, log)
    facts = {
        "machine": machine,
        "build": fingerprint.build(kernel, SOURCES),
        "load": {"before": round(before, 2), "after": round(os.getloadavg()[0], 2)},
    }
    return made(plan, name, baseline, facts, heard)


def made(
    plan: Plan, name: str, baseline: record.Record | None, facts: dict[str, Any], heard: list[Line]
) -> Any:
    """Make the record of what was heard.

    Args:
        plan: what was measured.
        name: of the benchmark.
        baseline: an earlier one to compare with.
        facts: the record's ``machine``, ``build`` and ``load``.
        heard: every measurement.
    """
    started = datetime.strptime(name, f"bench-{STAMP}").replace(tzinfo=UTC)
    results = summary.results(heard)
    whole = {
        "schema": record.SCHEMA,
        "bench": name,
        "started": f"{started:%Y-%m-%dT%H:%M:%SZ}",
        "ended": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        **({"commit": known} if (known := commit(PROGRAM)) else {}),
        **facts,
        "tools": fingerprint.tools(),
        "plan": {
            **({"room": "host", "host": plan.host} if plan.host else {"room": "uml"}),
            "pairs": plan.pairs,
            "memory": plan.memory,
            "items": [{"case": item.case, "pages": item.pages} for item in plan.items],
        },
        "measurements": [lines.to_json(line) for line in heard],
        "results": [record.result_to_json(result) for result in results],
        "goals": [record.goal_to_json(verdict) for verdict in goals.judge(results)],
        "not_measured": not_measured(plan, results),
    }
    if baseline is not None:
        whole["baseline"] = against(baseline, whole, results)
    return whole


def against(baseline: record.Record, made: record.Record, results: list[summary.Result]) -> dict[str, Any]:
    """Compare with an earlier benchmark."""
    old = record.results(baseline)
    findings = compare.compare(old, results)
    notes = []
    for key, what in (("program", "the measuring program"), ("compiler", "the compiler")):
        if baseline["build"].get(key) != made["build"].get(key):
            notes.append(f"{what} is another one than in {baseline['bench']}")
    here, there = ({(each.case, each.pages) for each in some} for some in (results, old))
    notes += [
        f"{case} at {pages * 4 // 1024} MiB is not in {baseline['bench']}" for case, pages in here - there
    ]
    return record.baseline_to_json(baseline["bench"], findings, sorted(notes))


def not_measured(plan: Plan, results: list[summary.Result]) -> list[dict[str, str]]:
    """What a reader may look for and will not find, with the reason."""
    found = [{"what": what, "why": why} for what, why in plan.left_out]
    for result in results:
        for engine in lines.ENGINES:
            figures = result.engines.get(engine, {})
            if result.case not in ("rewritten", "limit", "scanners") and "steady" not in figures:
                found.append(
                    {
                        "what": f"{engine}, {result.case} at {result.pages * 4 // 1024} MiB: steady state",
                        "why": "every pair was disturbed by other programs of the machine",
                    }
                )
    return found


def keep(runs: Path, made: record.Record, files: dict[str, str]) -> Path:
    """Write a benchmark's folder: all of it, or nothing.

    Args:
        runs: where the folder goes.
        made: the record.
        files: further files by name.

    Returns:
        The folder.
    """
    runs.mkdir(parents=True, exist_ok=True)
    folder = runs / str(made["bench"])
    with tempfile.TemporaryDirectory(dir=runs, prefix=".bench-") as temporary:
        whole = Path(temporary) / "whole"
        whole.mkdir()
        for name, text in {record.FILE: record.text(made), **files}.items():
            with (whole / name).open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        whole.rename(folder)
    return folder
