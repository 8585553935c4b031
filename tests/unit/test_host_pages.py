# SPDX-License-Identifier: GPL-2.0-only
"""Decoding of page identity, on this process's own pages."""

import ctypes
import mmap
import os
from array import array

import pytest

from mergelab.host import HostError, pages

root = pytest.mark.skipif(os.geteuid() != 0, reason="the kernel shows page frame numbers to root only")


@pytest.fixture
def area() -> tuple[mmap.mmap, int]:
    """Sixteen pages of private memory, never huge, of which eight are written; and their address."""
    memory = mmap.mmap(-1, 16 * pages.PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    for page in range(8):
        memory[page * pages.PAGE] = page + 1
    return memory, ctypes.addressof(ctypes.c_char.from_buffer(memory))


@root
def test_written_pages_are_present_and_distinct(area: tuple[mmap.mmap, int]) -> None:
    """A wrong bit for "present" or for the frame number would make merged and private pages look alike."""
    summary = pages.describe(pages.read_pagemap(os.getpid(), area[1], 16))
    assert (summary["count"], summary["present"], summary["distinct"]) == (16, 8, 8)
    assert (summary["exclusive"], summary["ksm"], summary["zero"]) == (8, 0, 0)


@root
def test_reading_maps_the_zero_page(area: tuple[mmap.mmap, int]) -> None:
    """The zero page is the one shared page that an ordinary kernel gives: it must show as one frame."""
    memory, address = area
    assert all(memory[page * pages.PAGE] == 0 for page in range(8, 16))
    summary = pages.describe(pages.read_pagemap(os.getpid(), address + 8 * pages.PAGE, 8))
    assert (summary["present"], summary["distinct"], summary["zero"]) == (8, 1, 8)
    assert summary["exclusive"] == 0


@root
def test_forked_child_shares_until_it_writes(area: tuple[mmap.mmap, int]) -> None:
    """Real sharing and a real CoW break between two processes, seen page by page."""
    memory, address = area
    down, up = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.write(up[1], b"f")
        os.read(down[0], 1)
        memory[2 * pages.PAGE] = 99
        memory[5 * pages.PAGE] = 99
        os.write(up[1], b"w")
        os.read(down[0], 1)
        os._exit(0)
    try:
        os.read(up[0], 1)
        before = [pages.read_pagemap(pid, address, 8) for pid in (os.getpid(), child)]
        os.write(down[1], b"w")
        os.read(up[0], 1)
        after = [pages.read_pagemap(pid, address, 8) for pid in (os.getpid(), child)]
    finally:
        os.write(down[1], b"x")
        os.waitpid(child, 0)
    assert pages.count(before) == {"present": 16, "distinct": 8}
    assert pages.count(after) == {"present": 16, "distinct": 10}
    shared = pages.compare(before)
    assert shared["same"] == 8
    assert shared["apart"] == [[], []]
    broken = pages.compare(after)
    assert broken["same"] == 6
    assert broken["apart"] == [[(2, 1), (5, 1)], [(2, 1), (5, 1)]]


@root
def test_counts_of_frames(area: tuple[mmap.mmap, int]) -> None:
    """Counts are read frame by frame in runs; a shifted read would return a neighbour's count."""
    entries = pages.read_pagemap(os.getpid(), area[1], 8)
    counts = pages.per_frame("kpagecount", [pfn for pfn in pages.frames(entries) if pfn is not None])
    assert list(counts.values()) == [1] * 8


def test_third_range_stands_apart() -> None:
    """With three guests or more, only the one that was written to differs from the others."""
    entry = pages.PRESENT
    ranges = [array("Q", [entry | 7, entry | 8, 0]), array("Q", [entry | 7, entry | 8, 0])]
    ranges.append(array("Q", [entry | 7, entry | 9, 0]))
    result = pages.compare(ranges)
    assert pages.count(ranges) == {"present": 6, "distinct": 3}
    assert result["same"] == 1
    assert result["apart"] == [[(2, 1)], [(2, 1)], [(1, 2)]]


def test_runs_pack_only_neighbours() -> None:
    """Runs must unpack to what went in, in order."""
    assert pages.runs([5, 6, 7, 3, 9, 10]) == [(5, 3), (3, 1), (9, 2)]
    assert pages.runs([]) == []


def test_bad_ranges_are_refused() -> None:
    """An unaligned address would silently describe another page."""
    with pytest.raises(HostError, match="multiple"):
        pages.read_pagemap(os.getpid(), 0x1001, 1)
    with pytest.raises(HostError, match="does not exist"):
        pages.read_pagemap(2**22 + 1, 0x1000, 1)
