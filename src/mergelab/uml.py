# SPDX-License-Identifier: GPL-2.0-only
"""User-Mode Linux: the patched kernel as a process of this machine, with the engine's module in it.

Tests and the benchmark build and boot it here. Its root is this machine's file system; `um-init.sh` is its
init, runs the programs it is given and marks on the console where each begins and ends.
"""

from __future__ import annotations

import os
import re
import selectors
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from mergelab.errors import MergelabError
from mergelab.kernel import build, source

KERNEL = Path(__file__).parents[2] / "kernel"
INIT = KERNEL / "selftests" / "um-init.sh"
MARK = re.compile(r"^=== (begin|end) (\S+)(?: (\d+))?$")
COMPLAINTS = re.compile(
    r"BUG:|WARNING:|Oops|Kernel panic|KASAN|INFO: (?:task|possible|suspicious|trying)|"
    r"possible (?:circular|recursive)|"
    r"unreferenced object|Bad page|general protection|stack-protector|list_(?:add|del) corruption"
)
"""What the kernel says when it has found something wrong with itself."""

Serial = Callable[[str, int], str | None]
"""Takes a line that the machine wrote to /dev/ttyS0 and the process that is its kernel; gives the answer."""


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

    The kernel's messages come in between at any place; they stay in the output of the step during which they
    came.
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


def build_kernel(
    profile: str,
    say: build.Say = build.say_on_stderr,
    kernel: Path = KERNEL,
    origin: Path = source.DEBIAN,
) -> Path:
    """Build a profile for User-Mode Linux, or find it in the cache; returns its folder.

    Args:
        profile: its name.
        say: is told what goes on.
        kernel: the folder with patches, module and profiles.
        origin: the kernel's source.

    Raises:
        MergelabError: it cannot be built.
    """
    options = build.Options(
        kernel=kernel,
        profile=profile,
        source=origin,
        cache=build.default_cache(),
        jobs=build.default_jobs(),
    )
    return build.build(options, say)


def build_programs(folder: Path, to: Path, *variables: str) -> Path:
    """Compile the programs of a folder under kernel/ with its Makefile; returns where they are.

    Args:
        folder: with the Makefile.
        to: where the programs go.
        variables: of the Makefile, like ``LDFLAGS=-static``.

    Raises:
        MergelabError: the compiler refuses.
    """
    done = subprocess.run(
        ["make", "-C", str(folder), f"OUT={to}", *variables],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise MergelabError(
            f"the programs of {folder} cannot be compiled:\n{done.stdout.rstrip()}",
            "make setup installs compiler and headers; an error in a source has to be corrected",
        )
    return to


def _swap(disk: Path, size: int) -> list[str]:
    """Makes a swap device of a size, if any; returns the kernel's argument for it."""
    if not size:
        return []
    with disk.open("wb") as file:
        file.truncate(size)
    return [f"ubd0={disk}"]


def boot(
    kernel: Path,
    programs: Sequence[Path],
    *,
    memory: str = "512M",
    swap_bytes: int = 0,
    limit: float = 900,
    memory_folder: Path | None = None,
    arguments: Sequence[str] = (),
    serial: Serial | None = None,
    console_log: Path | None = None,
    hear: Callable[[str], None] | None = None,
) -> Boot:
    """Boot a kernel, run programs as its init does, and wait for its end.

    Args:
        kernel: a folder that :func:`build_kernel` returned.
        programs: run one after the other.
        memory: the machine's memory.
        swap_bytes: size of its swap device; 0 for none.
        limit: seconds after which it is killed (with a serial line: seconds without a word on it; with
            somebody who hears: without a line on the console); what it printed by then is returned.
        memory_folder: where the file is that is its memory; default a folder for temporary files.
        arguments: further ones of the kernel's command line.
        serial: is at the other end of the machine's /dev/ttyS0.
        console_log: gets the console while the machine runs, and keeps it when waiting ends early.
        hear: is told each line of the console as it comes.
    """
    module = next((kernel / "modules").rglob("memmerge.ko"), None)
    if module is None:
        raise MergelabError(f"{kernel} has no memmerge.ko", "build it with a profile whose arch is um")
    with tempfile.TemporaryDirectory(prefix="modules-") as folder:
        for each in module.parents[2].rglob("*.ko"):
            (Path(folder) / each.name).symlink_to(each.absolute())
        ours, theirs = socket.socketpair()
        with ours, theirs:
            command = [
                str(kernel / "linux"),
                f"mem={memory}",
                *_swap(Path(folder) / "swap", swap_bytes),
                "root=none",
                "rootfstype=hostfs",
                "rw",
                "con=null",
                "con0=null,fd:1",
                f"ssl0=fd:{theirs.fileno()}",
                f"init={INIT}",
                f"MODULES={folder}",
                f"PROGRAMS={':'.join(map(str, programs))}",
                *arguments,
            ]
            environment = {
                "PATH": os.environ["PATH"],
                "TMPDIR": str(memory_folder or folder),
                "HOME": folder,
            }
            with (
                _started(command, environment, theirs) as process,
                (console_log or Path(os.devnull)).open("wb", buffering=0) as log,
            ):
                return parse(_listen(process, ours, serial, limit, log, hear=hear))


@contextmanager
def _started(
    command: list[str], environment: dict[str, str], line: socket.socket
) -> Iterator[subprocess.Popen[bytes]]:
    """A machine in a session of its own: Ctrl-C is for us, and nothing of it stays when we end."""
    with subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", "--", *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        pass_fds=(line.fileno(),),
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def _listen(
    process: subprocess.Popen[bytes],
    line: socket.socket,
    serial: Serial | None,
    limit: float,
    log: BinaryIO,
    *,
    hear: Callable[[str], None] | None,
) -> str:
    """Read the console to its end, and answer on the serial line meanwhile."""
    if process.stdout is None:
        raise AssertionError("stdout is a pipe")
    console, heard, unsaid = bytearray(), bytearray(), bytearray()
    deadline = time.monotonic() + limit
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        selector.register(line, selectors.EVENT_READ)
        while (rest := deadline - time.monotonic()) > 0:
            ready = {key.fileobj for key, _ in selector.select(rest)}
            if line in ready:
                heard += line.recv(65536)
                deadline = time.monotonic() + limit
                *lines, heard = heard.split(b"\n")
                for text in lines:
                    answer = serial(text.decode(errors="replace"), process.pid) if serial else None
                    if answer is not None:
                        line.sendall(answer.encode() + b"\n")
            if process.stdout in ready:
                data = os.read(process.stdout.fileno(), 65536)
                if not data:
                    break
                console += data
                log.write(data)
                if hear is not None:
                    deadline = time.monotonic() + limit
                    *lines, unsaid = (unsaid + data).split(b"\n")
                    for text in lines:
                        hear(text.decode(errors="replace").rstrip("\r"))
        else:
            console += f"\nended after {limit:g} s\n".encode()
    return console.decode(errors="replace")
