# SPDX-License-Identifier: GPL-2.0-only
"""Boot User-Mode Linux with the module and read what its console says."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SELFTESTS = ROOT / "kernel" / "selftests"
MARK = re.compile(r"^=== (begin|end) (\S+)(?: (\d+))?$")
# What the kernel says when it has found something wrong with itself.
COMPLAINTS = re.compile(
    r"BUG:|WARNING:|Oops|Kernel panic|KASAN|INFO: (?:task|possible|suspicious|trying)|"
    r"possible (?:circular|recursive)|"
    r"unreferenced object|Bad page|general protection|stack-protector|list_(?:add|del) corruption"
)


@dataclass(frozen=True)
class Step:
    """One marked part of the console: what it printed, and its exit status (None: it never ended)."""

    output: str
    status: int | None


@dataclass(frozen=True)
class Boot:
    """A machine that has ended: its whole console, and its steps by name."""

    console: str
    steps: dict[str, Step]

    @property
    def finished(self) -> bool:
        """Whether the init came to its end."""
        return "=== done" in self.console.splitlines()

    @property
    def complaints(self) -> list[str]:
        """Lines in which the kernel complains."""
        return [line for line in self.console.splitlines() if COMPLAINTS.search(line)]


def parse(console: str) -> Boot:
    """Cut a console into its steps.

    The kernel's messages come in between at any place; they stay in the output
    of the step during which they came.
    """
    steps: dict[str, Step] = {}
    name: str | None = None
    lines: list[str] = []
    for raw in console.splitlines():
        line = raw.rstrip("\r")
        found = MARK.match(line)
        if not found:
            lines.append(line)
        elif found[1] == "begin":
            name, lines = found[2], []
            steps[name] = Step("", None)
        else:
            steps[found[2]] = Step("\n".join(lines), int(found[3]))
            name = None
    if name is not None:
        steps[name] = Step("\n".join(lines), None)
    return Boot(console.replace("\r", ""), steps)


def build_kernel(profile: str) -> Path:
    """Build a profile, or find it in the cache; returns its folder."""
    run = subprocess.run(
        ["mergelab", "kernel", "build", "--profile", profile], stdout=subprocess.PIPE, text=True, check=False
    )
    assert run.returncode == 0, f"mergelab kernel build --profile {profile} failed; its messages are above"
    return Path(run.stdout.strip().splitlines()[-1])


def build_programs(to: Path) -> Path:
    """Compile the test programs."""
    run = subprocess.run(
        ["make", "-C", str(SELFTESTS), f"OUT={to}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout
    return to


def boot(kernel: Path, programs: list[Path], memory: str = "512M", limit: int = 900) -> Boot:
    """Boot a kernel, run the programs as its init does, and wait for its end.

    Args:
        kernel: A folder that :func:`build_kernel` returned.
        programs: Test programs to run, in order.
        memory: The machine's memory.
        limit: Seconds after which it is killed; what it printed by then is returned.
    """
    modules = next((kernel / "modules").rglob("memmerge.ko")).parents[2]
    with tempfile.TemporaryDirectory(prefix="modules-") as folder:
        for module in modules.rglob("*.ko"):
            (Path(folder) / module.name).symlink_to(module)
        command = [
            str(kernel / "linux"),
            f"mem={memory}",
            "root=none",
            "rootfstype=hostfs",
            "rw",
            "con=null",
            "con0=null,fd:1",
            f"init={SELFTESTS / 'um-init.sh'}",
            f"MODULES={folder}",
            f"PROGRAMS={':'.join(map(str, programs))}",
        ]
        try:
            run = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={"PATH": os.environ["PATH"], "TMPDIR": folder, "HOME": folder},
                timeout=limit,
                check=False,
            )
            output = run.stdout
        except subprocess.TimeoutExpired as end:
            output = (end.stdout or b"") + f"\nended after {limit} s\n".encode()
    return parse(output.decode(errors="replace"))
