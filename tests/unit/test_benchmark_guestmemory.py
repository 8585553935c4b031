# SPDX-License-Identifier: GPL-2.0-only
"""The memory of a guest is found in a core file, whatever else is in there."""

from __future__ import annotations

import io
import struct

import pytest

from mergelab.benchmark.guestmemory import append, segments
from mergelab.errors import MergelabError

LOAD, NOTE = 1, 4


def core(*parts: tuple[int, bytes]) -> io.BytesIO:
    """An ELF core file of segments of some kind and content."""
    table, body = b"", b""
    at = 64 + 56 * len(parts)
    for kind, content in parts:
        table += struct.pack("<IIQQQQQQ", kind, 0, at + len(body), 0, 0, len(content), len(content), 0)
        body += content
    head = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 4, 62, 1, 0, 64, 0, 0, 64, 56, len(parts), 0, 0, 0
    )
    return io.BytesIO(head + table + body)


def test_memory_is_what_the_load_segments_hold() -> None:
    """Notes are no memory, and the tail of a segment that is no whole page is none that could merge."""
    file = core((NOTE, b"n" * 5000), (LOAD, b"a" * 8192), (LOAD, b"b" * 4097), (LOAD, b"c" * 100))
    out = io.BytesIO()
    assert append(file, out) == 3 * 4096
    assert out.getvalue() == b"a" * 8192 + b"b" * 4096


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "no 64-bit ELF"),
        (b"\x7fELF\x01\x01" + b"\0" * 100, "no 64-bit ELF"),
        (core().getvalue(), "no memory"),
    ],
)
def test_no_dump(content: bytes, cause: str) -> None:
    """A file that is no dump is refused; its bytes would be measured as a guest's."""
    with pytest.raises(MergelabError, match=cause):
        segments(io.BytesIO(content))


def test_torn_dump() -> None:
    """A dump that ends early, on a full disk say, is not taken for a smaller guest."""
    file = io.BytesIO(core((LOAD, b"a" * 8192)).getvalue()[:-1])
    with pytest.raises(MergelabError, match="ends in the middle"):
        append(file, io.BytesIO())
