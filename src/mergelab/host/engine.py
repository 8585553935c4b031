# SPDX-License-Identifier: GPL-2.0-only
"""The merging engine's interface: `/dev/memmerge` by ioctl and `/sys/kernel/mm/memmerge/`.

The structs are those of kernel/memmerge/memmerge.h; a test compiles that header and compares every size and
offset with the ones here.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from contextlib import suppress
from pathlib import Path

from mergelab.host import HostError

DEVICE = Path("/dev/memmerge")
SYSFS = Path("/sys/kernel/mm/memmerge")

_MAGIC = 0xBE
ADD_REGION = _MAGIC << 8 | 0x00
REMOVE_REGION = _MAGIC << 8 | 0x01
SCAN = _MAGIC << 8 | 0x02
UNMERGE = _MAGIC << 8 | 0x03
STAT = _MAGIC << 8 | 0x04
LIMIT = _MAGIC << 8 | 0x05
REMOVE_UNMERGE = 1

REGION_FIELDS = ("size", "flags", "pidfd", "reserved", "start", "length", "id")
REGION_STRUCT = struct.Struct("=IIiIQQQ")
SCAN_FIELDS = ("size", "flags", "id", "start", "length", "scanned", "merged", "zeroed", "skipped")
SCAN_STRUCT = struct.Struct("=II7Q")
STAT_FIELDS = (
    "size", "flags", "id", "regions", "pages_registered", "pages_shared", "pages_sharing",
    "pages_unswappable", "pages_mapped_shared", "pages_mapped_zero", "pages_unshared", "pages_volatile",
    "passes", "scanned", "merged", "zeroed", "unshared",
    "skip_absent", "skip_file", "skip_hugetlb", "skip_special", "skip_locked", "skip_guarded",
    "skip_huge", "skip_foreign", "skip_busy", "skip_nomem",
    "unshare_demand", "metadata_bytes", "cpu_ns", "skip_swapped", "skip_crowded",
    "skip_guard", "unshare_limit",
)  # fmt: skip
STAT_STRUCT = struct.Struct(f"=II{len(STAT_FIELDS) - 2}Q")
LIMIT_FIELDS = ("size", "flags", "unshare_bytes", "reserved")
LIMIT_STRUCT = struct.Struct("=IIQ16s")
NO_LIMIT = 2**64 - 1

REASONS = {
    "pages_unshared": "no equal page found",
    "pages_volatile": "its content changes, or its sharing did not last",
    "skip_absent": "nothing there: never touched, or given back",
    "skip_swapped": "swapped out",
    "skip_file": "shared or file mapping",
    "skip_hugetlb": "hugetlb mapping",
    "skip_special": "device or other special mapping",
    "skip_locked": "locked by mlock()",
    "skip_guarded": "registered with userfaultfd",
    "skip_huge": "part of a transparent huge page",
    "skip_foreign": "merged by KSM, or in another domain",
    "skip_busy": "pinned, under I/O, or written meanwhile",
    "skip_nomem": "the host had no memory for the merge",
    "skip_crowded": "too many forks or moved mappings in its page table",
    "skip_guard": "the limit of what may have to be unshared is reached",
}
"""In words, for every field of struct memmerge_stat that counts pages which are not merged."""

_CAUSES = {
    errno.EINVAL: "the engine rejected the range or flags: addresses and lengths must be page multiples",
    errno.EOVERFLOW: "the range leaves the address space, or the domain would exceed 2^31 pages",
    errno.ENOMEM: "nothing is mapped in the range, or the host is out of memory",
    errno.EEXIST: "the range overlaps a region of this domain; remove that one first",
    errno.EBUSY: "the range overlaps a region of another domain; destroy that domain first",
    errno.ESRCH: "the process has exited",
    errno.EPERM: "no ptrace rights to the process; run the agent as root",
    errno.ENOENT: "no such region in the domain",
    errno.ENOTTY: "the loaded module does not know this request; load the module this tool was built with",
}


class RefusedError(HostError):
    """The engine answered a request with an errno, `code`."""

    def __init__(self, code: int, sentence: str) -> None:
        """Keeps both."""
        super().__init__(sentence)
        self.code = code


class Domain:
    """One open file of `/dev/memmerge`: pages merge only inside it. Close it to end it."""

    def __init__(self) -> None:
        """Opens the device.

        Raises:
            HostError: The device is missing or may not be opened.
        """
        try:
            self._fd = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            raise HostError(f"{DEVICE} does not exist: load the module (modprobe memmerge)") from None
        except OSError as error:
            raise HostError(f"cannot open {DEVICE}: {error.strerror}; run as root or in group kvm") from None

    def close(self) -> None:
        """Closes the domain; what is merged stays shared until it is written or unmapped."""
        os.close(self._fd)

    def add(self, pid: int, start: int, length: int) -> int:
        """Registers `length` bytes at `start` of process `pid`; returns the region's number."""
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            raise HostError(f"process {pid} does not exist") from None
        try:
            out = self._call(
                ADD_REGION,
                "add region",
                REGION_STRUCT,
                (REGION_STRUCT.size, 0, pidfd, 0, start, length, 0),
            )
        finally:
            os.close(pidfd)
        return out[REGION_FIELDS.index("id")]

    def remove(self, region: int, unmerge: bool = False) -> None:
        """Forgets a region; with `unmerge` its merged pages get copies of their own first."""
        flags = REMOVE_UNMERGE if unmerge else 0
        self._call(
            REMOVE_REGION, "remove region", REGION_STRUCT, (REGION_STRUCT.size, flags, -1, 0, 0, 0, region)
        )

    def scan(self) -> dict[str, int]:
        """Looks at every page of the domain once, now; returns pages scanned, merged, zeroed, skipped."""
        return self._pass(SCAN, "scan")

    def unmerge(self) -> dict[str, int]:
        """Gives every merged page its own copy; returns pages scanned and merged (here: given back)."""
        return self._pass(UNMERGE, "unmerge")

    def stat(self, region: int = 0) -> dict[str, int]:
        """Returns struct memmerge_stat of the whole domain or of a region, without its size, flags and id."""
        zeroes = [0] * (len(STAT_FIELDS) - 3)
        values = self._call(STAT, "stat", STAT_STRUCT, (STAT_STRUCT.size, 0, region, *zeroes))
        return dict(zip(STAT_FIELDS[3:], values[3:], strict=True))

    def limit(self, unshare_bytes: int) -> None:
        """Limits what it may take to unshare everything; NO_LIMIT is none."""
        self._call(LIMIT, "limit", LIMIT_STRUCT, (LIMIT_STRUCT.size, 0, unshare_bytes, b""))

    def _pass(self, request: int, name: str) -> dict[str, int]:
        values = self._call(request, name, SCAN_STRUCT, (SCAN_STRUCT.size, *[0] * (len(SCAN_FIELDS) - 1)))
        return dict(zip(SCAN_FIELDS[5:], values[5:], strict=True))

    def _call(
        self, request: int, name: str, layout: struct.Struct, values: tuple[int | bytes, ...]
    ) -> tuple[int, ...]:
        argument = bytearray(layout.pack(*values))
        try:
            fcntl.ioctl(self._fd, request, argument)
        except OSError as error:
            code = error.errno or 0
            cause = _CAUSES.get(code, error.strerror)
            raise RefusedError(code, f"memmerge {name}: {errno.errorcode.get(code, code)}: {cause}") from None
        return layout.unpack(argument)


def not_merged(stat: dict[str, int]) -> dict[str, int]:
    """Says in words why pages are not merged: reason to pages, the most frequent one first."""
    found = {words: stat[field] for field, words in REASONS.items() if stat[field]}
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def read_file(name: str) -> int:
    """Reads one counter or tunable of the engine."""
    path = SYSFS / _checked(name)
    try:
        return int(path.read_text(encoding="ascii"))
    except FileNotFoundError:
        raise HostError(_absent(path)) from None


def settle() -> None:
    """Makes the engine let go of shared pages that nothing maps any more: it counts them to be read."""
    with suppress(FileNotFoundError):
        (SYSFS / "pages_shared").read_bytes()


def read_all() -> dict[str, int]:
    """Reads every counter and tunable of the engine; empty when the module is not loaded."""
    values = {}
    if SYSFS.is_dir():
        for path in sorted(SYSFS.iterdir()):
            text = path.read_text(encoding="ascii").strip()
            if text.lstrip("-").isdigit():
                values[path.name] = int(text)
    return values


def write_file(name: str, value: int) -> None:
    """Sets a tunable and reads it back.

    Raises:
        HostError: The engine refused the value, or does not show it afterwards.
    """
    path = SYSFS / _checked(name)
    try:
        path.write_text(f"{value}\n", encoding="ascii")
    except FileNotFoundError:
        raise HostError(_absent(path)) from None
    except OSError as error:
        raise HostError(
            f"{path} refused {value}: {error.strerror}; kernel/Documentation/abi.md has its range"
        ) from None
    shown = read_file(name)
    if shown != value:
        raise HostError(f"{path} was set to {value} but shows {shown}: someone else is changing it")


def _checked(name: str) -> str:
    if not name.replace("_", "").isalnum():
        raise HostError(f"'{name}' is not the name of a file in {SYSFS}")
    return name


def _absent(path: Path) -> str:
    if SYSFS.is_dir():
        return f"{path} does not exist: this engine has " + " ".join(sorted(p.name for p in SYSFS.iterdir()))
    return f"{SYSFS} does not exist: load the module (modprobe memmerge)"
