# SPDX-License-Identifier: GPL-2.0-only
"""A host with the engine loaded, as a tree of files below a folder.

It holds what User-Mode Linux showed of two processes of 2048 pages each in one domain, 1024 of them equal to
the other's, 512 zero; only what scanning cost is made up, for round figures.
"""

from __future__ import annotations

from pathlib import Path

RELEASE = "6.12.117-mergelab-01234567"

COUNTERS = {
    "run": "1",
    "pages_to_scan": "1000",
    "sleep_millisecs": "20",
    "scanners": "1",
    "cpu_limit_percent": "0",
    "max_idle_millisecs": "1000",
    "use_zero_pages": "1",
    "max_page_sharing": "256",
    "engine": "[ksm] memmerge",
    "huge_split_pages": "64",
    "smart_scan": "1",
    "merge_across_nodes": "1",
    "stable_node_chains_prune_millisecs": "2000",
    "advisor_mode": "[none] scan-time",
    "advisor_target_scan_time": "200",
    "advisor_max_cpu": "70",
    "advisor_min_pages_to_scan": "500",
    "advisor_max_pages_to_scan": "30000",
    "unshare_limit": "-1",
    "unshare_limit_percent": "-1",
    "pages_shared": "1024",
    "pages_sharing": "1024",
    "pages_mapped_zero": "1024",
    "pages_unshared": "1024",
    "pages_volatile": "0",
    "pages_protected": "0",
    "pages_unswappable": "0",
    "pages_scanned": "32768",
    "pages_unread": "0",
    "pages_merged": "2048",
    "pages_zeroed": "1024",
    "pages_ineligible": "0",
    "pages_refused": "0",
    "pages_skipped": "0",
    "pages_unshared_total": "0",
    "huge_split": "0",
    "stable_node_chains": "0",
    "stable_node_dups": "0",
    "ksm_zero_pages": "1024",
    "general_profit": "8237296",
    "full_scans": "8",
    "domains": "1",
    "regions": "2",
    "unshare_demand": "4194304",
    "unshare_supply": "720707584",
    "metadata_bytes": "151312",
    "scan_cpu_ns": "16384000",
    "scanner_pid": "27",
    "domain_lock_max_ns": "61440",
    "page_table_lock_max_ns": "20480",
}

MEMINFO = """\
MemTotal:         500152 kB
MemFree:          402108 kB
MemAvailable:     441676 kB
SwapTotal:        262140 kB
SwapFree:         262140 kB
HugePages_Total:       0
"""

ROLLUP = """\
55d0a2a00000-7ffd5b9f2000 ---p 00000000 00:00 0                          [rollup]
Rss:                6232 kB
Pss:                5236 kB
Pss_Anon:           4012 kB
KSM:                4096 kB
AnonHugePages:         0 kB
"""

SMAPS = """\
55d0a2a00000-55d0a2a05000 r-xp 00000000 00:12 8388 /usr/bin/payload
Size:                 20 kB
KernelPageSize:        4 kB
VmFlags: rd ex mr mw me
7f0000000000-7f0000800000 rw-p 00000000 00:00 0
Size:               8192 kB
KernelPageSize:        4 kB
VmFlags: rd wr mr mw me ac mg
"""

KSM_STAT = """\
ksm_rmap_items 0
ksm_zero_pages 512
ksm_merging_pages 0
ksm_process_profit 2097152
"""


class Host:
    """The tree; `write` changes a file of the engine, as the kernel or another module would."""

    def __init__(self, root: Path) -> None:
        """Makes all files."""
        self.root = root
        self.engine = root / "sys/kernel/mm/memmerge"
        self.put("sys/module/memmerge/srcversion", "40243E9D72D8595814953A3")
        for name, value in COUNTERS.items():
            self.write(name, value)
        self.put("proc/meminfo", MEMINFO)
        self.put("proc/vmstat", "nr_free_pages 100527\ncow_ksm 3\n")
        self.process(4711, "payload")

    def put(self, path: str, text: str) -> None:
        """Writes a file of the host."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def write(self, name: str, value: str) -> None:
        """Writes a file of the engine."""
        self.put(f"sys/kernel/mm/memmerge/{name}", f"{value}\n")

    def read(self, name: str) -> str:
        """Reads a file of the engine."""
        return (self.engine / name).read_text().strip()

    def values(self) -> dict[str, str]:
        """Reads every file of the engine."""
        return {path.name: self.read(path.name) for path in self.engine.iterdir()}

    def remove(self, *names: str) -> None:
        """Makes the module one that does not have these files."""
        for name in names:
            (self.engine / name).unlink()

    def unload(self) -> None:
        """Removes the module."""
        self.remove(*self.values())
        self.engine.rmdir()

    def process(self, pid: int, command: str, ksm_stat: str | None = KSM_STAT) -> None:
        """Adds a process."""
        self.put(f"proc/{pid}/comm", f"{command}\n")
        self.put(f"proc/{pid}/smaps_rollup", ROLLUP)
        self.put(f"proc/{pid}/smaps", SMAPS)
        if ksm_stat is not None:
            self.put(f"proc/{pid}/ksm_stat", ksm_stat)


def stat(**values: int) -> dict[str, int]:
    """Statistics of a domain or region as the agent gives them."""
    from mergelab.host.engine import STAT_FIELDS  # noqa: PLC0415 - the fields that this version knows

    return dict.fromkeys(STAT_FIELDS[3:], 0) | values


def describe(*_: object) -> list[dict[str, object]]:
    """An answer of the agent: a guest, a plain process, and one that has exited."""
    held = stat(
        pages_registered=2048, pages_mapped_shared=1024, pages_mapped_zero=512, pages_unshared=500, passes=8,
        skip_busy=4, skip_huge=8,
    )  # fmt: skip
    plain = stat(
        pages_registered=2048, pages_mapped_shared=1024, pages_mapped_zero=512, pages_unshared=512, passes=8
    )
    whole = stat(
        regions=2, pages_registered=4096, pages_shared=1024, pages_sharing=1024, pages_mapped_shared=2048,
        pages_mapped_zero=1024, pages_unshared=1012, passes=8, skip_busy=4, skip_huge=8,
        metadata_bytes=151312, unshare_demand=4194304,
    )  # fmt: skip
    region = {"length": 8 << 20, "start": 0x7F0000000000}
    return [
        {
            "domain": "tenant-a",
            "stat": whole,
            "regions": [
                {"region": 1, "pid": 4711, **region, "guest": "web1", "stat": held},
                {"region": 2, "pid": 4712, **region, "stat": plain},
                {"region": 3, "pid": 4713, **region, "stat": None},
            ],
        },
        {"domain": "tenant-b", "stat": stat(), "regions": []},
    ]
