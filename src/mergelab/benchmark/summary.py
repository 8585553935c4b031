# SPDX-License-Identifier: GPL-2.0-only
"""From lines to figures: net of what watching cost, per page, with median and spread over the pairs.

A figure that a pair did not yield is absent there; it is never filled in.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mergelab.benchmark.lines import ENGINES, Line
from mergelab.benchmark.plan import CASES, PAGE

NOBODY = "none"
"""Stands where an engine would, for what is measured without one."""

STEADY_FROM = 15
"""First pass of the steady state where KSM skips pages: from pass 14 on it looks at a page once in nine."""

STEADY_UNTIL = 23
MERGED_FROM = 3
"""First pass of the steady state where pages are merged: KSM merges in its second."""

COMPLETE = 0.995
"""Share of the final saving from which on it counts as complete; the rest are pages busy at that moment."""


EXPLAINED = 0.3
"""Share of a CPU limit: where waiting for a processor may explain more, how well it was kept is not known."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A kind of figure.

    Attributes:
        title: what it is, as a table's heading or a sentence says it.
        unit: ``ns``, ``s``, ``bytes``, ``passes``, ``pages``, ``mappings``, ``times`` or
            ``share``.
        better: ``lower`` or ``higher``; empty where neither is.
    """

    title: str
    unit: str
    better: str = "lower"


METRICS: Mapping[str, Metric] = {
    "resolution": Metric(title="resolution of the clock, per page of a pass", unit="ns", better=""),
    "hash": Metric(title="reading and hashing a page once, in user space", unit="ns", better=""),
    "first": Metric(title="CPU per page, first pass", unit="ns"),
    "second": Metric(title="CPU per page, second pass", unit="ns"),
    "steady": Metric(title="CPU per page and pass, steady state", unit="ns"),
    "looked": Metric(title="CPU per page looked at, steady state", unit="ns"),
    "merge": Metric(title="CPU per page until the saving is complete", unit="ns"),
    "wall50": Metric(title="time to 50 % of the final saving", unit="s"),
    "wall95": Metric(title="time to 95 % of the final saving", unit="s"),
    "cpu50": Metric(title="CPU time to 50 % of the final saving", unit="s"),
    "cpu95": Metric(title="CPU time to 95 % of the final saving", unit="s"),
    "share": Metric(title="share of a CPU while the saving grows", unit="share", better=""),
    "look": Metric(title="CPU time to read how much is saved", unit="ns", better=""),
    "metadata": Metric(title="metadata per scanned page", unit="bytes"),
    "saved": Metric(title="memory saved", unit="bytes", better="higher"),
    "net": Metric(title="memory saved, net of metadata", unit="bytes", better="higher"),
    "copies": Metric(title="merged pages that the saving needs", unit="pages", better=""),
    "write50": Metric(title="first write to a page, p50", unit="ns"),
    "write99": Metric(title="first write to a page, p99", unit="ns"),
    "write_max": Metric(title="first write to a page, longest", unit="ns", better=""),
    "join": Metric(title="passes until new memory joins a shared page", unit="passes"),
    "churn": Metric(title="CPU per page scanned, while pages are rewritten", unit="ns"),
    "churn_kept": Metric(title="saving kept while pages are rewritten", unit="share", better="higher"),
    "limit_off": Metric(title="CPU time is off its limit, by more than waiting explains", unit="share"),
    "mappings": Metric(title="mappings of one page, at most", unit="mappings", better=""),
    "walk": Metric(title="longest walk over the mappings of a page", unit="ns"),
    "speedup": Metric(title="first pass with two scanners, against one", unit="times", better="higher"),
    "readers": Metric(title="reading and hashing by two processes, against one", unit="times", better=""),
    "hold_domain": Metric(title="longest hold of the domain's lock", unit="ns", better=""),
    "hold_table": Metric(title="longest hold of a page table's lock, to look at it", unit="ns", better=""),
    "account": Metric(title="CPU per page and pass by the kernel's own account", unit="ns", better=""),
}
"""Every figure, in the order in which it is shown."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A figure over the pairs: the median, and how far the pairs lie apart.

    Attributes:
        values: by pair; None where the pair did not yield it.
    """

    median: float
    low: float
    high: float
    values: tuple[float | None, ...]

    @property
    def known(self) -> list[float]:
        """What the pairs yielded."""
        return [value for value in self.values if value is not None]

    @property
    def count(self) -> int:
        """How many pairs yielded it."""
        return len(self.known)


def spread(values: Iterable[float | None]) -> Spread | None:
    """Median, lowest and highest of what there is; None when there is nothing."""
    kept = tuple(values)
    known = [value for value in kept if value is not None]
    if not known:
        return None
    return Spread(median=statistics.median(known), low=min(known), high=max(known), values=kept)


RESOLVED = ("first", "second", "steady", "looked", "merge")
"""Figures that are known to the clock's resolution only; in a ratio a smaller one counts as that."""

Figures = Mapping[str, Spread]
"""Spreads by key of :data:`METRICS`."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """Everything about one case at one size.

    Attributes:
        engines: figures of each engine, and of :data:`NOBODY`.
        ratios: KSM's figure divided by memmerge's, pair by pair.
    """

    case: str
    pages: int
    engines: Mapping[str, Figures]
    ratios: Figures = field(default_factory=dict)

    def figure(self, engine: str, metric: str) -> Spread | None:
        """One figure, None when it was not measured."""
        return self.engines.get(engine, {}).get(metric)


def results(lines: Sequence[Line]) -> list[Result]:
    """Compute all figures, in the order in which the cases were measured."""
    places = list(dict.fromkeys((line.case, line.pages) for line in lines if line.case))
    pairs = max((line.pair for line in lines), default=0)
    return [
        _result(case, pages, pairs, [line for line in lines if (line.case, line.pages) == (case, pages)])
        for case, pages in places
    ]


def _result(case: str, pages: int, pairs: int, lines: Sequence[Line]) -> Result:
    by_pair: list[dict[str, dict[str, float]]] = [
        _pair(pages, [line for line in lines if line.pair == pair]) for pair in range(1, pairs + 1)
    ]
    engines: dict[str, dict[str, Spread]] = {}
    for engine in (NOBODY, *ENGINES):
        figures = {
            metric: found
            for metric in METRICS
            if (found := spread(pair.get(engine, {}).get(metric) for pair in by_pair))
        }
        if figures:
            engines[engine] = figures
    ratios = {}
    for metric in METRICS:
        found = spread(_ratio(pair, metric) for pair in by_pair)
        if found:
            ratios[metric] = found
    return Result(case=case, pages=pages, engines=engines, ratios=ratios)


def _ratio(pair: Mapping[str, Mapping[str, float]], metric: str) -> float | None:
    ksm, memmerge = (pair.get(engine, {}).get(metric) for engine in ENGINES)
    resolution = pair[NOBODY].get("resolution")
    if metric in RESOLVED and ksm is not None and memmerge is not None and resolution is not None:
        ksm, memmerge = max(ksm, resolution), max(memmerge, resolution)
    if ksm is None or memmerge is None or ksm < 0 or memmerge <= 0:
        return None
    return ksm / memmerge


def _pair(pages: int, lines: Sequence[Line]) -> dict[str, dict[str, float]]:
    """Figures of one pair by engine and metric."""
    by_kind: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        by_kind.setdefault((line.engine, line.kind), []).append(line)
    watching = by_kind.get(("", "watching"), [])
    cost = _Watching(
        ask=max(watching[0].data["ask_ns"], 0) if watching else 0,
        per_second=max(watching[0].data["ns_per_s"], 0) if watching else 0,
        sample=max(watching[0].data.get("sample_ns", 0), 0) if watching else 0,
    )
    found: dict[str, dict[str, float]] = {NOBODY: {"resolution": cost.ask / pages} if watching else {}}
    for line in by_kind.get(("", "floor"), []):
        found[NOBODY]["hash"] = line.data["ps_per_page"] / 1000
    for line in by_kind.get(("", "writes"), []):
        found[NOBODY] |= _writes(line)
    found[NOBODY] |= _faster(by_kind.get(("", "readers"), []), "readers", "readers")
    final = max((max(line.data["saved"]) for line in lines if line.kind == "growth"), default=0)
    for engine in ENGINES:
        figures: dict[str, float] = {}
        looking = by_kind.get((engine, "looking"), [])
        for line in by_kind.get((engine, "growth"), []):
            figures |= _growth(line, final, cost, looking)
        passes = sorted(by_kind.get((engine, "pass"), []), key=lambda each: each.data["pass"])
        if passes:
            figures |= _passes(passes, pages, cost, engine)
        for line in by_kind.get((engine, "state"), []):
            figures |= _state(line, pages, len(passes))
        for kind, read in SIMPLE.items():
            for line in by_kind.get((engine, kind), []):
                figures |= read(line)
        figures |= _limits(by_kind.get((engine, "limit"), []), cost)
        figures |= _faster(by_kind.get((engine, "scanners"), []), "scanners", "speedup")
        if figures:
            found[engine] = figures
    return found


@dataclass(frozen=True, kw_only=True)
class _Watching:
    """What it costs to watch: a question for the time, each second of waiting, a sample, in nanoseconds."""

    ask: int
    per_second: int
    sample: int

    def net(self, line: Line) -> float:
        spent: float = line.data["cpu_ns"] - self.ask - self.per_second * line.data["wall_ns"] / 1e9
        return max(spent, 0.0)


def _passes(passes: Sequence[Line], pages: int, cost: _Watching, engine: str) -> dict[str, float]:
    """Cost of passes. Where the end of one was seen too late, cost of the next is in it."""
    late = {line.data["pass"] for line in passes if line.data["late"]}
    net = {line.data["pass"]: cost.net(line) for line in passes}

    def clean(first: int, last: int) -> bool:
        return last in net and not late & {first - 1, last}

    figures = {}
    for name, number in (("first", 1), ("second", 2)):
        if clean(number, number):
            figures[name] = net[number] / pages
    last = max(net)
    start = STEADY_FROM if last >= STEADY_UNTIL else MERGED_FROM
    window = [line for line in passes if line.data["pass"] >= start]
    if window and clean(start, last):
        spent = sum(net[line.data["pass"]] for line in window)
        figures["steady"] = spent / pages / len(window)
        # KSM counts the pages that it looks at, not those that it skips; memmerge vouches for every page.
        looked = sum(line.data["scanned"] for line in window) if engine == "ksm" else pages * len(window)
        if looked:
            figures["looked"] = spent / looked
    final = passes[-1].data["saved"]
    if final > 0:
        done = next(line.data["pass"] for line in passes if line.data["saved"] >= COMPLETE * final)
        if clean(1, done):
            figures["merge"] = sum(spent for number, spent in net.items() if number <= done) / pages
    return figures


def _state(line: Line, pages: int, passes: int) -> dict[str, float]:
    saved = line.data["saved"] * PAGE
    figures = {"saved": float(saved), "copies": float(line.data["shared"])}
    if passes:
        figures["account"] = line.data["thread_ns"] / pages / passes
    if "metadata" in line.data:
        figures["metadata"] = line.data["metadata"] / pages
        figures["net"] = float(saved - line.data["metadata"])
    return figures


def _writes(line: Line) -> dict[str, float]:
    at = dict(zip(line.data["per_mille"], line.data["ns"], strict=True))
    return {"write50": float(at[500]), "write99": float(at[990]), "write_max": float(at[1000])}


def _growth(line: Line, final: int, cost: _Watching, looking: Sequence[Line]) -> dict[str, float]:
    """Times to parts of the final saving, which is the larger one of the two engines'.

    What the samples cost is taken off; an engine that counts what is saved needs longer the more that is.
    """
    wall, saved = line.data["wall_ns"], line.data["saved"]
    figures = {}
    per_page = 0.0
    if looking and "sample_ns" in looking[0].data:
        figures["look"] = float(max(looking[0].data["sample_ns"], 0))
        per_page = max(figures["look"] - cost.sample, 0.0) / saved[-1] if saved[-1] > 0 else 0.0
    cpu, watched = [], 0.0
    for number, spent in enumerate(line.data["cpu_ns"]):
        if number:
            watched += cost.sample + per_page * saved[number]
        cpu.append(spent - watched)
    for part in (50, 95):
        for name, clock in (("wall", wall), ("cpu", cpu)):
            reached = crossing(clock, saved, final * part / 100) if final > 0 else None
            if reached is not None:
                figures[f"{name}{part}"] = reached / 1e9
    if wall and wall[-1]:
        figures["share"] = cpu[-1] / wall[-1]
    return figures


def crossing(clock: Sequence[float], saved: Sequence[float], level: float) -> float | None:
    """When a growing curve reaches a level, between samples by a straight line; None when it never does."""
    for number, value in enumerate(saved):
        if value >= level:
            if number == 0:
                return clock[0]
            before = saved[number - 1]
            part = (level - before) / (value - before)
            return clock[number - 1] + part * (clock[number] - clock[number - 1])
    return None


def _churn(line: Line) -> dict[str, float]:
    found: dict[str, float] = {}
    if line.data["scanned"]:
        found["churn"] = line.data["cpu_ns"] / line.data["scanned"]
    pages, rewritten = line.pages, line.data["rewritten"]
    # Half of the pages are saved; a rewritten one leaves its equal alone.
    expected = pages / 2 - rewritten
    if expected > 0:
        found["churn_kept"] = line.data["saved"] / expected
    return found


def _limits(lines: Sequence[Line], cost: _Watching) -> dict[str, float]:
    """How far the CPU time that was taken is from the limit.

    Who measures himself by the time of day takes that for his own in which he waited for a processor. So a
    scanner is too slow only by what this waiting does not explain; nothing is known where it explains much.
    """
    taken = {line.data["percent"]: (line.data["cpu_ns"] - cost.ask) / line.data["wall_ns"] for line in lines}
    idle = taken.get(0, 0.0)
    off = []
    for line in lines:
        percent = line.data["percent"]
        if percent:
            least = (taken[percent] - idle) * 100 / percent
            waited = line.data["delay_ns"] / line.data["wall_ns"] * 100 / percent
            if waited > EXPLAINED:
                return {}
            off.append(max(least - 1, 1 - least - waited, 0.0))
    return {"limit_off": max(off)} if off else {}


def _faster(lines: Sequence[Line], key: str, figure: str) -> dict[str, float]:
    """How much faster two of something are than one, by the medians of what was measured several times."""
    wall: dict[int, list[int]] = {1: [], 2: []}
    for line in lines:
        wall[line.data[key]].append(line.data["wall_ns"])
    if not all(wall.values()):
        return {}
    one, two = statistics.median(wall[1]), statistics.median(wall[2])
    return {figure: one / two} if two else {}


def _join(line: Line) -> dict[str, float]:
    return {"join": line.data["passes"]} if "passes" in line.data else {}


def _holds(line: Line) -> dict[str, float]:
    return {f"hold_{lock}": line.data[lock] for lock in ("domain", "table")}


def _walks(line: Line) -> dict[str, float]:
    return {"mappings": line.data["mappings"], "walk": line.data["longest"]}


SIMPLE = {"writes": _writes, "join": _join, "churn": _churn, "holds": _holds, "walks": _walks}
"""What to read of measurements that say everything by themselves, by kind."""


def title(case: str) -> str:
    """What the pages of a case hold."""
    return CASES[case].title if case in CASES else case
