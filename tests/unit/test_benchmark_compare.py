# SPDX-License-Identifier: GPL-2.0-only
"""A regression is named when it is more than noise and the engine's own; other machines are not compared."""

from __future__ import annotations

import pytest

from mergelab.benchmark import compare
from mergelab.benchmark.compare import IMPROVEMENT, MACHINE, REGRESSION, SAME
from mergelab.benchmark.summary import Result, spread
from mergelab.errors import MergelabError

MACHINE_FACTS = {"cpu": {"vendor": "V", "model": "M", "threads": 2}, "emulated": False}


def result(metric: str, ours: list[float], ksm: list[float], case: str = "random") -> Result:
    """A result whose engines have one figure each, by pair."""
    memmerge, other = spread(ours), spread(ksm)
    ratio = spread(theirs / own for theirs, own in zip(ksm, ours, strict=True))
    assert memmerge
    assert other
    assert ratio
    return Result(
        case=case,
        pages=65536,
        engines={"ksm": {metric: other}, "memmerge": {metric: memmerge}},
        ratios={metric: ratio},
    )


def verdict(
    metric: str, before: tuple[list[float], list[float]], after: tuple[list[float], list[float]]
) -> str:
    """What becomes of one figure."""
    (finding,) = compare.compare([result(metric, *before)], [result(metric, *after)])
    return finding.verdict


KSM = [1000.0, 1010.0, 990.0, 1005.0]
OURS = [100.0, 102.0, 98.0, 101.0]


def scaled(values: list[float], factor: float) -> list[float]:
    """The same, all of them higher or lower."""
    return [value * factor for value in values]


@pytest.mark.parametrize(
    ("factor", "expected"), [(1.0, SAME), (1.04, SAME), (0.97, SAME), (1.3, REGRESSION), (0.7, IMPROVEMENT)]
)
def test_engine_alone_moved(factor: float, expected: str) -> None:
    """KSM is as it was: what moved is the engine, and a little is noise."""
    assert verdict("first", (OURS, KSM), (scaled(OURS, factor), KSM)) == expected


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_machine_moved(factor: float) -> None:
    """A machine that is slower today slows the control as well; that is no regression of the engine."""
    assert verdict("first", (OURS, KSM), (scaled(OURS, factor), scaled(KSM, factor))) == MACHINE


def test_control_moved() -> None:
    """KSM that became better does not make the engine worse."""
    assert verdict("first", (OURS, KSM), (OURS, scaled(KSM, 0.5))) == SAME


def test_scatter_of_the_pairs_is_noise() -> None:
    """A median moves in a noisy benchmark; as long as the pairs scatter as much nothing is known."""
    noisy = [90.0, 100.0, 110.0, 150.0]
    assert verdict("first", (noisy, KSM), ([120.0, 130.0, 140.0, 200.0], KSM)) == SAME


def test_change_below_the_resolution_of_the_clock_is_none() -> None:
    """From 1 ns to 4 ns a page is 300 %, and nothing that the clock could tell."""
    resolution = spread([5.0])
    assert resolution
    before, after = (
        result("steady", values, KSM) for values in ([1.0, 1.01], [4.0, 4.01]) for KSM in ([9.0, 9.0],)
    )
    assert compare.compare([before], [after])[0].verdict == REGRESSION
    known = [
        Result(**{**vars(each), "engines": {**each.engines, "none": {"resolution": resolution}}})
        for each in (before, after)
    ]
    assert compare.compare(known[:1], known[1:])[0].verdict == SAME


def test_higher_is_better_where_it_is() -> None:
    """Less saved is worse, although the number is lower."""
    assert verdict("net", (OURS, KSM), (scaled(OURS, 0.5), KSM)) == REGRESSION
    assert verdict("net", (OURS, KSM), (scaled(OURS, 2), KSM)) == IMPROVEMENT


def test_two_pairs_that_agree_by_chance_prove_nothing() -> None:
    """Measured twice with the same engine, this once looked like a regression."""
    assert verdict("steady", ([552.0, 617.0], [375.0, 380.0]), ([630.0, 646.0], [371.0, 378.0])) == SAME


def test_figure_without_any_scatter() -> None:
    """Bytes of metadata do not scatter; a change of them is one."""
    assert verdict("metadata", ([20.0, 20.0], [64.0, 64.0]), ([24.0, 24.0], [64.0, 64.0])) == REGRESSION


def test_one_pair_needs_a_larger_change() -> None:
    """The noise of a single pair is not known."""
    assert verdict("first", ([100.0], [1000.0]), ([190.0], [1000.0])) == SAME
    assert verdict("first", ([100.0], [1000.0]), ([210.0], [1000.0])) == REGRESSION


def test_only_what_both_have_is_compared() -> None:
    """A case or figure that is new has no earlier one."""
    before, after = result("first", OURS, KSM), result("first", OURS, KSM, case="zero")
    assert compare.compare([before], [after]) == []
    assert compare.compare([before], [result("second", OURS, KSM)]) == []


def test_figures_that_are_neither_good_nor_bad_are_not_judged() -> None:
    """The share of a CPU says how it was measured, not how well the engine did."""
    assert compare.compare([result("share", OURS, KSM)], [result("share", scaled(OURS, 9), KSM)]) == []


def test_regressions_are_what_a_benchmark_fails_for() -> None:
    """An improvement or a moved machine is no failure."""
    after = scaled(OURS, 1.5)
    findings = compare.compare([result("first", OURS, KSM)], [result("first", after, KSM)])
    assert [each.metric for each in compare.regressions(findings)] == ["first"]
    assert (
        compare.regressions(compare.compare([result("first", after, KSM)], [result("first", OURS, KSM)]))
        == []
    )


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"cpu": {**MACHINE_FACTS["cpu"], "model": "N"}, "emulated": False}, "CPU model: M then, N now"),  # type: ignore[dict-item] # a dictionary
        ({"cpu": MACHINE_FACTS["cpu"], "emulated": True}, "emulated: False then, True now"),
    ],
)
def test_other_machine_is_refused(other: dict[str, object], said: str) -> None:
    """Figures of different processors are never compared, not even with a warning."""
    with pytest.raises(MergelabError) as caught:
        compare.require_same_machine("bench-1", MACHINE_FACTS, other)
    assert said in caught.value.cause
    compare.require_same_machine("bench-1", MACHINE_FACTS, dict(MACHINE_FACTS))
