# SPDX-License-Identifier: GPL-2.0-only
"""Memory of real guests, for the case that is filled with it: dumped by libvirt, kept in the cache.

A dump is an ELF core file; its segments are the guest's memory. What is kept are the plain pages, of several
guests one after the other. A guest stands still while it is dumped, some seconds for a gigabyte.
"""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from mergelab.errors import MergelabError
from mergelab.kernel.build import default_cache, require_disk

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_LOAD = 1
_CHUNK = 1 << 22
_PAGE = 4096

HOW = "mergelab benchmark guest-memory NAME takes it from a running libvirt guest, such as a host of make lab"


def default_file() -> Path:
    """Where the memory is kept: ``guest-memory.raw`` in the cache."""
    return default_cache() / "guest-memory.raw"


def segments(core: BinaryIO) -> list[tuple[int, int]]:
    """Where in a core file memory is: offset and length of each segment, whole pages only.

    Raises:
        MergelabError: it is no little-endian 64-bit ELF core file.
    """
    head = core.read(_HEADER.size)
    if len(head) < _HEADER.size or head[:6] != b"\x7fELF\x02\x01":
        raise MergelabError("the dump is no 64-bit ELF file", "dump a guest of an x86-64 machine")
    fields = _HEADER.unpack(head)
    at, size, count = fields[5], fields[9], fields[10]
    found = []
    for number in range(count):
        core.seek(at + number * size)
        kind, _, offset, _, _, length, _, _ = _SEGMENT.unpack(core.read(_SEGMENT.size))
        if kind == _LOAD and length >= _PAGE:
            found.append((offset, length // _PAGE * _PAGE))
    if not found:
        raise MergelabError("the dump holds no memory", "dump a guest that is running")
    return found


def append(core: BinaryIO, to: BinaryIO) -> int:
    """Copy the memory of a core file; returns how many bytes it has."""
    total = 0
    for offset, length in segments(core):
        core.seek(offset)
        left = length
        while left:
            data = core.read(min(left, _CHUNK))
            if not data:
                raise MergelabError("the dump ends in the middle of a segment", "dump the guest again")
            to.write(data)
            left -= len(data)
        total += length
    return total


def capture(uri: str, names: Sequence[str], to: Path) -> int:
    """Dump running guests into one file, which is replaced when all of them are in it.

    Args:
        uri: of libvirt.
        names: of the guests.
        to: the file; readable by its owner only, as it is somebody's memory.

    Returns:
        How many bytes it has.

    Raises:
        MergelabError: a guest cannot be dumped; says which.
    """
    import libvirt  # noqa: PLC0415 - only this command needs it, and it needs a library of the system

    libvirt.registerErrorHandler(lambda _context, _error: None, None)  # raised as well; once is enough
    require_disk(to.parent, 2)
    total = 0
    with tempfile.TemporaryDirectory(dir=to.parent, prefix=".guest-memory.") as folder:
        whole = Path(folder) / "raw"
        try:
            connection = libvirt.open(uri)
            with whole.open("wb") as out:
                for name in names:
                    dump = Path(folder) / "dump"
                    connection.lookupByName(name).coreDumpWithFormat(
                        str(dump), libvirt.VIR_DOMAIN_CORE_DUMP_FORMAT_RAW, libvirt.VIR_DUMP_MEMORY_ONLY
                    )
                    with dump.open("rb") as core:
                        total += append(core, out)
                    dump.unlink()
        except libvirt.libvirtError as error:
            raise MergelabError(
                f"libvirt cannot dump {', '.join(names)} of {uri}: {error}",
                "virsh list names the guests that run; make lab starts one, mergelab-vhost1",
            ) from None
        whole.chmod(0o600)
        with whole.open("rb") as written:
            os.fsync(written.fileno())
        whole.replace(to)
    return total
