# SPDX-License-Identifier: GPL-2.0-only
"""A benchmark as one page that opens offline."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from mergelab import render
from mergelab.benchmark import drawings, goals, record, summary, text
from mergelab.benchmark.lines import ENGINES, Line
from mergelab.benchmark.summary import METRICS, NOBODY, Result
from mergelab.benchmark.views import (
    BaselineView,
    BenchPage,
    CaseView,
    CellView,
    ChangeView,
    GoalView,
    OverviewView,
    RowView,
)
from mergelab.figures import MISSING, duration, moment, unix_seconds
from mergelab.views import Pair

OVERVIEW = ("first", "looked", "merge", "cpu95", "metadata", "write99")
"""Figures of the overview: of each the ratio, and both medians."""

IN_USER_MODE = (
    "Measured in User-Mode Linux: the kernel's own code runs natively, in one process, on one processor. "
    "Changes of page tables and faults cost more than on hardware, for both engines; ratios carry over "
    "better than times do."
)
ON_EMULATED = (
    "Measured on an emulated host: every instruction costs what its emulation does, so that only ratios say "
    "anything, and they not much."
)


def banner(made: record.Record) -> str:
    """What a reader has to know of the place where it was measured; empty for hardware."""
    if made["plan"]["room"] == "uml":
        return IN_USER_MODE
    return ON_EMULATED if made["machine"].get("emulated") else ""


def tag(made: record.Record) -> str:
    """Where it was measured, in a word or two."""
    if made["plan"]["room"] == "uml":
        return "User-Mode Linux"
    kind = "emulated host" if made["machine"].get("emulated") else "host"
    return f"{kind} {made['plan']['host']}"


def page(made: record.Record) -> BenchPage:
    """Format a valid record."""
    results = record.results(made)
    lines = record.measurements(made)
    verdicts = [_goal(each) for each in made["goals"]]
    known = [each["verdict"] for each in made["goals"]]
    reached, missed, close, unknown = map(
        known.count, (goals.REACHED, goals.MISSED, goals.CLOSE, goals.UNKNOWN)
    )
    headline, mark, tone = f"{reached} of {len(verdicts)} goals reached", "✓", "green"
    if missed:
        mark, tone = "✗", "red"
    elif reached < len(verdicts):
        mark, tone = "?", "amber"
    baseline = _baseline(made["baseline"]) if "baseline" in made else None
    return BenchPage(
        bench=made["bench"],
        started=moment(made["started"]),
        took=f"took {duration(unix_seconds(made['ended']) - unix_seconds(made['started']))}",
        headline=headline,
        mark=mark,
        tone=tone,
        sentence=f"{missed} not reached, {close} too close to tell, {unknown} not measured."
        + (f" {baseline.sentence}" if baseline else ""),
        banner=banner(made),
        tag=tag(made),
        summary=_summary(made),
        goals=tuple(verdicts),
        columns=tuple(text.metric(key) for key in OVERVIEW),
        overview=tuple(_overview(result) for result in results),
        charts=drawings.all_of(results, lines),
        cases=tuple(_case(result) for result in results),
        baseline=baseline,
        notes=notes(made, lines),
        not_measured=tuple(Pair(name=each["what"], text=each["why"]) for each in made["not_measured"]),
        provenance=(
            *render.groups(made["machine"], "machine"),
            *render.groups({"kernel and program": made["build"], "tools": made["tools"]}, ""),
        ),
        commit=made.get("commit", MISSING),
    )


def html(view: BenchPage) -> str:
    """The page, which needs nothing beside it."""
    return render.environment().get_template("bench.html").render(page=view)


def _summary(made: record.Record) -> tuple[Pair, ...]:
    machine = made["machine"]
    sizes = sorted({item["pages"] for item in made["plan"]["items"]})
    return (
        Pair(name="processor", text=str(machine.get("cpu", {}).get("model", MISSING))),
        Pair(name="kernel", text=made["build"]["kernel_release"]),
        Pair(name="sizes", text=", ".join(text.memory(size) for size in sizes)),
        Pair(name="pairs of runs", text=str(made["plan"]["pairs"])),
        Pair(
            name="load of the machine",
            text=f"{made['load']['before']:g} before, {made['load']['after']:g} after",
        ),
    )


def _goal(each: Mapping[str, Any]) -> GoalView:
    mark, tone = text.TONES[each["verdict"]]
    measured = tuple(
        f"{one['case']} {text.memory(one['pages'])}: "
        f"{text.spread(record.spread_from_json(one['value']), each['unit'])}"
        for one in each["measured"]
    )
    return GoalView(
        figure=each["figure"],
        target=each["target"],
        measured=measured or (MISSING,),
        verdict=each["verdict"],
        mark=mark,
        tone=tone,
        reason=each["reason"],
    )


def _anchor(result: Result) -> str:
    return f"case-{result.case}-{result.pages}"


def _overview(result: Result) -> OverviewView:
    cells = []
    for key in OVERVIEW:
        ksm, memmerge = (result.figure(engine, key) for engine in ENGINES)
        unit = METRICS[key].unit
        if ksm is None and memmerge is None:
            cells.append(CellView(ratio="–", medians=""))
            continue
        ratio = result.ratios.get(key)
        cells.append(
            CellView(
                ratio=text.median(ratio, "times") if ratio else "–",
                medians=f"{text.median(ksm, unit)} : {text.median(memmerge, unit)}",
            )
        )
    return OverviewView(
        anchor=_anchor(result), case=result.case, memory=text.memory(result.pages), cells=tuple(cells)
    )


def _case(result: Result) -> CaseView:
    rows = []
    for key, what in METRICS.items():
        ksm, memmerge = (result.figure(engine, key) for engine in ENGINES)
        if ksm is None and memmerge is None:
            continue
        rows.append(
            RowView(
                name=what.title,
                ksm=text.spread(ksm, what.unit),
                memmerge=text.spread(memmerge, what.unit),
                ratio=text.spread(result.ratios[key], "times")
                if what.better and key in result.ratios
                else "–",
            )
        )
    beside = tuple(
        Pair(name=f"{METRICS[key].title}, unmerged" if key.startswith("write") else METRICS[key].title,
             text=text.spread(value, METRICS[key].unit))
        for key, value in result.engines.get(NOBODY, {}).items()
    )  # fmt: skip # a pair is one line of the table
    return CaseView(
        anchor=_anchor(result),
        name=result.case,
        title=summary.title(result.case),
        memory=text.memory(result.pages),
        rows=tuple(rows),
        beside=beside,
    )


def _baseline(value: Mapping[str, Any]) -> BaselineView:
    changes = []
    for verdict in text.ORDER:
        for each in value["findings"]:
            if each["verdict"] != verdict:
                continue
            mark, tone = text.CHANGES[verdict]
            before, after = (record.spread_from_json(each[key]) for key in ("before", "after"))
            unit = METRICS[each["figure"]].unit
            changes.append(
                ChangeView(
                    case=each["case"],
                    memory=text.memory(each["pages"]),
                    figure=METRICS[each["figure"]].title,
                    before=text.spread(before, unit),
                    after=text.spread(after, unit),
                    change=text.relative(before, after),
                    verdict=text.WORDS[verdict],
                    mark=mark,
                    tone=tone,
                )
            )
    return BaselineView(
        bench=value["bench"],
        sentence=text.verdict_of(value),
        notes=tuple(value["notes"]),
        changes=tuple(changes),
    )


def notes(made: record.Record, lines: Sequence[Line]) -> tuple[str, ...]:
    """How the figures came about, as far as it differs from one benchmark to the next."""
    found = []
    machine = next((line.data for line in lines if line.kind == "machine"), None)
    watching = [line.data for line in lines if line.kind == "watching"]
    if machine is not None:
        step = text.quantity(machine["thread_step_ns"], "ns")
        clock = (
            "CPU time is that of the whole kernel, as its host accounts it"
            if machine["clock"] == "host"
            else "CPU time is that of the scanner's thread"
        )
        found.append(f"{clock}; the kernel's own account of a thread moves in steps of {step}.")
        found.append(
            f"Mappings of one merged page: KSM at most {machine['ksm_max_page_sharing']}, memmerge at most "
            f"{machine['memmerge_max_page_sharing']}; sleep 0 while the saving grows, smart_scan on."
        )
    if watching:
        ask = text.quantity(statistics.median(each["ask_ns"] for each in watching), "ns")
        share = text.quantity(statistics.median(each["ns_per_s"] for each in watching) / 1e9, "share")
        found.append(
            f"Resolution: looking at the clock costs {ask}, waiting for the end of a pass {share} of a CPU. "
            "Both are taken off the cost of each pass."
        )
    samples = [each["sample_ns"] for each in watching if "sample_ns" in each]
    if samples:
        look = text.quantity(statistics.median(samples), "ns")
        found.append(
            f"While the saving grows each look at it costs {look} at first, and more where an engine has "
            "to count what is saved (the case's own figure); both are taken off its CPU time."
        )
    late = sum(line.data["late"] for line in lines if line.kind == "pass")
    passes = sum(line.kind == "pass" for line in lines)
    found.append(
        f"The end of {late} of {passes} passes was seen too late; a figure that hangs on one is left out."
    )
    found.append(
        "Figures are medians over the pairs, in brackets the lowest and the highest; a ratio is the median "
        "of the ratios of each pair."
    )
    return tuple(found)
