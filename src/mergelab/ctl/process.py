# SPDX-License-Identifier: GPL-2.0-only
"""What merging did to a process, by the kernel's account of that process: /proc/PID."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mergelab.host import HostError, guests, memory

Fact = str | int | bool | None


def select(pids: Sequence[int], names: Sequence[str]) -> list[tuple[str | None, int]]:
    """Returns the wanted processes as (guest or None, pid); every running guest when none is named.

    Raises:
        HostError: A guest does not run, or none is named and none runs.
    """
    chosen: list[tuple[str | None, int]] = [(None, pid) for pid in pids]
    chosen += [(name, guests.find(name)) for name in names]
    if not chosen:
        chosen = sorted(guests.running().items())
        if not chosen:
            raise HostError("no guest is running; name a process: memmergectl process PID")
    return chosen


def describe(guest: str | None, pid: int, proc: Path = Path("/proc")) -> dict[str, Fact]:
    """Returns what merging did to one process; sizes are bytes, what this kernel does not say is None.

    `merged_bytes` are mapped merged pages of either engine; what begins with `ksm_`, and `profit_bytes`, is
    the kernel's own account of the process. `mergeable_bytes` are mappings that asked for it by madvise() or
    prctl().

    Raises:
        HostError: There is no such process, or it may not be looked at.
    """
    sizes = memory.rollup(pid, str(proc))
    stat = memory.merging(pid, str(proc))
    any_ = stat.get("ksm_merge_any")
    return {
        "pid": pid,
        "command": (proc / str(pid) / "comm").read_text(encoding="utf-8", errors="replace").strip(),
        "guest": guest,
        "rss_bytes": sizes.get("rss"),
        "merged_bytes": sizes.get("ksm"),
        "mergeable_bytes": memory.flagged(pid, "mg", str(proc)),
        "merge_any": None if any_ is None else any_ == "yes",
        "ksm_merging_pages": _number(stat.get("ksm_merging_pages")),
        "ksm_zero_pages": _number(stat.get("ksm_zero_pages")),
        "ksm_rmap_items": _number(stat.get("ksm_rmap_items")),
        "profit_bytes": _number(stat.get("ksm_process_profit")),
    }


def _number(text: str | None) -> int | None:
    return None if text is None else int(text)
