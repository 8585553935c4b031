# SPDX-License-Identifier: GPL-2.0-only
"""Guests and plain payload processes of this host: their process, their RAM in it, their state directory.

A guest is a QEMU process whose command line says `-name guest=NAME`; libvirt or not does not matter. Guests
are smaller than 3 GiB, so their RAM is one block that begins at guest-physical 0. A plain process is noted in
its state directory; its "RAM" is the payload's area, so callers treat both alike.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from mergelab.host import STATE_DIR, HostError
from mergelab.host.memory import mappings

LOW_RAM_LIMIT = 3 << 30
_UNITS = {"b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


@dataclass(frozen=True)
class Ram:
    """Where guest-physical memory lies: guest-physical 0 is at host-virtual `base` of process `pid`."""

    pid: int
    base: int
    size: int

    def range(self, from_gpa: int, length: int | None) -> tuple[int, int]:
        """Turns a guest-physical range into (host-virtual start, bytes); no length means all that follows."""
        length = self.size - from_gpa if length is None else length
        if from_gpa < 0 or length <= 0 or from_gpa + length > self.size:
            raise HostError(
                f"guest-physical {from_gpa:#x} + {length:#x} is outside the {self.size:#x} bytes of RAM"
            )
        return self.base + from_gpa, length


def directory(name: str) -> Path:
    """Returns the state directory of a guest or plain process."""
    if not name or "/" in name or name.startswith("."):
        raise HostError(f"'{name}' is not a guest name")
    return STATE_DIR / "guests" / name


def note(name: str) -> Path:
    """Returns the file that says which process a plain process is; a guest has none.

    It holds `{"pid": …, "start": address, "size": bytes}`.
    """
    return directory(name) / "plain.json"


def running() -> dict[str, int]:
    """Returns the process of every running guest and plain process by name.

    Raises:
        HostError: Two QEMU processes carry the same name.
    """
    found: dict[str, int] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            name = _guest_name(_command_line(int(entry.name)))
            if name is not None:
                if name in found:
                    raise HostError(
                        f"guest {name} has two QEMU processes, {found[name]} and {entry.name}: stop one"
                    )
                found[name] = int(entry.name)
    for file in sorted((STATE_DIR / "guests").glob("*/plain.json")):
        area = plain(file.parent.name)
        if area is not None:
            found[file.parent.name] = area.pid
    return found


def find(name: str) -> int:
    """Returns the process id of a running guest or plain process."""
    area = plain(name)
    if area is not None:
        return area.pid
    guests = running()
    if name not in guests:
        raise HostError(f"no running guest '{name}'; running are: " + (" ".join(sorted(guests)) or "none"))
    return guests[name]


def plain(name: str) -> Ram | None:
    """Returns the area of a plain process while the process lives; the note alone is not believed."""
    try:
        noted = json.loads(note(name).read_text(encoding="ascii"))
    except FileNotFoundError:
        return None
    if str(directory(name) / "payload.sock") not in _command_line(noted["pid"]):
        return None
    return Ram(noted["pid"], noted["start"], noted["size"])


def ram(name: str) -> Ram:
    """Finds the RAM of a guest in its QEMU process; of a plain process, the area of its payload.

    Raises:
        HostError: Not running, 3 GiB or more, or no single mapping that can be its RAM.
    """
    area = plain(name)
    if area is not None:
        return area
    pid = find(name)
    size = ram_size(_command_line(pid))
    if size >= LOW_RAM_LIMIT:
        raise HostError(
            f"guest {name} has {size} bytes of RAM; 3 GiB and more lie in two blocks, make it smaller"
        )
    blocks = [m for m in mappings(pid) if m.private_anonymous and m.size >= size]
    exact = [m for m in blocks if m.size == size]
    base = exact[0].start if len(exact) == 1 else _by_monitor(name)
    if any(block.start <= base and base + size <= block.end for block in blocks):
        return Ram(pid, base, size)
    raise HostError(
        f"process {pid} of guest {name} has no private anonymous mapping of its {size} bytes of RAM"
    )


def ram_size(command: list[str]) -> int:
    """Reads the RAM size in bytes from a QEMU command line (`-m 256`, `-m size=262144k,slots=…`, `-m 1G`)."""
    for option, value in pairwise(command):
        if option == "-m":
            fields = dict(part.split("=", 1) for part in value.split(",") if "=" in part)
            text = fields.get("size", value.split(",")[0]).lower()
            digits, unit = (text[:-1], text[-1]) if text[-1] in _UNITS else (text, "m")
            if digits.isdigit():
                return int(digits) * _UNITS[unit]
    raise HostError("QEMU's command line has no -m option with the size of its RAM")


def _command_line(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return []


def _guest_name(command: list[str]) -> str | None:
    if not command or "qemu" not in Path(command[0]).name:
        return None
    for option, value in pairwise(command):
        if option == "-name":
            fields = dict(part.split("=", 1) for part in value.split(",") if "=" in part)
            return fields.get("guest", value.split(",")[0])
    return None


def _by_monitor(name: str) -> int:
    """Asks QEMU through libvirt where guest-physical 0 lies; slower, for when sizes are ambiguous."""
    import re  # noqa: PLC0415 - slow to import on an emulated host
    import subprocess  # noqa: PLC0415 - slow to import on an emulated host

    command = ["virsh", "--quiet", "qemu-monitor-command", "--hmp", name, "gpa2hva 0"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        raise HostError(f"cannot ask QEMU of guest {name} for the place of its RAM: {error}") from None
    match = re.search(r"is (0x[0-9a-f]+)", answer.stdout)
    if match is None:
        detail = (answer.stderr or answer.stdout).strip()
        raise HostError(f"QEMU of guest {name} does not say where its RAM is: {detail}")
    return int(match[1], 16)
