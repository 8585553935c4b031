# SPDX-License-Identifier: GPL-2.0-only
"""Telemetry as charts: which curves there are, how each is read from a sample, and their figures."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from mergelab import charts
from mergelab.charts import Band, Series
from mergelab.figures import MISSING, unix_seconds, value
from mergelab.store import Object, Telemetry, lookup_number
from mergelab.views import ChartView, CurveView


@dataclass(frozen=True, kw_only=True)
class Plot:
    """What a chart shows: a title, one unit, and how each curve is read from a sample."""

    title: str
    note: str
    unit: str
    curves: Mapping[str, Callable[[Object], float | None]]


def _at(path: str, factor: float = 1.0) -> Callable[[Object], float | None]:
    def read(sample: Object) -> float | None:
        found = lookup_number(sample, path)
        return None if found is None else found * factor

    return read


def _sum(key: str) -> Callable[[Object], float | None]:
    def read(sample: Object) -> float | None:
        sizes = [lookup_number(guest, key) for guest in sample.get("guests", {}).values()]
        known = [each for each in sizes if each is not None]
        return sum(known) if known and len(known) == len(sizes) else None

    return read


PLOTS = (
    Plot(
        title="Memory of the host",
        note="What the host could still give, and what anonymous pages take.",
        unit="bytes",
        curves={"MemAvailable": _at("meminfo.MemAvailable"), "AnonPages": _at("meminfo.AnonPages")},
    ),
    Plot(
        title="Merged pages",
        note="Merged pages in use, further mappings of them (each a page saved), mappings of the zero page.",
        unit="pages",
        curves={
            "pages_sharing": _at("engine.pages_sharing"),
            "pages_shared": _at("engine.pages_shared"),
            "pages_mapped_zero": _at("engine.pages_mapped_zero"),
        },
    ),
    Plot(
        title="All guests together",
        note="What the guests map (RSS) beside what they cost once shared pages are split (PSS).",
        unit="bytes",
        curves={"RSS, sum": _sum("rss"), "PSS, sum": _sum("pss")},
    ),
    Plot(
        title="CPU time of scanning",
        note="Since the module was loaded: every scan, and the scanner thread alone.",
        unit="s",
        curves={"all scanning": _at("engine.scan_cpu_ns", 1e-9), "scanner thread": _at("scanner_cpu_s")},
    ),
    Plot(
        title="Pressure",
        note="Share of the last 10 s in which some task waited (PSI).",
        unit="%",
        curves={"memory, some": _at("psi.memory_some_avg10"), "cpu, some": _at("psi.cpu_some_avg10")},
    ),
)


def views(
    host: str, heard: Telemetry, evidence: Sequence[Object], numbers: Sequence[int], tag: str
) -> tuple[ChartView, ...]:
    """Draw every chart of one host.

    Args:
        host: its name, for the ids in the drawings.
        heard: its telemetry.
        evidence: of its checks, which become the bands behind the curves.
        numbers: of these checks on the page.
        tag: what is said beside a figure that is not a hardware's; empty for hardware.
    """
    if not heard.samples:
        return ()
    start = heard.samples[0]["t"]
    times = [sample["t"] - start for sample in heard.samples]
    bands = [
        Band(start=began - start, end=began - start + each["seconds"], mark=str(number))
        for number, each in zip(numbers, evidence, strict=True)
        if times[0] <= (began := unix_seconds(each["started"])) - start <= times[-1]
    ]
    views = []
    for position, plot in enumerate((*PLOTS[:3], _per_guest(heard), *PLOTS[3:])):
        crowd = plot.title == CROWD
        series = [
            Series(name=name, x=times, y=[_or_gap(read(sample)) for sample in heard.samples], crowd=crowd)
            for name, read in plot.curves.items()
        ]
        views.append(
            _chart(f"{host}-{position}", plot, [s for s in series if charts.measured(s.y)], bands, tag)
        )
    return tuple(views)


CROWD = "Each guest"
UNITS = {"bytes": "size", "s": "time"}
"""What heads a column of figures that carry their unit themselves; others are headed by the unit."""


def _per_guest(heard: Telemetry) -> Plot:
    names = sorted({name for sample in heard.samples for name in sample.get("guests", {})})

    def pss(name: str) -> Callable[[Object], float | None]:
        return lambda sample: lookup_number(sample.get("guests", {}).get(name, {}), "pss")

    note = "PSS of every guest and plain process, one thin line each."
    return Plot(title=CROWD, note=note, unit="bytes", curves={name: pss(name) for name in names})


def _or_gap(found: float | None) -> float:
    return math.nan if found is None else found


def _chart(key: str, plot: Plot, series: Sequence[Series], bands: Sequence[Band], tag: str) -> ChartView:
    if not series:
        note = f"{MISSING.capitalize()} in this run."
        return ChartView(title=plot.title, note=note, unit="", svg=Markup(), curves=())
    curves = tuple(_curve(number, each, plot.unit) for number, each in enumerate(series))
    if plot.title == CROWD:
        curves = (_crowd(series, plot.unit),)
    said = "; ".join(
        f"{each.name} from {each.first} to {each.last}, at most {each.highest}" for each in curves
    )
    label = f"{plot.title}{f' ({tag})' if tag else ''} over time: {said}"
    svg = charts.draw(key, series, bands, plot.unit, label)
    return ChartView(
        title=plot.title,
        note=plot.note,
        unit=UNITS.get(plot.unit, plot.unit),
        svg=Markup(svg),  # noqa: S704 - drawn by charts, which escapes the label
        curves=curves,
    )


def _curve(number: int, series: Series, unit: str) -> CurveView:
    known = charts.measured(series.y)
    return CurveView(
        name=series.name,
        style=f"line-{number % len(charts.DASHES) + 1}",
        first=_figure(known[0], unit),
        lowest=_figure(min(known), unit),
        highest=_figure(max(known), unit),
        last=_figure(known[-1], unit),
    )


def _crowd(series: Sequence[Series], unit: str) -> CurveView:
    known = [charts.measured(each.y) for each in series]
    firsts, lasts = [each[0] for each in known], [each[-1] for each in known]
    return CurveView(
        name=f"{len(series)} processes, mean",
        style="line-1",
        first=_figure(sum(firsts) / len(firsts), unit),
        lowest=_figure(min(map(min, known)), unit),
        highest=_figure(max(map(max, known)), unit),
        last=_figure(sum(lasts) / len(lasts), unit),
    )


def _figure(number: float, unit: str) -> str:
    return value(number, unit if unit in UNITS else "")
