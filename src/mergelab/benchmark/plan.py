# SPDX-License-Identifier: GPL-2.0-only
"""What is to be measured: cases, sizes, pairs; and whether this machine can."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mergelab.errors import MergelabError
from mergelab.lab.preflight import available_memory

MIB = 1 << 20
PAGE = 4096
AREA = 64 * MIB
"""Memory of one process of a case; sizes are multiples of it."""

SIZES = (256 * MIB, 512 * MIB)
LARGEST = 16 << 30
PAIRS = 4
MAPPINGS = 40_000
"""Mappings that a process of User-Mode Linux may need on its host: each page of an area and the rest."""

KVM_HOST = "it takes KVM: give a --host that has it, if emulated with one processor"
UNITS = {"M": MIB, "G": 1 << 30}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One content of memory.

    Attributes:
        name: as the measuring program has it.
        title: what the pages hold, a phrase.
        merges: whether there is anything to save.
        pages: fixed number of pages; None where sizes apply.
        runs: of each pair: one for each engine, or of memmerge alone.
        processors: that the machine must have.
        kvm: whether the machine must run guests.
    """

    name: str
    title: str
    merges: bool
    pages: int | None = None
    runs: int = 2
    processors: int = 1
    kvm: bool = False


CASES = {
    case.name: case
    for case in (
        Case(name="random", title="random pages, nothing merges", merges=False),
        Case(name="identical", title="all pages identical", merges=True),
        Case(name="zero", title="all pages zero, merged into the zero page", merges=True),
        Case(name="twice", title="every page twice", merges=True),
        Case(name="near", title="pages differ in their last 8 bytes only, nothing merges", merges=False),
        Case(
            name="near-twice",
            title="pages differ in their last 8 bytes only, each of them twice",
            merges=True,
        ),
        Case(name="duplicates", title="10 % of the pages are duplicates", merges=True),
        Case(
            name="rewritten",
            title="every page twice, 1 % of the pages rewritten per second while scanning",
            merges=True,
        ),
        Case(name="kvm", title="every page twice, memory of KVM guests", merges=True, kvm=True),
        Case(name="guest", title="memory of an idle Linux guest", merges=True),
        Case(name="sharers", title="one page with 10,000 sharers", merges=True, pages=10_000),
        Case(
            name="limit",
            title="random pages, scanned under cpu_limit_percent",
            merges=False,
            pages=AREA // PAGE,
            runs=1,
        ),
        Case(
            name="scanners",
            title="random pages, scanned by one and by two scanners",
            merges=False,
            pages=4 * AREA // PAGE,
            runs=1,
            processors=2,
        ),
    )
}
"""Every case, in the order in which they are measured and shown."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """One case at one size."""

    case: str
    pages: int

    @property
    def argument(self) -> str:
        """How the measuring program is told."""
        return f"{self.case}:{self.pages * PAGE // MIB}"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that one benchmark measures.

    Attributes:
        items: in order.
        pairs: how often each engine is measured on each item; the first of a pair alternates.
        guest_memory: file with the memory of a real guest, for the case of that name.
        left_out: what was asked for, or belongs to the default, and cannot be measured: item to reason.
        host: name of the host where it is measured; empty for User-Mode Linux.
    """

    items: tuple[Item, ...]
    pairs: int
    guest_memory: Path | None = None
    left_out: tuple[tuple[str, str], ...] = field(default=())
    host: str = ""

    @property
    def memory(self) -> int:
        """Bytes of memory that the machine to boot needs: the largest item, the engines' own, the kernel."""
        largest = max(item.pages for item in self.items) * PAGE
        return (largest + largest // 8 + 192 * MIB) // MIB * MIB


def parse_size(text: str) -> int:
    """Read a size like ``256M`` or ``4G``; returns bytes.

    Raises:
        MergelabError: it is none, or cannot be measured.
    """
    match = re.fullmatch(r"(\d+)([MG])(?:iB|B)?", text.strip())
    if match is None:
        raise MergelabError(f"'{text}' is no size", "give one like 256M or 4G")
    size = int(match[1]) * UNITS[match[2]]
    if size == 0 or size % AREA:
        near = [each * AREA // MIB for each in (size // AREA, size // AREA + 1) if each]
        raise MergelabError(
            f"the size {text} is not a multiple of {AREA // MIB}M",
            f"take {' or '.join(f'{each}M' for each in near)}",
        )
    if size > LARGEST:
        raise MergelabError(
            f"the size {text} is more than {LARGEST >> 30}G", "the benchmark is made for 64M to 16G"
        )
    return size


def make(
    *,
    cases: Sequence[str],
    sizes: Sequence[int],
    pairs: int,
    guest_memory: Path | None,
    guest_help: str,
    processors: int = 1,
    kvm: bool = False,
    host: str = "",
) -> Plan:
    """Decide what is measured.

    Args:
        cases: names; empty for all.
        sizes: bytes; empty for the default.
        pairs: of each item.
        guest_memory: file with a guest's memory, whether it exists or not; None where it cannot be had.
        guest_help: how to get it.
        processors: that the machine has; User-Mode Linux has one.
        kvm: whether the machine runs guests; User-Mode Linux does not.
        host: name of the host where it is measured.

    Raises:
        MergelabError: a case is unknown, or nothing that was asked for can be measured.
    """
    unknown = sorted(set(cases) - set(CASES))
    if unknown:
        raise MergelabError(f"there is no case {', '.join(unknown)}", f"cases are: {', '.join(CASES)}")
    if pairs < 1:
        raise MergelabError(f"{pairs} pairs measure nothing", "give --pairs 1 or more; from 2 on noise shows")
    chosen = [case for case in CASES.values() if not cases or case.name in cases]
    held = guest_memory.stat().st_size if guest_memory and guest_memory.is_file() else 0
    items: list[Item] = []
    left_out: list[tuple[str, str]] = []
    for size in sorted(set(sizes)) or SIZES:
        for case in chosen:
            if case.pages is not None or (case.kvm and not kvm):
                continue
            if case.name == "guest" and held < size:
                has = (
                    f"there are {held // MIB}M of a guest's memory" if held else "no guest's memory is there"
                )
                left_out.append((f"guest at {size // MIB}M", f"{has}: {guest_help}"))
                continue
            items.append(Item(case=case.name, pages=size // PAGE))
    for case in chosen:
        if case.kvm and not kvm:
            left_out.append((case.name, KVM_HOST))
        if case.pages is None:
            continue
        if case.processors > processors:
            why = f"it takes {case.processors} processors: give a --host that has them"
            left_out.append((case.name, why))
            continue
        items.append(Item(case=case.name, pages=case.pages))
    if not items:
        raise MergelabError(f"nothing can be measured: {left_out[0][1]}", "or choose another case")
    return Plan(
        items=tuple(items),
        pairs=pairs,
        guest_memory=guest_memory if held else None,
        left_out=tuple(left_out),
        host=host,
    )


def check_machine(plan: Plan, memory_folder: Path | None) -> None:
    """Refuse what this machine cannot do, before anything is built.

    Args:
        plan: what is to be measured.
        memory_folder: where the memory of the machine to boot will be, if it is a file system of its own.

    Raises:
        MergelabError: memory is short, or the kernel allows a process too few mappings.
    """
    needed = plan.memory + 512 * MIB
    available = available_memory()
    if available < needed:
        raise MergelabError(
            f"the benchmark needs {needed // MIB} MiB of memory and {available // MIB} MiB are available",
            "stop other programs, or give a smaller --size",
        )
    if memory_folder is not None:
        place = os.statvfs(memory_folder)
        free = place.f_bavail * place.f_frsize
        if free < plan.memory:
            raise MergelabError(
                f"{memory_folder} has {free // MIB} MiB free and the benchmark needs {plan.memory // MIB}",
                f"free some: mount -o remount,size=… {memory_folder}, or give a smaller --size",
            )
    allowed = int(Path("/proc/sys/vm/max_map_count").read_text(encoding="ascii"))
    if allowed < MAPPINGS:
        raise MergelabError(
            f"a process may have {allowed} mappings and User-Mode Linux needs {MAPPINGS}",
            f"as root: sysctl vm.max_map_count={MAPPINGS}",
        )
