# SPDX-License-Identifier: GPL-2.0-only
"""A goal is reached only where it was measured, and by the case that is furthest from it."""

from __future__ import annotations

import pytest

from mergelab.benchmark import goals
from mergelab.benchmark.goals import CLOSE, MISSED, REACHED, UNKNOWN
from mergelab.benchmark.summary import Result, Spread, spread


def exactly(value: float) -> Spread:
    """A figure without noise."""
    return Spread(median=value, low=value, high=value, values=(value,))


def result(
    case: str, *, pages: int = 65536, ratio: dict[str, float] | None = None, **engines: dict[str, float]
) -> Result:
    """A result of ratios and of figures by engine."""
    return Result(
        case=case,
        pages=pages,
        engines={
            engine: {key: exactly(value) for key, value in figures.items()}
            for engine, figures in engines.items()
        },
        ratios={key: exactly(value) for key, value in (ratio or {}).items()},
    )


def verdict(goal: str, *results: Result) -> tuple[str, str]:
    """Verdict and reason of one goal."""
    (found,) = [each for each in goals.judge(results) if each.goal == goal]
    return found.verdict, found.reason


def test_nothing_measured_reaches_nothing() -> None:
    """No figure, no verdict: not a single goal passes by default."""
    assert {each.verdict for each in goals.judge([])} == {UNKNOWN}
    assert all(each.reason for each in goals.judge([]))


@pytest.mark.parametrize(("ratio", "expected"), [(9.99, MISSED), (10.0, REACHED), (80.0, REACHED)])
def test_ratio(ratio: float, expected: str) -> None:
    """A ratio reaches its goal at it, not below."""
    assert verdict("steady-random", result("random", ratio={"looked": ratio}))[0] == expected


def test_worst_size_decides() -> None:
    """A goal that holds for small memory only does not hold."""
    small = result("random", ratio={"looked": 20})
    large = result("random", pages=1 << 20, ratio={"looked": 7})
    assert verdict("steady-random", small, large) == (MISSED, "random decides")


def test_every_case_must_have_been_measured() -> None:
    """Half of a goal is not reached; but one case can miss it alone."""
    good, bad = result("identical", ratio={"merge": 9}), result("identical", ratio={"merge": 2})
    assert verdict("merge", good) == (UNKNOWN, "no figure of: twice")
    assert verdict("merge", bad) == (MISSED, "identical decides")
    assert verdict("merge", good, result("twice", ratio={"merge": 6})) == (REACHED, "twice is the closest")


@pytest.mark.parametrize(("cost", "expected"), [(750, REACHED), (751, MISSED)])
def test_floor(cost: float, expected: str) -> None:
    """The first pass is held against reading and hashing the same pages in the same boot."""
    measured = result("random", memmerge={"first": cost}, none={"hash": 500})
    assert verdict("floor", measured)[0] == expected


def test_floor_that_was_not_measured() -> None:
    """Without the floor nothing is known about it."""
    assert verdict("floor", result("random", memmerge={"first": 1}))[0] == UNKNOWN


@pytest.mark.parametrize(("size", "expected"), [(16, REACHED), (16.1, MISSED)])
def test_metadata(size: float, expected: str) -> None:
    """Bytes for each scanned page, in the case that needs most."""
    measured = [
        result(case, memmerge={"metadata": value}) for case, value in (("random", 12), ("near", size))
    ]
    assert verdict("metadata", *measured)[0] == expected


@pytest.mark.parametrize(("ours", "expected"), [(10_000, REACHED), (10_500, REACHED), (10_600, MISSED)])
def test_first_write_is_no_worse(ours: float, expected: str) -> None:
    """Equal within a twentieth is no worse."""
    measured = [
        result(case, ksm={"write99": 10_000}, memmerge={"write99": ours}) for case in ("identical", "twice")
    ]
    assert verdict("write99", *measured)[0] == expected


@pytest.mark.parametrize(("off", "expected"), [(0.1, REACHED), (0.11, MISSED)])
def test_limit(off: float, expected: str) -> None:
    """Too slow misses it as too fast does: the figure has no sign."""
    assert verdict("limit", result("limit", memmerge={"limit_off": off}))[0] == expected


@pytest.mark.parametrize(("speedup", "expected"), [(1.79, MISSED), (1.8, REACHED)])
def test_scanners(speedup: float, expected: str) -> None:
    """How much quicker two are; the time of one is no goal."""
    assert verdict("scanners", result("scanners", memmerge={"speedup": speedup}))[0] == expected


def test_what_was_not_measured_is_not_judged() -> None:
    """Whatever else was."""
    assert verdict("scanners", result("sharers", ratio={"merge": 100}))[0] == UNKNOWN


def scattered(*ratios: float, case: str = "random") -> Result:
    """A result whose ratio scatters from pair to pair."""
    value = spread(ratios)
    assert value
    return Result(case=case, pages=65536, engines={}, ratios={"looked": value, "merge": value})


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [
        ((9.0, 10.3, 12.0), CLOSE),
        ((8.0, 9.7, 12.0), CLOSE),
        ((8.0, 8.1, 8.2), MISSED),
        ((11.0, 11.1, 11.2), REACHED),
        ((70.5, 72.9, 82.5), REACHED),
        ((10.4, 10.8), CLOSE),
        ((10.0, 10.0, 10.0), REACHED),
    ],
)
def test_within_the_noise_nothing_is_said(ratios: tuple[float, ...], expected: str) -> None:
    """On either side of the goal the verdict would be another one in the next run."""
    assert verdict("steady-random", scattered(*ratios))[0] == expected


def test_more_pairs_tell() -> None:
    """The same scatter, more often: what was too close is reached."""
    assert verdict("steady-random", scattered(*(9.0, 10.6, 12.0) * 6))[0] == REACHED


def test_one_case_that_misses_it_for_certain_decides() -> None:
    """Whatever another is too close for."""
    close, bad = scattered(4.0, 5.2, 6.0, case="identical"), scattered(2.0, 2.1, case="twice")
    assert verdict("merge", close, bad) == (MISSED, "twice decides")
    assert verdict("merge", close, scattered(9.0, 9.1, case="twice")) == (
        CLOSE,
        "identical scatters too much; more pairs than 3 may tell",
    )
