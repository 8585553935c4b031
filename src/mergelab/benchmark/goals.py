# SPDX-License-Identifier: GPL-2.0-only
"""The goals that the engine is built for, each judged by what was measured: never by what is plausible."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from mergelab.benchmark import noise
from mergelab.benchmark.summary import NOBODY, Result, Spread, spread

REACHED, MISSED, CLOSE, UNKNOWN = "reached", "not reached", "too close to tell", "not measured"

Read = Callable[[Result], Spread | None]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The figure of a goal in one case at one size."""

    case: str
    pages: int
    value: Spread


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of a goal.

    Attributes:
        goal: its key.
        figure: what is measured, a phrase.
        target: what has to be reached, as text.
        unit: of the measured figures; ``times`` for a ratio.
        measured: every case and size that counts.
        verdict: reached only when every case and size that counts reaches it, by the median and by more
            than the noise; with a single pair the noise is not known, and the median decides.
        reason: the case that decided, or why nothing was measured.
    """

    goal: str
    figure: str
    target: str
    unit: str
    measured: tuple[Measured, ...]
    verdict: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Goal:
    """A goal that is judged by figures.

    Attributes:
        cases: each of them must have been measured.
        read: gives the figure of a result.
        limit: the target; at least it, or at most it.
    """

    key: str
    figure: str
    target: str
    unit: str
    cases: tuple[str, ...]
    read: Read
    limit: float
    at_least: bool

    def judge(self, results: Sequence[Result]) -> Verdict:
        """Judge by every size of every case."""
        measured = tuple(
            Measured(case=result.case, pages=result.pages, value=value)
            for result in results
            if result.case in self.cases and (value := self.read(result)) is not None
        )
        missing = [case for case in self.cases if case not in {each.case for each in measured}]
        close = [each for each in measured if self._is_close(each.value)]
        far = [each for each in measured if each not in close]
        verdict, reason = UNKNOWN, f"no figure of: {', '.join(missing)}"
        if far and not self._is_held(self._worst(far).value):
            verdict, reason = MISSED, f"{self._worst(far).case} decides"
        elif close and not missing:
            verdict, worst = CLOSE, self._worst(close)
            reason = f"{worst.case} scatters too much; more pairs than {worst.value.count} may tell"
        elif not missing:
            verdict, reason = REACHED, f"{self._worst(far).case} is the closest"
        return Verdict(
            goal=self.key,
            figure=self.figure,
            target=self.target,
            unit=self.unit,
            measured=measured,
            verdict=verdict,
            reason=reason,
        )

    def _worst(self, measured: Sequence[Measured]) -> Measured:
        return (min if self.at_least else max)(measured, key=lambda each: each.value.median)

    def _is_held(self, value: Spread) -> bool:
        return value.median >= self.limit if self.at_least else value.median <= self.limit

    def _is_close(self, value: Spread) -> bool:
        """Whether chance may have put it on its side of the limit."""
        return abs(value.median - self.limit) < (noise.margin(value.known) or 0.0)


def _ratio(metric: str) -> Read:
    return lambda result: result.ratios.get(metric)


def _figure(metric: str) -> Read:
    return lambda result: result.figure("memmerge", metric)


def _above_floor(result: Result) -> Spread | None:
    """The first pass over pages of which none merges, divided by reading and hashing them; pair by pair."""
    engine, floor = result.figure("memmerge", "first"), result.figure(NOBODY, "hash")
    if engine is None or floor is None:
        return None
    return spread(_over(engine.values, floor.values))


def _over(values: Iterable[float | None], divisors: Iterable[float | None]) -> Iterable[float | None]:
    for value, divisor in zip(values, divisors, strict=True):
        yield None if value is None or not divisor else value / divisor


def _against_ksm(metric: str) -> Read:
    def read(result: Result) -> Spread | None:
        ours, theirs = result.figure("memmerge", metric), result.figure("ksm", metric)
        return None if ours is None or theirs is None else spread(_over(ours.values, theirs.values))

    return read


MERGING = ("identical", "twice", "near-twice")

GOALS = (
    Goal(
        key="steady-random",
        figure="CPU per page looked at, random content, steady state",
        target="10 × less than KSM",
        unit="times",
        cases=("random",),
        read=_ratio("looked"),
        limit=10,
        at_least=True,
    ),
    Goal(
        key="steady-near",
        figure="CPU per page looked at, last-8-bytes content, steady state",
        target="50 × less than KSM",
        unit="times",
        cases=("near",),
        read=_ratio("looked"),
        limit=50,
        at_least=True,
    ),
    Goal(
        key="merge",
        figure="CPU to merge all-identical and every-page-twice content",
        target="5 × less than KSM",
        unit="times",
        cases=("identical", "twice"),
        read=_ratio("merge"),
        limit=5,
        at_least=True,
    ),
    Goal(
        key="time",
        figure="time to 95 % of the final saving at equal CPU share, by CPU time",
        target="10 × shorter than KSM",
        unit="times",
        cases=MERGING,
        read=_ratio("cpu95"),
        limit=10,
        at_least=True,
    ),
    Goal(
        key="join",
        figure="passes before an existing shared page is joined",
        target="1",
        unit="passes",
        cases=("identical", "twice"),
        read=_figure("join"),
        limit=1,
        at_least=False,
    ),
    Goal(
        key="floor",
        figure="CPU per page against reading and hashing the page once",
        target="≤ 1.5 ×",
        unit="times",
        cases=("random",),
        read=_above_floor,
        limit=1.5,
        at_least=False,
    ),
    Goal(
        key="metadata",
        figure="metadata per scanned page",
        target="≤ 16 bytes",
        unit="bytes",
        cases=("random", "near"),
        read=_figure("metadata"),
        limit=16,
        at_least=False,
    ),
    Goal(
        key="write50",
        figure="first write to a merged page, p50, against KSM",
        target="no worse",
        unit="times",
        cases=("identical", "twice"),
        read=_against_ksm("write50"),
        limit=1.05,
        at_least=False,
    ),
    Goal(
        key="write99",
        figure="first write to a merged page, p99, against KSM",
        target="no worse",
        unit="times",
        cases=("identical", "twice"),
        read=_against_ksm("write99"),
        limit=1.05,
        at_least=False,
    ),
    Goal(
        key="limit",
        figure="CPU time against cpu_limit_percent, 5 to 75 %",
        target="within a tenth",
        unit="share",
        cases=("limit",),
        read=_figure("limit_off"),
        limit=0.1,
        at_least=False,
    ),
    Goal(
        key="scanners",
        figure="two scanners on two processors, wall time of a first pass",
        target="≥ 1.8 × one",
        unit="times",
        cases=("scanners",),
        read=_figure("speedup"),
        limit=1.8,
        at_least=True,
    ),
    Goal(
        key="sharers",
        figure="page with 10,000 sharers: mappings that a reverse-map walk visits, the page locked",
        target="≤ 256 (max_page_sharing)",
        unit="mappings",
        cases=("sharers",),
        read=_figure("mappings"),
        limit=256,
        at_least=False,
    ),
    Goal(
        key="walk",
        figure="longest such walk, against KSM",
        target="no longer",
        unit="times",
        cases=("sharers",),
        read=_against_ksm("walk"),
        limit=1.05,
        at_least=False,
    ),
)


def judge(results: Sequence[Result]) -> list[Verdict]:
    """Judge every goal."""
    return [goal.judge(results) for goal in GOALS]
