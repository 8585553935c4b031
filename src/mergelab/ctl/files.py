# SPDX-License-Identifier: GPL-2.0-only
"""The files of /sys/kernel/mm/memmerge: what each means, in which unit, and what may be written.

The one place in the code that knows; a test compares it with kernel/Documentation/abi.md, and another one
writes the ends of every range to the module itself.
"""

from __future__ import annotations

from dataclasses import dataclass

UINT_MAX = 2**32 - 1
INT_MAX = 2**31 - 1
S64_MAX = 2**63 - 1


@dataclass(frozen=True)
class File:
    """One file.

    Attributes:
        name: in /sys/kernel/mm/memmerge.
        unit: of its number; empty when it is none or has none.
        meaning: one line.
        default: a tunable's value in a fresh module; None for a counter.
        low: the least number that may be written.
        high: the greatest.
        words: what may be written instead of a number.
        resets: a counter that begins anew when 0 is written.
    """

    name: str
    unit: str
    meaning: str
    default: int | str | None = None
    low: int = 0
    high: int = UINT_MAX
    words: tuple[str, ...] = ()
    resets: bool = False

    @property
    def writable(self) -> bool:
        """Whether anything may be written."""
        return self.default is not None or self.resets

    @property
    def allowed(self) -> str:
        """What may be written, in words."""
        if self.resets:
            return "0, which begins anew"
        if self.words:
            return " ".join(self.words)
        if self.high - self.low < 4:
            return ", ".join(map(str, range(self.low, self.high))) + f" or {self.high}"
        return f"{self.low} to {self.high}"

    def permits(self, number: int) -> bool:
        """Whether a number may be written."""
        return number == 0 if self.resets else not self.words and self.low <= number <= self.high


_ALL = (
    File("run", "", "0: the scanner is stopped, 1: it runs, 2: stopped and everything unshared", 0, high=2),
    File("pages_to_scan", "pages", "how many a scanner looks at before it sleeps", 1000, low=1),
    File("sleep_millisecs", "ms", "sleep of a scanner after that", 20),
    File("scanners", "threads", "threads that scan, each by itself", 1, 1, 64),
    File("cpu_limit_percent", "%", "of one processor, for all scanners together; 0: no limit", 0, high=6400),
    File("max_idle_millisecs", "ms", "longest pause after a pass that changed hardly anything", 1000),
    File("use_zero_pages", "", "1: a page of zeroes maps the kernel's zero page, 0: it is merged", 1, high=1),
    File(
        "max_page_sharing",
        "mappings",
        "how many one merged page gets before a second is made",
        256,
        2,
        INT_MAX,
    ),
    File("engine", "", "who merges what madvise() and prctl() offer", "ksm", words=("ksm", "memmerge")),
    File(
        "huge_split_pages",
        "pages",
        "how many would have to merge for a huge page to be split; 0: none is",
        64,
        high=512,
    ),
    File("smart_scan", "", "1: a page whose sharing did not last is left alone for some passes", 1, high=1),
    File("merge_across_nodes", "", "1: pages of all NUMA nodes merge, 0: of one node each", 1, high=1),
    File(
        "stable_node_chains_prune_millisecs",
        "ms",
        "least time between two looks for what the reverse maps need no longer",
        2000,
    ),
    File(
        "advisor_mode",
        "",
        "scan-time: pages_to_scan is set after each pass",
        "none",
        words=("none", "scan-time"),
    ),
    File("advisor_target_scan_time", "s", "how long a pass should take then", 200, 1),
    File("advisor_max_cpu", "%", "of one processor, which the advisor lets the scanner use", 70, 1, 100),
    File("advisor_min_pages_to_scan", "pages", "least that the advisor sets", 500, 1),
    File("advisor_max_pages_to_scan", "pages", "most that the advisor sets", 30000, 1),
    File(
        "unshare_limit",
        "bytes",
        "what unsharing may take for more to be merged; -1: no limit",
        -1,
        -1,
        S64_MAX,
    ),
    File("unshare_limit_percent", "%", "the same, of what the host could give; -1: no limit", -1, -1, 10000),
    File("pages_shared", "pages", "merged pages in use"),
    File("pages_sharing", "pages", "further mappings of merged pages: what is saved"),
    File("pages_mapped_zero", "pages", "pages that map the kernel's zero page: saved as well"),
    File("pages_unshared", "pages", "pages without an equal so far"),
    File("pages_volatile", "pages", "pages whose content changes, or whose sharing did not last"),
    File("pages_protected", "pages", "pages write-protected, so that they need not be read again"),
    File("pages_unswappable", "pages", "merged pages that reclaim cannot take: always 0"),
    File("pages_scanned", "pages", "pages looked at since the module was loaded"),
    File("pages_unread", "pages", "pages of those known to be unchanged without being read"),
    File("pages_merged", "pages", "pages made to map a merged page since then"),
    File("pages_zeroed", "pages", "pages made to map the zero page since then"),
    File("pages_ineligible", "pages", "how often a page could not be merged, since then"),
    File("pages_refused", "pages", "of these, because of a limit of what unsharing may take"),
    File("pages_skipped", "pages", "how often smart_scan has left a page alone, since then"),
    File("pages_unshared_total", "pages", "merged pages found written, since then"),
    File("huge_split", "pages", "huge pages split to merge parts of them, since then"),
    File("stable_node_chains", "contents", "those of which there is more than one merged page"),
    File("stable_node_dups", "pages", "merged pages that have these contents"),
    File("ksm_zero_pages", "pages", "mappings of the zero page by merging, those of KSM included"),
    File("general_profit", "bytes", "what is saved, less the engine's own memory"),
    File("full_scans", "passes", "complete passes of the scanner over all domains"),
    File("domains", "domains", "domains in existence"),
    File("regions", "regions", "regions registered in them"),
    File("unshare_demand", "bytes", "what unsharing everything would take"),
    File("unshare_supply", "bytes", "what the host could give for that: memory and swap"),
    File("metadata_bytes", "bytes", "the engine's own memory"),
    File("scan_cpu_ns", "ns", "CPU time of all scanning since the module was loaded"),
    File("scanner_pid", "", "thread id of the first scanner, 0 when it does not exist"),
    File("domain_lock_max_ns", "ns", "longest hold of a domain's lock", resets=True),
    File("page_table_lock_max_ns", "ns", "longest hold of a page table's lock", resets=True),
)

FILES = {file.name: file for file in _ALL}
"""Tunables first, then counters, in the order in which they are shown."""


def order(name: str) -> tuple[int, str]:
    """Sorts names as FILES has them, those it does not know behind."""
    return (list(FILES).index(name) if name in FILES else len(FILES), name)
