# SPDX-License-Identifier: GPL-2.0-only
"""A benchmark beside an earlier one: what became worse, and more so than the noise.

memmerge's figure is judged together with KSM's of the same pair, which is the control: a machine that is
slower today slows both. A change counts when the figure and its ratio to KSM's agree on it; where only the
figure moved, the machine did.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mergelab.benchmark import noise
from mergelab.benchmark.summary import METRICS, NOBODY, RESOLVED, Result, Spread
from mergelab.errors import MergelabError

REGRESSION, IMPROVEMENT, SAME, MACHINE = "regression", "improvement", "same", "machine"

LEAST = 0.05
"""Smaller changes than this share are never named."""

ALONE = 1.0
"""The same where one of the benchmarks has one pair only: its noise is not known, so only twofold counts."""

MACHINE_KEYS = ("vendor", "model", "family", "number", "stepping", "threads")
"""Facts of the processor in which machines must agree to be compared."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What became of one figure of memmerge in one case."""

    case: str
    pages: int
    metric: str
    verdict: str
    before: Spread
    after: Spread


def different_machine(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Say in what two machines differ; nothing when their figures compare."""
    found = []
    for key in MACHINE_KEYS:
        old, new = (facts.get("cpu", {}).get(key) for facts in (before, after))
        if old != new:
            found.append(f"CPU {key}: {old} then, {new} now")
    if before.get("emulated") != after.get("emulated"):
        found.append(f"emulated: {before.get('emulated')} then, {after.get('emulated')} now")
    return found


def require_same_machine(bench: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Refuse to compare what does not compare.

    Args:
        bench: name of the earlier benchmark.
        before: its machine.
        after: this machine.

    Raises:
        MergelabError: they differ; says in what.
    """
    differences = different_machine(before, after)
    if differences:
        raise MergelabError(
            f"{bench} was measured on another machine ({'; '.join(differences)})",
            "compare with a benchmark of this machine, or leave BASELINE out",
        )


def compare(before: Sequence[Result], after: Sequence[Result]) -> list[Finding]:
    """Compare every figure that both have and of which lower or higher is better."""
    old = {(result.case, result.pages): result for result in before}
    findings = []
    for new in after:
        known = old.get((new.case, new.pages))
        if known is None:
            continue
        for metric, what in METRICS.items():
            then, now = known.figure("memmerge", metric), new.figure("memmerge", metric)
            if not what.better or then is None or now is None:
                continue
            moved = _moved(then, now, what.better)
            if metric in RESOLVED and abs(then.median - now.median) <= _resolution(known, new):
                moved = SAME
            ratios = known.ratios.get(metric), new.ratios.get(metric)
            # KSM's figure is above the line: a ratio is better when it is higher, whatever the figure is.
            better = "higher" if what.better == "lower" else "lower"
            relative = moved if None in ratios else _moved(*ratios, better)  # type: ignore[arg-type] # no None here
            findings.append(
                Finding(
                    case=new.case,
                    pages=new.pages,
                    metric=metric,
                    verdict=_verdict(moved, relative),
                    before=then,
                    after=now,
                )
            )
    return findings


def _resolution(*results: Result) -> float:
    """The coarser resolution of the clock, per page; twice, as a figure is a difference of readings."""
    known = (result.figure(NOBODY, "resolution") for result in results)
    return 2 * max((value.median for value in known if value is not None), default=0.0)


def _verdict(moved: str, relative: str) -> str:
    if moved == relative:
        return moved
    return SAME if moved == SAME else MACHINE


def _moved(before: Spread, after: Spread, better: str) -> str:
    """Whether a figure moved by more than the noise."""
    chance = noise.difference(before.known, after.known)
    least = ALONE if chance is None else LEAST
    small, large = sorted((before.median, after.median))
    if large - small <= (chance or 0.0) or (small > 0 and large / small - 1 <= least):
        return SAME
    return REGRESSION if (after.median > before.median) == (better == "lower") else IMPROVEMENT


def regressions(findings: Sequence[Finding]) -> list[Finding]:
    """Those that a benchmark fails for."""
    return [finding for finding in findings if finding.verdict == REGRESSION]
