# SPDX-License-Identifier: GPL-2.0-only
"""The charts of a benchmark: cost against size, saving against time, distributions of latency."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from mergelab import charts
from mergelab.benchmark import text
from mergelab.benchmark.lines import ENGINES, Line
from mergelab.benchmark.plan import PAGE
from mergelab.benchmark.summary import Result
from mergelab.benchmark.views import DrawingView, LegendView
from mergelab.charts import Axis, Series
from mergelab.figures import MISSING

SCALED = ("random", "near")
"""Cases whose cost per page is drawn against the size; a chart has line styles for two of them."""

QUANTILES = (50.0, 90.0, 99.0, 99.9)
"""Of a distribution, in per cent, that are given as figures."""

STATES = {"own": "unmerged", "merged": "merged", "scanned": "scanned, not merged"}


def all_of(results: Sequence[Result], lines: Sequence[Line]) -> tuple[DrawingView, ...]:
    """Every chart that there are figures for."""
    drawn: list[DrawingView] = []
    for metric in ("looked", "first"):
        drawn += _against_size(results, metric)
    for case, pages in dict.fromkeys((line.case, line.pages) for line in lines if line.kind == "growth"):
        if pages == max(line.pages for line in lines if line.kind == "growth" and line.case == case):
            drawn += _growth(case, pages, lines)
    for case, pages in dict.fromkeys((line.case, line.pages) for line in lines if line.kind == "writes"):
        if pages == max(line.pages for line in lines if line.kind == "writes" and line.case == case):
            drawn += _latency(case, pages, lines)
    return tuple(drawn)


def _against_size(results: Sequence[Result], metric: str) -> list[DrawingView]:
    series = []
    for case in SCALED:
        for engine in ENGINES:
            points = [
                (float(result.pages * PAGE), value.median)
                for result in results
                if result.case == case and (value := result.figure(engine, metric)) and value.median > 0
            ]
            if points:
                series.append(
                    Series(
                        name=f"{engine}, {case}",
                        x=[size for size, _ in points],
                        y=[cost for _, cost in points],
                    )
                )
    if not series:
        return []
    sizes = tuple(sorted({size for each in series for size in each.x}))

    def cost(each: Series, size: float) -> str:
        return text.quantity(each.y[list(each.x).index(size)], "ns") if size in each.x else MISSING

    return [
        _chart(
            key=f"size-{metric}",
            title=f"{text.metric(metric)}, against memory size",
            note="Medians; both axes are logarithmic.",
            series=series,
            rows=[[cost(each, size) for size in sizes] for each in series],
            columns=[text.memory(round(size / PAGE)) for size in sizes],
            unit="ns",
            x=Axis(unit="bytes", log=True, ticks=sizes),
            log=True,
        )
    ]


def _growth(case: str, pages: int, lines: Sequence[Line]) -> list[DrawingView]:
    """The first pair of which both engines were measured."""
    found: dict[str, Line] = {}
    for line in lines:
        if line.kind == "growth" and (line.case, line.pages) == (case, pages):
            found.setdefault(line.engine, line)
    drawn = []
    for clock, what in (("wall_ns", "time"), ("cpu_ns", "CPU time")):
        series = [
            Series(
                name=engine,
                x=[value / 1e9 for value in found[engine].data[clock]],
                y=[float(value * PAGE) for value in found[engine].data["saved"]],
            )
            for engine in ENGINES
            if engine in found
        ]
        drawn.append(
            _chart(
                key=f"growth-{case}-{clock}",
                title=f"{case}, {text.memory(pages)}: saved memory against {what}",
                note="Of the first pair.",
                series=series,
                rows=[
                    [text.quantity(each.y[-1], "bytes"), text.quantity(each.x[-1], "s")] for each in series
                ],
                columns=("Saved", "Watched for"),
                unit="bytes",
                x=Axis(unit="s"),
            )
        )
    return drawn


def _latency(case: str, pages: int, lines: Sequence[Line]) -> list[DrawingView]:
    """Distribution of the first pair: which share of the first writes took at most so long."""
    found: dict[tuple[str, str], Line] = {}
    for line in lines:
        if line.kind == "writes" and (line.case, line.pages) == (case, pages):
            found.setdefault((line.engine, line.data["state"]), line)
    series = [
        Series(
            name=f"{engine}, {STATES[state]}" if engine else STATES[state],
            x=[max(float(value), 1.0) for value in line.data["ns"]],
            y=[part / 10 for part in line.data["per_mille"]],
        )
        for (engine, state), line in sorted(found.items())
    ]
    return [
        _chart(
            key=f"latency-{case}",
            title=f"{case}, {text.memory(pages)}: first writes that took at most so long",
            note="Share of the writes against their duration, which is logarithmic; of the first pair.",
            series=series,
            rows=[[text.quantity(each.x[each.y.index(part)], "ns") for part in QUANTILES] for each in series],
            columns=[f"p{part:g}" for part in QUANTILES],
            unit="%",
            x=Axis(unit="ns", log=True),
        )
    ]


def _chart(
    *,
    key: str,
    title: str,
    note: str,
    series: Sequence[Series],
    rows: Sequence[Sequence[str]],
    columns: Sequence[str],
    unit: str,
    x: Axis,
    log: bool = False,
) -> DrawingView:
    """Draw series, with a row of figures for each."""
    said = "; ".join(
        f"{each.name}: {', '.join(f'{name} {cell}' for name, cell in zip(columns, cells, strict=True))}"
        for each, cells in zip(series, rows, strict=True)
    )
    svg = charts.draw(key, series, (), unit, f"{title}: {said}", x=x, log=log)
    return DrawingView(
        title=title,
        note=note,
        svg=Markup(svg),  # noqa: S704 - drawn by charts, which escapes the label
        columns=tuple(columns),
        legend=tuple(
            LegendView(name=each.name, style=f"line-{number % len(charts.DASHES) + 1}", cells=tuple(cells))
            for number, (each, cells) in enumerate(zip(series, rows, strict=True))
        ),
    )
