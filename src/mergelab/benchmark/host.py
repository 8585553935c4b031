# SPDX-License-Identifier: GPL-2.0-only
"""Measuring on a host of an inventory, with the kernel deployed there: several processors, real faults."""

from __future__ import annotations

import contextlib
import json
import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fabric  # type: ignore[import-untyped]  # fabric ships no types
import paramiko

from mergelab import telemetry, uml
from mergelab.benchmark import compare, fingerprint, record, run
from mergelab.benchmark.lines import Line
from mergelab.benchmark.plan import MIB, Plan
from mergelab.benchmark.progress import Progress
from mergelab.errors import MergelabError
from mergelab.kernel import build

SCRIPT = Path(__file__).with_name("on-host.sh")
RESERVE = 256 * MIB
"""Memory that stays for everything else on the host."""


def processors(facts: dict[str, Any]) -> int:
    """How many processors a host has, by its fingerprint."""
    return int(facts.get("cpu", {}).get("threads", 1))


def runs_guests(facts: dict[str, Any]) -> bool:
    """Whether a host can run guests, by its fingerprint; no emulated one with two processors: ADR 0007."""
    if facts.get("emulated", False) and processors(facts) > 1:
        return False
    return not {"kvm_amd", "kvm_intel"}.isdisjoint(facts.get("modules", {}))


def kernel(facts: dict[str, Any], cache: Path) -> dict[str, Any]:
    """What the record says of the kernel under test: its manifest, as this machine has built and deployed it.

    Args:
        facts: fingerprint of the host.
        cache: the cache's top folder.

    Raises:
        MergelabError: the host runs a kernel that was not built here.
    """
    release = facts.get("kernel", {}).get("release", "")
    for manifest in sorted((cache / "kernels").glob("*/manifest.json")):
        if json.loads(manifest.read_text(encoding="utf-8")).get("kernel_release") == release:
            return fingerprint.build(manifest.parent, run.SOURCES)
    raise MergelabError(
        f"{facts.get('hostname', 'the host')} runs {release or 'a kernel'}, which was not built here",
        "make deploy builds one and boots it there",
    )


def require_memory(plan: Plan, facts: dict[str, Any]) -> None:
    """Refuse what would make the host swap.

    Raises:
        MergelabError: it has less memory than the largest case and the engines need.
    """
    total = int(facts.get("memory", {}).get("total", 0))
    needed = plan.memory + RESERVE
    if total < needed:
        raise MergelabError(
            f"the benchmark needs {needed // MIB} MiB of memory and {plan.host} has {total // MIB}",
            "give a smaller --size, or leave out cases of a fixed size with --case",
        )


@contextlib.contextmanager
def installed(connection: fabric.Connection) -> Iterator[str]:
    """Have the measuring program on a host; gives the folder, which is gone afterwards."""
    folder = connection.run("mktemp --directory", hide=True, in_stream=False).stdout.strip()
    try:
        with tempfile.TemporaryDirectory(prefix="bench-") as here:
            # The host may have another C library.
            program = uml.build_programs(run.PROGRAM, Path(here), "LDFLAGS=-static") / "memmerge_bench"
            for file in (program, SCRIPT):
                connection.put(str(file), f"{folder}/{file.name}")
        connection.run(f"chmod +x {folder}/*", hide=True, in_stream=False)
        yield folder
    finally:
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            connection.run(f"rm -r {folder}", hide=True, warn=True, in_stream=False)


def _listen(channel: paramiko.Channel, ear: run.Ear, log: Path) -> None:
    """Hear every line up to the end of the program; the log gets them, too."""
    rest = b""
    with log.open("ab") as file:
        while data := channel.recv(65536):
            file.write(data)
            *whole, rest = (rest + data).split(b"\n")
            for line in whole:
                ear(line.decode(errors="replace"), 0)


def _load(connection: fabric.Connection) -> float:
    words: str = connection.run("cat /proc/loadavg", hide=True, in_stream=False).stdout
    return float(words.split(maxsplit=1)[0])


def hear(
    plan: Plan, target: telemetry.Target, progress: Progress, log: Path
) -> tuple[list[Line], dict[str, float]]:
    """Run the measuring program on a host and hear everything that the plan measures.

    Returns:
        The measurements; the host's load before and after.

    Raises:
        MergelabError: the host is not ready for it, the connection broke, or the program gave up.
    """
    ear = run.Ear(progress)
    with telemetry.connect(target) as connection, installed(connection) as folder:
        words = shlex.join(["--pairs", str(plan.pairs), *(item.argument for item in plan.items)])
        progress.say(f"measures on {target.name}")
        load = {"before": _load(connection)}
        channel = connection.transport.open_session()
        channel.settimeout(run.SILENCE)
        channel.exec_command(telemetry.as_root(target, f"{folder}/{SCRIPT.name} {words}"))
        try:
            _listen(channel, ear, log)
        except TimeoutError:
            raise MergelabError(
                f"{target.name} has said nothing for {run.SILENCE} s", f"what it said before is in {log}"
            ) from None
        finally:
            channel.shutdown_write()  # the program ends when its standard input does
        said = channel.makefile_stderr().read().decode(errors="replace").strip()
        status = channel.recv_exit_status()
        load["after"] = _load(connection)
    if not ear.done or status:
        raise MergelabError(
            f"{target.name}: {said or f'the measuring program ended with status {status}'}",
            "the host must run the deployed kernel, and no guest or program may be merging there",
        )
    return ear.lines, load


def measure(
    plan: Plan,
    name: str,
    baseline: record.Record | None,
    progress: Progress,
    log: Path,
    *,
    target: telemetry.Target,
    facts: dict[str, Any],
) -> Any:
    """Measure a plan on a host; returns the record.

    Args:
        plan: what to measure.
        name: of the benchmark.
        baseline: an earlier one to compare with.
        progress: shows what happens.
        log: gets what the program says.
        target: the host.
        facts: its fingerprint.

    Raises:
        MergelabError: the host cannot, or the measuring failed.
    """
    require_memory(plan, facts)
    machine = fingerprint.trimmed(facts)
    if baseline is not None:
        compare.require_same_machine(baseline["bench"], baseline["machine"], machine)
    tested = kernel(facts, build.default_cache())
    before = telemetry.ask(target, "klog")
    heard, load = hear(plan, target, progress, log)
    after = telemetry.ask(target, f"klog --after {before['last']}")
    if after["errors"]:
        raise MergelabError(
            f"the kernel of {target.name} complained while it was measured: {after['errors'][0]['text']}",
            "its figures are worth nothing then; dmesg there shows all of it",
        )
    return run.made(plan, name, baseline, {"machine": machine, "build": tested, "load": load}, heard)
