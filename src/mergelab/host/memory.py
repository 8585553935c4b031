# SPDX-License-Identifier: GPL-2.0-only
"""The host's own view of memory: meminfo, pressure, vmstat, mappings of a process. Bytes throughout."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from mergelab.host import HostError


def meminfo(path: str = "/proc/meminfo") -> dict[str, int]:
    """Returns /proc/meminfo in bytes; the few lines that are counts keep their count."""
    values = {}
    for line in Path(path).read_text(encoding="ascii").splitlines():
        key, _, rest = line.partition(":")
        fields = rest.split()
        values[key] = int(fields[0]) * (1024 if fields[1:] == ["kB"] else 1)
    return values


def percpu_free(path: str = "/proc/zoneinfo") -> int:
    """Returns the bytes of free pages that wait on per-CPU lists, which meminfo counts nowhere."""
    counts = (line.split() for line in Path(path).read_text(encoding="ascii").splitlines())
    return sum(int(words[1]) for words in counts if words[:1] == ["count:"]) * os.sysconf("SC_PAGE_SIZE")


def settle() -> None:
    """Makes the kernel fold its per-CPU counters into meminfo and vmstat; only root can."""
    with suppress(OSError):
        Path("/proc/sys/vm/stat_refresh").read_bytes()


def vmstat(names: tuple[str, ...], path: str = "/proc/vmstat") -> dict[str, int]:
    """Returns the named counters of /proc/vmstat; one that this kernel does not have is absent."""
    found = {}
    for line in Path(path).read_text(encoding="ascii").splitlines():
        key, _, value = line.partition(" ")
        if key in names:
            found[key] = int(value)
    return found


def pressure(directory: str = "/proc/pressure") -> dict[str, float]:
    """Returns the ten-second averages of pressure-stall information; empty when the kernel has none."""
    values = {}
    for resource in ("memory", "cpu", "io"):
        try:
            lines = Path(directory, resource).read_text(encoding="ascii").splitlines()
        except OSError:  # PSI compiled in but off (psi=0) fails on read, not on lookup
            continue
        for line in lines:
            kind, *pairs = line.split()
            averages = dict(pair.split("=") for pair in pairs)
            values[f"{resource}_{kind}_avg10"] = float(averages["avg10"])
    return values


def rollup(pid: int, proc: str = "/proc") -> dict[str, int]:
    """Returns /proc/PID/smaps_rollup in bytes, keys in lower case (`rss`, `pss`, `pss_anon`, …)."""
    return _smaps_fields(_lines(pid, "smaps_rollup", proc)[1:])


def flagged(pid: int, flag: str, proc: str = "/proc") -> int:
    """Returns the bytes of the mappings whose VmFlags in /proc/PID/smaps have a flag (`mg`: mergeable)."""
    total = size = 0
    for line in _lines(pid, "smaps", proc):
        fields = line.split()
        if fields[0] == "Size:":
            size = int(fields[1]) * 1024
        elif fields[0] == "VmFlags:" and flag in fields[1:]:
            total += size
    return total


def merging(pid: int, proc: str = "/proc") -> dict[str, str]:
    """Returns /proc/PID/ksm_stat as it is written; empty where the kernel has none."""
    try:
        lines = _lines(pid, "ksm_stat", proc)
    except HostError:
        if Path(proc, str(pid)).is_dir() and not Path(proc, str(pid), "ksm_stat").exists():
            return {}
        raise
    return dict(line.replace(":", "").rsplit(None, 1) for line in lines)


@dataclass(frozen=True)
class Mapping:
    """One mapping of a process, a line of /proc/PID/maps."""

    start: int
    end: int
    perms: str
    inode: int
    name: str

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self.end - self.start

    @property
    def private_anonymous(self) -> bool:
        """Whether it is writable memory of the process alone, without a file behind it."""
        return self.perms.startswith("rw") and self.perms[3] == "p" and self.inode == 0


def mappings(pid: int) -> list[Mapping]:
    """Returns the mappings of a process in the order of their addresses."""
    return [_mapping(line) for line in _lines(pid, "maps")]


def sizes(pid: int, address: int) -> tuple[dict[str, int], list[str]]:
    """Returns what /proc/PID/smaps says of the mapping that holds an address: sizes in bytes, VmFlags."""
    owner = next((m for m in mappings(pid) if m.start <= address < m.end), None)
    lines = iter(_lines(pid, "smaps"))
    for line in lines:
        if owner is not None and line.startswith(f"{owner.start:x}-"):
            body = list(takewhile(lambda text: text.split(None, 1)[0].endswith(":"), lines))
            flags = next((text.split()[1:] for text in body if text.startswith("VmFlags:")), [])
            return _smaps_fields(body), flags
    raise HostError(f"process {pid} has no mapping at {address:#x}")


def _mapping(line: str) -> Mapping:
    fields = line.split(None, 5)
    start, end = (int(part, 16) for part in fields[0].split("-"))
    return Mapping(start, end, fields[1], int(fields[4]), fields[5].strip() if len(fields) > 5 else "")


def _lines(pid: int, name: str, proc: str = "/proc") -> list[str]:
    try:
        return Path(proc, str(pid), name).read_text(encoding="ascii", errors="replace").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        raise HostError(f"process {pid} does not exist") from None
    except PermissionError:
        raise HostError(f"/proc/{pid}/{name} may not be read: run as root") from None


def _smaps_fields(lines: list[str]) -> dict[str, int]:
    values = {}
    for line in lines:
        key, _, rest = line.partition(":")
        fields = rest.split()
        if fields[1:] == ["kB"]:
            values[key.lower()] = int(fields[0]) * 1024
    return values
