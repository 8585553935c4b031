# SPDX-License-Identifier: GPL-2.0-only
"""From lines to figures: medians over pairs, net of the cost of watching, and nothing invented."""

from __future__ import annotations

from typing import Any

import pytest

from mergelab.benchmark import summary
from mergelab.benchmark.lines import Line
from mergelab.benchmark.summary import NOBODY, Result, Spread, crossing, spread

PAGES = 1000
ASK, WATCH = 100, 1_000_000


def line(kind: str, engine: str = "", pair: int = 1, case: str = "random", **data: Any) -> Line:
    """One measurement."""
    return Line(kind=kind, case=case, pages=PAGES, pair=pair, engine=engine, data=data)


def one_pass(engine: str, number: int, cost: int, *, pair: int = 1, **other: Any) -> Line:
    """A pass that costs so many nanoseconds a page, and took a second while it was watched."""
    data: dict[str, Any] = {"saved": 0, "scanned": PAGES, "late": 0, **other}
    return line(
        "pass",
        engine,
        pair,
        **{"pass": number, "cpu_ns": cost * PAGES + ASK + WATCH, "wall_ns": 1_000_000_000, **data},
    )


def watching(pair: int = 1) -> Line:
    """What watching costs in these tests."""
    return line("watching", pair=pair, ask_ns=ASK, ns_per_s=WATCH)


def only(lines: list[Line]) -> Result:
    """The result of one case."""
    (result,) = summary.results(lines)
    return result


def median(result: Result, engine: str, metric: str) -> float | None:
    """A median, None when there is no figure."""
    found = result.figure(engine, metric)
    return None if found is None else found.median


def test_spread() -> None:
    """The median, not the mean: one disturbed pair does not move it."""
    assert spread([3.0, None, 1.0, 100.0]) == Spread(
        median=3.0, low=1.0, high=100.0, values=(3.0, None, 1.0, 100.0)
    )
    found = spread([1.0, 2.0])
    assert found is not None
    assert (found.median, found.count) == (1.5, 2)
    assert spread([None, None]) is None
    assert spread([]) is None


def test_cost_is_net_of_watching() -> None:
    """Looking at the clock and waiting are not the engine's."""
    result = only([watching(), one_pass("ksm", 1, 700), one_pass("ksm", 2, 4000)])
    assert median(result, "ksm", "first") == 700
    assert median(result, "ksm", "second") == 4000


def test_cost_is_never_negative() -> None:
    """Noise below the cost of watching is nothing, not a gain."""
    cheap = one_pass("memmerge", 1, 0)
    result = only([watching(), Line(**{**vars(cheap), "data": {**cheap.data, "cpu_ns": 5}})])
    assert median(result, "memmerge", "first") == 0


def test_ratio_is_the_median_of_the_ratios_of_pairs() -> None:
    """A machine that is slower during one pair slows both engines: the ratio does not notice."""
    costs = {1: (1000, 100), 2: (9000, 900), 3: (3000, 200)}
    lines = []
    for pair, (ksm, memmerge) in costs.items():
        lines += [watching(pair), one_pass("ksm", 1, ksm, pair=pair)]
        lines.append(one_pass("memmerge", 1, memmerge, pair=pair))
    result = only(lines)
    assert result.ratios["first"].median == 10
    assert result.ratios["first"].values == (10, 10, 15)
    assert median(result, "ksm", "first") == 3000


def test_ratio_knows_the_resolution_of_the_clock() -> None:
    """A cost that the clock cannot tell from nothing is not infinitely small."""
    coarse = line("watching", ask_ns=5 * PAGES, ns_per_s=0)
    known: dict[str, Any] = {"pass": 1, "wall_ns": 0, "saved": 0, "scanned": 0, "late": 0}
    passes = [
        line("pass", engine, cpu_ns=cost * PAGES, **known) for engine, cost in (("ksm", 55), ("memmerge", 5))
    ]
    result = only([coarse, *passes])
    assert median(result, NOBODY, "resolution") == 5
    assert median(result, "memmerge", "first") == 0
    assert result.ratios["first"].median == 10


def test_pair_that_lacks_one_engine_has_no_ratio() -> None:
    """A ratio of figures from different pairs would compare different machines."""
    result = only([watching(), one_pass("ksm", 1, 10), watching(2), one_pass("memmerge", 1, 10, pair=2)])
    assert result.ratios == {}


def steady(late: tuple[int, ...] = (), scanned: int = 111) -> list[Line]:
    """KSM over random pages: 23 passes, of which the last nine look at every page once."""
    return [
        watching(),
        *(
            one_pass("ksm", number, 4500 if number == 23 else 100, scanned=scanned, late=number in late)
            for number in range(1, 24)
        ),
    ]


def test_steady_state_is_a_whole_round_of_skipping() -> None:
    """KSM skips a page in eight of nine passes; any shorter window would flatter or wrong it."""
    result = only(steady())
    assert median(result, "ksm", "steady") == pytest.approx((8 * 100 + 4500) / 9)
    assert median(result, "ksm", "looked") == pytest.approx((8 * 100 + 4500) * PAGES / (9 * 111))


def test_engine_that_skips_nothing_is_charged_for_every_page() -> None:
    """Memmerge vouches for all pages in each pass, whatever it counts as scanned."""
    passes = [one_pass("memmerge", number, 50, scanned=3) for number in range(1, 24)]
    result = only([watching(), *passes])
    assert median(result, "memmerge", "looked") == median(result, "memmerge", "steady") == 50


@pytest.mark.parametrize(
    ("late", "first", "second", "steady_state"),
    [
        ((1,), False, False, True),
        ((2,), True, False, True),
        ((14,), True, True, False),
        ((18,), True, True, True),
        ((23,), True, True, False),
    ],
)
def test_late_look_spoils_what_hangs_on_it(
    late: tuple[int, ...], first: bool, second: bool, steady_state: bool
) -> None:
    """A pass whose end was seen too late holds cost of the next; inside of a sum that does not matter."""
    result = only(steady(late))
    found = tuple(result.figure("ksm", metric) is not None for metric in ("first", "second", "steady"))
    assert found == (first, second, steady_state)


def test_cost_of_merging_ends_with_the_pass_that_completes_the_saving() -> None:
    """KSM's two passes count, what it does afterwards does not."""
    saved = (0, 499, 500, 500, 500)
    passes = [one_pass("ksm", number, 100, saved=pages) for number, pages in enumerate(saved, 1)]
    assert median(only([watching(), *passes]), "ksm", "merge") == 200


def test_nothing_saved_has_no_cost_of_merging() -> None:
    """A division of cost by no saving is no figure."""
    assert median(only(steady()), "ksm", "merge") is None


def test_crossing() -> None:
    """Between two samples by a straight line; never beyond the last."""
    assert crossing([0, 10, 20], [0, 100, 200], 150) == 15
    assert crossing([5, 10], [7, 9], 7) == 5
    assert crossing([0, 10, 20], [0, 100, 200], 201) is None
    assert crossing([], [], 1) is None


def growth(engine: str, *points: tuple[int, int]) -> Line:
    """Samples of wall time in seconds and pages saved; half of a CPU is used."""
    return line(
        "growth",
        engine,
        wall_ns=[seconds * 10**9 for seconds, _ in points],
        cpu_ns=[seconds * 10**9 // 2 for seconds, _ in points],
        saved=[pages for _, pages in points],
    )


def test_times_refer_to_the_larger_of_both_savings() -> None:
    """An engine that saves less must not look quick for it."""
    result = only([growth("ksm", (0, 0), (10, 100)), growth("memmerge", (0, 0), (1, 90), (2, 90))])
    assert median(result, "ksm", "wall95") == 9.5
    assert median(result, "ksm", "cpu95") == 4.75
    assert median(result, "ksm", "share") == 0.5
    assert median(result, "memmerge", "wall95") is None
    assert median(result, "memmerge", "wall50") == pytest.approx(50 / 90)
    assert "wall95" not in result.ratios


def test_times_are_net_of_looking() -> None:
    """The cost of all samples before is taken off the CPU time, not off the time of day."""
    looking = line("watching", ask_ns=ASK, ns_per_s=WATCH, sample_ns=10**9)
    points = (0, 0), (10, 0), (20, 100)
    result = only([looking, growth("ksm", *points), growth("memmerge", *points)])
    assert median(result, "ksm", "wall50") == 15
    assert median(result, "ksm", "cpu50") == 7.5 - 1.5


def test_counting_what_is_saved_is_looking_too() -> None:
    """An engine that counts needs longer for a sample the more there is; it does so only for us."""
    looking = line("watching", ask_ns=ASK, ns_per_s=WATCH, sample_ns=10**8)
    points = (0, 0), (10, 50), (20, 100)
    full = line("looking", "memmerge", sample_ns=10**9)
    result = only([looking, growth("ksm", *points), growth("memmerge", *points), full])
    assert median(result, "memmerge", "look") == 10**9
    assert median(result, "memmerge", "cpu50") == pytest.approx(5 - 0.55)
    assert median(result, "ksm", "cpu50") == pytest.approx(5 - 0.1)
    assert median(result, "memmerge", "wall50") == 10
    assert median(result, "ksm", "look") is None


def test_no_saving_has_no_times() -> None:
    """Zero is reached at once; that would be the best time of all."""
    result = only([growth("ksm", (0, 0), (10, 0)), growth("memmerge", (0, 0), (1, 0))])
    assert median(result, "ksm", "wall50") is None


def test_metadata_and_net_saving() -> None:
    """What is saved is worth what is left when the engine's own memory is taken off."""
    state: dict[str, Any] = {"thread_ns": 5000, "shared": 1, "saved": 400, "free_gain": 0}
    result = only([line("state", "ksm", **state, metadata=64_000), line("state", "memmerge", **state)])
    assert median(result, "ksm", "metadata") == 64
    assert median(result, "ksm", "net") == 400 * 4096 - 64_000
    assert median(result, "memmerge", "saved") == 400 * 4096
    assert median(result, "memmerge", "metadata") is None


def test_latency_and_floor_without_an_engine() -> None:
    """What is measured without an engine stands apart."""
    writes: dict[str, Any] = {"state": "own", "writes": 9, "per_mille": [500, 990, 1000], "ns": [20, 40, 90]}
    result = only(
        [line("floor", ps_per_page=512_345), line("writes", **writes), line("writes", "ksm", **writes)]
    )
    assert median(result, NOBODY, "hash") == 512.345
    assert median(result, NOBODY, "write50") == 20
    assert median(result, "ksm", "write99") == 40


def test_join_that_never_came() -> None:
    """Memory that did not join within the passes has no number of passes."""
    result = only(
        [line("join", "ksm", joined=3, of=256), line("join", "memmerge", joined=256, of=256, passes=1)]
    )
    assert median(result, "ksm", "join") is None
    assert median(result, "memmerge", "join") == 1


def test_churn() -> None:
    """Cost is per page that was scanned, the saving against what can still be saved."""
    data: dict[str, Any] = {
        "wall_ns": 1,
        "rewritten": 100,
        "passes": 5,
        "scanned": 5000,
        "lowest_saved": 1,
        "saved": 396,
    }
    result = only([line("churn", "ksm", case="rewritten", cpu_ns=10_000, **data)])
    assert median(result, "ksm", "churn") == 2
    assert median(result, "ksm", "churn_kept") == pytest.approx(0.99)


def limit(percent: int, spent_ms: float, waited_ms: int = 0) -> Line:
    """What a limited scanner took in a second, and the question for it."""
    return line(
        "limit",
        "memmerge",
        percent=percent,
        wall_ns=1_000_000_000,
        cpu_ns=round(spent_ms * 1_000_000) + ASK,
        delay_ns=waited_ms * 1_000_000,
        account_ns=0,
        scanned=0,
    )


@pytest.mark.parametrize(("at_ten", "off"), [(105, 0.05), (80, 0.2), (112, 0.12)])
def test_limit_is_judged_by_the_worst(at_ten: float, off: float) -> None:
    """Off is off, upwards or downwards; what the machine takes by itself is not the scanner's."""
    own = 7
    lines = [watching(), limit(0, own), limit(10, at_ten + own), limit(50, 510 + own)]
    found = median(only(lines), "memmerge", "limit_off")
    assert found == pytest.approx(off)


@pytest.mark.parametrize(("spent", "waited", "off"), [(80, 25, 0), (60, 20, 0.2), (115, 20, 0.15)])
def test_waiting_for_a_processor_excuses_only_the_slow(spent: int, waited: int, off: float) -> None:
    """Who took more than the limit took it, however long he waited beside."""
    found = median(only([watching(), limit(0, 0), limit(10, spent, waited)]), "memmerge", "limit_off")
    assert found == pytest.approx(off)


def test_waiting_that_explains_everything_says_nothing() -> None:
    """On a busy machine nobody knows how well a limit was kept."""
    lines = [watching(), limit(0, 0), limit(10, 40, 60), limit(50, 500)]
    assert median(only(lines), "memmerge", "limit_off") is None


def test_no_limit_no_figure() -> None:
    """Without a limited scanner nothing is known of limits."""
    assert median(only([watching(), limit(0, 1)]), "memmerge", "limit_off") is None


def test_scanners() -> None:
    """How much quicker two are than one, whichever came first, and by what is usual of each."""
    two = line("scanners", "memmerge", scanners=2, wall_ns=600, account_ns=1100)
    one = line("scanners", "memmerge", scanners=1, wall_ns=1080, account_ns=1000)
    slow = line("scanners", "memmerge", scanners=2, wall_ns=5000, account_ns=1100)
    assert median(only([watching(), two, one]), "memmerge", "speedup") == pytest.approx(1.8)
    assert median(only([watching(), two, one, slow, two]), "memmerge", "speedup") == pytest.approx(1.8)
    assert median(only([watching(), two]), "memmerge", "speedup") is None


def test_readers() -> None:
    """What the machine itself makes of a second processor stands beside it."""
    two = line("readers", readers=2, wall_ns=600)
    one = line("readers", readers=1, wall_ns=900)
    assert median(only([watching(), one, two]), summary.NOBODY, "readers") == pytest.approx(1.5)
    assert median(only([watching(), two]), summary.NOBODY, "readers") is None


def test_walks() -> None:
    """How many mappings a walk visits, and how long it takes."""
    result = only([watching(), line("walks", "memmerge", frames=40, mappings=256, longest=30_000)])
    assert median(result, "memmerge", "mappings") == 256
    assert median(result, "memmerge", "walk") == 30_000


def test_longest_holds() -> None:
    """They are shown as the engine tells them."""
    result = only([watching(), line("holds", "memmerge", domain=70_000, table=9_000)])
    assert median(result, "memmerge", "hold_domain") == 70_000
    assert median(result, "memmerge", "hold_table") == 9_000
