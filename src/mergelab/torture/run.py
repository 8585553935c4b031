# SPDX-License-Identifier: GPL-2.0-only
"""Boot a machine for a configuration, and find out what is wrong with what it printed."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from mergelab import uml
from mergelab.torture.plan import Configuration

PROFILE = "um-kasan"
SWAP_BYTES = 256 << 20
SILENCE = 600.0
"""Seconds without a word on the console after which a machine hangs; a program says something every ten."""

SOME = 20
"""How many complaints of a kernel are findings; the rest are in the log."""

_PLAN = re.compile(r"^1\.\.(\d+)$", re.MULTILINE)
_RESULT = re.compile(r"^(ok|not ok) \d+ (.*)$", re.MULTILINE)
_PROGRESS = re.compile(r"^# progress (\d+) of (\d+)$")
_FIGURE = re.compile(r"(\w[\w-]*)=(\d+)")


@dataclass
class Outcome:
    """What became of one configuration.

    Attributes:
        name: of the configuration.
        findings: what is wrong, a line each; none is what everybody hopes for.
        figures: counters that the program printed at its end.
        output: of the program, the kernel's messages included.
    """

    name: str
    findings: list[str] = field(default_factory=list)
    figures: dict[str, int] = field(default_factory=dict)
    output: str = ""


def script(folder: Path, name: str, words: list[str]) -> Path:
    """Write a program for the machine's init that calls another one with arguments.

    Args:
        folder: where it goes, into a folder ``scripts`` of its own: it may have the other one's name.
        name: of the step.
        words: the command line.
    """
    path = folder / "scripts" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("#!/bin/sh\nexec " + " ".join(words) + "\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def judge(name: str, boot: uml.Boot) -> Outcome:
    """Find out what is wrong with one step of a boot, and with the boot as a whole."""
    step = boot.steps.get(name, uml.Step("", None))
    outcome = Outcome(name, output=step.output)
    planned = _PLAN.search(step.output)
    results = _RESULT.findall(step.output)
    outcome.findings += [text for verdict, text in results if verdict != "ok"]
    if step.status is None:
        outcome.findings.append("the program did not come to its end")
    elif step.status and not outcome.findings:
        outcome.findings.append(f"the program ended with status {step.status}")
    if not planned or len(results) != int(planned[1]):
        outcome.findings.append("the program did not run all of its plan")
    outcome.findings += general(boot)
    for line in step.output.splitlines():
        if line.startswith("# ") and not _PROGRESS.match(line):
            outcome.figures.update({key: int(value) for key, value in _FIGURE.findall(line)})
    return outcome


def general(boot: uml.Boot) -> list[str]:
    """What is wrong with a boot, whatever it ran."""
    findings = [f"the kernel complains: {line.strip()}" for line in boot.complaints[:SOME]]
    if not boot.finished:
        findings.append("the machine did not come to its end")
    for name in ("load", "leaks", "unload", "reload", "unload-again"):
        step = boot.steps.get(name)
        if boot.finished and (step is None or step.status != 0):
            findings.append(f"step {name} of the machine failed")
    return findings


def run(
    configuration: Configuration,
    kernel: Path,
    seed: int,
    ops: int,
    *,
    log: Path,
    heard: Callable[[int, int], None],
) -> Outcome:
    """Run one configuration in a machine of its own.

    Args:
        configuration: what to run.
        kernel: a folder of the cache.
        seed: of the program.
        ops: operations that were asked for.
        log: gets the console, whatever happens.
        heard: is told operations done and to do, now and then.
    """

    def line(text: str) -> None:
        found = _PROGRESS.match(text)
        if found:
            heard(int(found[1]), int(found[2]))

    with tempfile.TemporaryDirectory(prefix="torture-") as folder:
        programs = uml.build_programs(uml.KERNEL / "selftests", Path(folder))
        words = configuration.words(str(programs / configuration.program), seed, ops)
        boot = uml.boot(
            kernel,
            [script(Path(folder), configuration.name, words)],
            memory=configuration.memory,
            swap_bytes=SWAP_BYTES,
            limit=SILENCE,
            console_log=log,
            hear=line,
        )
    return judge(configuration.name, boot)
