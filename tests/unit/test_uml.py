# SPDX-License-Identifier: GPL-2.0-only
"""A machine is heard to its end, answered on its serial line, and never outlives the one who started it."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path

import pytest

from mergelab import uml
from mergelab.errors import MergelabError
from tests.waiting import until

PRELUDE = """#!/bin/bash
for word; do
	case $word in ssl0=fd:*) serial=${word#*:} ;; PROGRAMS=*) programs=${word#*=} ;; esac
done
echo "Linux version: none, with $# arguments"
"""


def kernel(folder: Path, script: str) -> Path:
    """A kernel's folder whose kernel is a shell script."""
    (folder / "modules/lib/modules/6/kernel/mm").mkdir(parents=True)
    (folder / "modules/lib/modules/6/kernel/mm/memmerge.ko").touch()
    (folder / "linux").write_text(PRELUDE + script)
    (folder / "linux").chmod(0o755)
    return folder


def alive(process: int) -> bool:
    """Whether a process exists and is no corpse that waits for its parent."""
    try:
        return Path(f"/proc/{process}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_steps_are_cut_out_of_the_console(tmp_path: Path) -> None:
    """What a program printed and how it ended, the kernel's words in between included."""
    script = 'echo "=== begin one"; echo "a"; echo "[ 1.0] kernel"; echo "=== end one 3"; echo "=== done"\n'
    ended = uml.boot(kernel(tmp_path, script), [])
    assert ended.finished
    assert ended.steps == {"one": uml.Step("a\n[ 1.0] kernel", 3)}
    assert ended.complaints == []


def test_machine_that_dies_half_way(tmp_path: Path) -> None:
    """A step that never ended has no status, and the machine has not finished."""
    ended = uml.boot(kernel(tmp_path, 'echo "=== begin one"; echo "BUG: it broke"\n'), [])
    assert not ended.finished
    assert ended.steps["one"].status is None
    assert ended.complaints == ["BUG: it broke"]


def test_serial_line_is_answered(tmp_path: Path) -> None:
    """Lines are heard whole, the kernel's process is named, and answers arrive as lines."""
    script = (
        'printf "hal" >&$serial; sleep 0.1; printf "f\\nask\\n" >&$serial\n'
        'read -r answer <&$serial; echo "got $answer"; echo "=== done"\n'
    )
    heard = []

    def serial(line: str, process: int) -> str | None:
        heard.append((line, alive(process)))
        return "42" if line == "ask" else None

    ended = uml.boot(kernel(tmp_path, script), [], serial=serial)
    assert heard == [("half", True), ("ask", True)]
    assert "got 42" in ended.console


def test_silent_machine_is_ended(tmp_path: Path) -> None:
    """What hangs is killed at its limit, its children too, and what it said is kept."""
    (tmp_path / "child").touch()
    script = f'sleep 300 & echo $! >{tmp_path}/child; echo "=== begin one"; wait\n'
    ended = uml.boot(kernel(tmp_path, script), [], limit=5, console_log=tmp_path / "log")
    assert "ended after 5 s" in ended.console
    assert ended.steps["one"].status is None
    assert "=== begin one" in (tmp_path / "log").read_text()
    child = int((tmp_path / "child").read_text())
    assert until(lambda: not alive(child))


def test_error_of_the_listener_ends_the_machine(tmp_path: Path) -> None:
    """An exception on our side, Ctrl-C among them, leaves no machine behind."""
    machines = []

    def serial(line: str, process: int) -> str | None:
        machines.append(process)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        uml.boot(kernel(tmp_path, 'echo "hello" >&$serial; sleep 300\n'), [], serial=serial)
    assert machines
    assert not alive(machines[0])


def test_machine_dies_with_the_one_who_started_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even kill -9 of the benchmark leaves no machine that takes the memory and the processor."""
    folder = kernel(
        tmp_path,
        f"echo $$ >{tmp_path}/machine.new; mv {tmp_path}/machine.new {tmp_path}/machine; sleep 300\n",
    )
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # what the killed one leaves is removed with it
    child = os.fork()
    if child == 0:
        uml.boot(folder, [])
        os._exit(0)
    assert until((tmp_path / "machine").exists)
    machine = int((tmp_path / "machine").read_text())
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert until(lambda: not alive(machine))


def test_folder_without_the_module(tmp_path: Path) -> None:
    """A kernel of another profile is refused with the profile to take."""
    with pytest.raises(MergelabError, match=r"no memmerge\.ko"):
        uml.boot(tmp_path, [])


def test_program_that_does_not_compile(tmp_path: Path) -> None:
    """The compiler's words are in the error."""
    (tmp_path / "Makefile").write_text("all:\n\t@echo wrong; false\n")
    with pytest.raises(MergelabError, match="wrong"):
        uml.build_programs(tmp_path, tmp_path)
