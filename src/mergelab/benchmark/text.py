# SPDX-License-Identifier: GPL-2.0-only
"""Figures of a benchmark as a person reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mergelab.benchmark import goals
from mergelab.benchmark.compare import IMPROVEMENT, MACHINE, REGRESSION, SAME
from mergelab.benchmark.plan import PAGE
from mergelab.benchmark.summary import METRICS, Spread
from mergelab.figures import MISSING, count, size
from mergelab.scales import scale

TONES = {
    goals.REACHED: ("✓", "green"),
    goals.MISSED: ("✗", "red"),
    goals.CLOSE: ("≈", "amber"),
    goals.UNKNOWN: ("?", "amber"),
}
CHANGES = {
    REGRESSION: ("✗", "red"),
    IMPROVEMENT: ("✓", "green"),
    MACHINE: ("!", "amber"),
    SAME: ("=", "quiet"),
}
ORDER = (REGRESSION, MACHINE, IMPROVEMENT)
WORDS = {
    REGRESSION: "regression",
    IMPROVEMENT: "improvement",
    MACHINE: "moved, but not against KSM",
    SAME: "within the noise",
}

FACTORS = {"s": 1e9}
"""Units that are shown by way of nanoseconds."""


SINGULAR = {"passes": "pass", "pages": "page", "mappings": "mapping"}
"""Units that are counted, and one of each."""


def quantity(value: float, unit: str) -> str:
    """A figure with its unit: ``4.71 µs``, ``64 B``, ``97 %``, ``12.3 ×``, ``1 pass``."""
    if unit in ("ns", "s"):
        nanoseconds = value * FACTORS.get(unit, 1.0)
        divisor, name = scale(abs(nanoseconds), "ns")
        return f"{nanoseconds / divisor:.3g} {name}" if abs(nanoseconds) < 1e12 else f"{value:.0f} s"
    if unit == "bytes":
        return f"−{size(-value)}" if value < 0 else size(value)
    if unit == "share":
        return f"{value * 100:.3g} %"
    if unit == "times":
        return f"{value:.3g} ×" if value < 1000 else f"{count(round(value))} ×"
    if unit in SINGULAR:
        word = unit if value != 1 else SINGULAR[unit]
        return f"{count(round(value) if value == round(value) else value)} {word}"
    return f"{value:.3g} {unit}".strip()


def spread(value: Spread | None, unit: str) -> str:
    """A figure with how far the pairs lie apart: ``4.71 µs (4.6 µs to 4.9 µs)``."""
    if value is None:
        return MISSING
    middle = quantity(value.median, unit)
    low, high = quantity(value.low, unit), quantity(value.high, unit)
    return middle if low == high else f"{middle} ({low} to {high})"


def median(value: Spread | None, unit: str) -> str:
    """A figure without its spread."""
    return MISSING if value is None else quantity(value.median, unit)


def memory(pages: int) -> str:
    """A size of a case."""
    return size(pages * PAGE)


def metric(key: str) -> str:
    """What a figure is."""
    return METRICS[key].title


def relative(before: Spread, after: Spread) -> str:
    """How much a figure changed, in per cent with its sign."""
    if not before.median:
        return "from 0"
    change = (after.median / before.median - 1) * 100
    return f"{change:+.1f} %".replace("-", "−")


def verdict_of(baseline: Mapping[str, Any]) -> str:
    """A comparison in one sentence."""
    count = {verdict: sum(each["verdict"] == verdict for each in baseline["findings"]) for verdict in WORDS}
    return (
        f"Against {baseline['bench']}: {count[REGRESSION]} regressions, {count[IMPROVEMENT]} improvements, "
        f"{count[SAME]} figures within the noise, {count[MACHINE]} that moved, but not against KSM."
    )
