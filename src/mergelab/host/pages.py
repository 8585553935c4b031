# SPDX-License-Identifier: GPL-2.0-only
"""Page identity, the witness that owes nothing to the engine: which physical page a virtual page maps.

Sources: /proc/PID/pagemap, /proc/kpageflags, /proc/kpagecount (Documentation/admin-guide/mm/pagemap.rst).
A page of guests is named by its index in the examined range, a physical page by its frame number (PFN).
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Iterator, Sequence

from mergelab.host import HostError

PAGE = 4096
PRESENT = 1 << 63
SWAPPED = 1 << 62
EXCLUSIVE = 1 << 56
READ_OVER = 256
PFN_MASK = (1 << 55) - 1

KPF_HUGE = 1 << 17
KPF_KSM = 1 << 21
KPF_THP = 1 << 22
KPF_ZERO_PAGE = 1 << 24
FLAG_NAMES = {"hugetlb": KPF_HUGE, "ksm": KPF_KSM, "thp": KPF_THP, "zero": KPF_ZERO_PAGE}


def read_pagemap(pid: int, start: int, count: int) -> array[int]:
    """Reads the pagemap entries of `count` pages of process `pid` from address `start`.

    Raises:
        HostError: The range is not aligned, the process is gone, or frame numbers are hidden (not root).
    """
    if start % PAGE:
        raise HostError(f"address {start:#x} is not a multiple of {PAGE}")
    entries = array("Q")
    try:
        with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as file:  # noqa: PTH123 - unbuffered seeks on a /proc file
            file.seek(start // PAGE * 8)
            while len(entries) < count:
                data = file.read((count - len(entries)) * 8)
                if not data:
                    raise HostError(
                        f"address {start:#x} + {count} pages leaves the address space of process {pid}"
                    )
                entries.frombytes(data)
    except (FileNotFoundError, ProcessLookupError):
        raise HostError(f"process {pid} does not exist") from None
    except PermissionError:
        raise HostError(f"/proc/{pid}/pagemap may not be read: run as root") from None
    if any(entry & PRESENT and not entry & PFN_MASK for entry in entries[:64]) and os.geteuid() != 0:
        raise HostError("the kernel hides page frame numbers from this user: run as root")
    return entries


def frames(entries: Iterable[int]) -> list[int | None]:
    """Turns pagemap entries into frame numbers; None where no page is present."""
    return [entry & PFN_MASK if entry & PRESENT else None for entry in entries]


def runs(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Packs numbers, in order, into (first, length) runs of consecutive ones."""
    packed: list[tuple[int, int]] = []
    for number in numbers:
        if packed and number == packed[-1][0] + packed[-1][1]:
            packed[-1] = (packed[-1][0], packed[-1][1] + 1)
        else:
            packed.append((number, 1))
    return packed


def per_frame(file_name: str, pfns: Iterable[int]) -> dict[int, int]:
    """Reads one 64-bit word a frame from /proc/kpageflags or /proc/kpagecount."""
    words: dict[int, int] = {}
    try:
        with open(f"/proc/{file_name}", "rb", buffering=0) as file:  # noqa: PTH123 - unbuffered seeks on a /proc file
            for group in _neighbours(sorted(set(pfns))):
                file.seek(group[0] * 8)
                data = array("Q")
                data.frombytes(file.read((group[-1] - group[0] + 1) * 8))
                words.update((pfn, data[pfn - group[0]]) for pfn in group)
    except FileNotFoundError:
        raise HostError(
            f"/proc/{file_name} does not exist: the kernel needs CONFIG_PROC_PAGE_MONITOR"
        ) from None
    except PermissionError:
        raise HostError(f"/proc/{file_name} may not be read: run as root") from None
    return words


def _neighbours(pfns: list[int]) -> Iterator[list[int]]:
    """Cuts sorted frame numbers where the gap is wide: reading over a narrow one is cheaper than a call."""
    begin = 0
    for at in range(1, len(pfns) + 1):
        if at == len(pfns) or pfns[at] - pfns[at - 1] > READ_OVER:
            yield pfns[begin:at]
            begin = at


def describe(entries: Sequence[int]) -> dict[str, int | str]:
    """Summarises one range: how many pages are present, exclusive, distinct, and of which kind.

    `digest` changes when any page of the range maps another frame.
    """
    import hashlib  # noqa: PLC0415 - slow to import on an emulated host

    present = frames(entries)
    pfns = [pfn for pfn in present if pfn is not None]
    flags = per_frame("kpageflags", pfns)
    summary: dict[str, int | str] = {
        "count": len(entries),
        "present": len(pfns),
        "swapped": sum(1 for entry in entries if entry & SWAPPED),
        "exclusive": sum(1 for entry in entries if entry & EXCLUSIVE),
        "distinct": len(set(pfns)),
        "digest": hashlib.sha256(array("Q", [0 if pfn is None else pfn + 1 for pfn in present])).hexdigest()[
            :32
        ],
    }
    for name, bit in FLAG_NAMES.items():
        summary[name] = sum(1 for pfn in pfns if flags.get(pfn, 0) & bit)
    return summary


def count(ranges: Sequence[Sequence[int]]) -> dict[str, int]:
    """Returns over all ranges together how many pages are present, and how many distinct frames they map."""
    pfns = [entry & PFN_MASK for entries in ranges for entry in entries if entry & PRESENT]
    return {"present": len(pfns), "distinct": len(set(pfns))}


def compare(ranges: Sequence[Sequence[int]]) -> dict[str, object]:
    """Compares equally long ranges page by page.

    Returns:
        `same`, at how many indexes every range maps one and the same frame; `apart`, per range, the runs of
        indexes at which it does not map the frame that most others do.
    """
    columns = [frames(entries) for entries in ranges]
    apart: list[list[int]] = [[] for _ in columns]
    same = 0
    for index, row in enumerate(zip(*columns, strict=True)):
        if row[0] is not None and all(pfn == row[0] for pfn in row):
            same += 1
            continue
        usual = max(set(row), key=row.count)
        for number, pfn in enumerate(row):
            if pfn is None or pfn != usual or row.count(usual) == 1:
                apart[number].append(index)
    return {"same": same, "apart": [runs(indexes) for indexes in apart]}
