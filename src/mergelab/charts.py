# SPDX-License-Identifier: GPL-2.0-only
"""Curves as SVG that lives inside a page: themed by its style sheet, sharp in print, no script.

matplotlib draws with placeholder colours; they become CSS variables, so that one drawing serves light and
dark.
"""

import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from mergelab.scales import scale

DASHES = ("solid", (0, (5, 2)), (0, (1.2, 1.8)), (0, (6, 2, 1.2, 2)))
"""Line styles of the series of a chart in order, so that colour is never alone."""

_INK, _RULE, _BAND = "#0000f1", "#0000f2", "#0000f3"
_SERIES = ("#0000a1", "#0000a2", "#0000a3", "#0000a4")
_VARIABLES = {
    _INK: "var(--ink-2)",
    _RULE: "var(--rule)",
    _BAND: "var(--band)",
    **{colour: f"var(--series-{number})" for number, colour in enumerate(_SERIES, 1)},
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 10.5,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.edgecolor": _RULE,
    "path.simplify_threshold": 0.4,
}


@dataclass(frozen=True, kw_only=True)
class Series:
    """One curve: x and y in the base units of the chart's axes (bytes, pages, s, ns, per cent); NaN is a gap.

    Attributes:
        crowd: drawn thin and like its neighbours, one of many that are not told apart.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    crowd: bool = False


@dataclass(frozen=True, kw_only=True)
class Axis:
    """What an axis shows: its base unit, ``time`` for the time of a run, and whether it is logarithmic.

    Attributes:
        ticks: where the axis is labelled; empty for round numbers.
    """

    unit: str
    log: bool = False
    ticks: Sequence[float] = ()


TIME = Axis(unit="time")


@dataclass(frozen=True, kw_only=True)
class Band:
    """A stretch of time, in seconds, with a short mark above it."""

    start: float
    end: float
    mark: str


def measured(values: Sequence[float]) -> list[float]:
    """The values that are not gaps."""
    return [value for value in values if not math.isnan(value)]


def draw(
    key: str,
    series: Sequence[Series],
    bands: Sequence[Band],
    unit: str,
    label: str,
    *,
    x: Axis = TIME,
    log: bool = False,
) -> str:
    """Draw one chart.

    Args:
        key: makes the ids inside the drawing unique in its page.
        series: at least one value among them must be measured.
        bands: behind the curves.
        unit: base unit of every y.
        label: what a screen reader says.
        x: the horizontal axis.
        log: whether the vertical axis is logarithmic; every y is then greater than 0.

    Returns:
        An ``svg`` element without fixed size.
    """
    with mpl.rc_context({**_STYLE, "svg.hashsalt": key}):
        figure = Figure(figsize=(6.4, 2.7), facecolor="none")
        axes = figure.add_axes((0.092, 0.12, 0.9, 0.77), facecolor="none")
        divisor, name = scale(max(max(measured(each.y), default=0.0) for each in series), unit)
        _curves(axes, series, divisor)
        _frame(axes, bands, name, log=log)
        known = [value for each in series for value in each.x]
        if x.unit == TIME.unit:
            _times(axes, max(known, default=0.0))
        else:
            _values(axes, x, known)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return _inline(out.getvalue(), label)


FEW = 4
"""Points of a curve up to which each is marked."""

MARK_WIDTH = 0.022
"""Width of a character above a chart, as a part of the chart's width; a bit more than it is."""


def _curves(axes: Axes, series: Sequence[Series], divisor: float) -> None:
    for number, each in enumerate(series):
        axes.plot(
            each.x,
            [value / divisor for value in each.y],
            color=_SERIES[0 if each.crowd else number % len(_SERIES)],
            linestyle="solid" if each.crowd else DASHES[number % len(DASHES)],
            linewidth=0.8 if each.crowd else 1.7,
            solid_joinstyle="round",
            marker="o" if len(measured(each.y)) <= FEW else None,
            markersize=4.5,
        )


def _frame(axes: Axes, bands: Sequence[Band], unit: str, *, log: bool) -> None:
    free, span = -math.inf, max((band.end for band in bands), default=0.0)
    for number, band in enumerate(bands):
        if number % 2 == 0:
            axes.axvspan(band.start, band.end, color=_BAND, linewidth=0, zorder=0)
        middle = (band.start + band.end) / 2
        half = MARK_WIDTH * span * len(band.mark) / 2
        if middle - half < free:
            continue  # bands are short here, and a mark on top of another tells nothing
        free = middle + half
        axes.text(middle, 1.03, band.mark, transform=axes.get_xaxis_transform(), ha="center", fontsize=9.5)
    if log:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(_decades(*axes.get_ylim()))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _position: f"{value:g}"))
    axes.grid(axis="y", color=_RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", length=0, pad=4)
    axes.text(0, 1.03, unit, transform=axes.transAxes, ha="right", fontsize=9.5)
    for side in ("top", "left", "right"):
        axes.spines[side].set_visible(False)


def _times(axes: Axes, last: float) -> None:
    """An axis of time from 0, in seconds or minutes."""
    minutes = last >= 180
    axes.set_xlim(0, max(last, 1.0))
    axes.xaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 3, 6, 10] if minutes else [1, 2, 5, 10]))
    if minutes:
        tick = 60 * max(1, math.ceil(last / 60 / 8))
        axes.set_xticks(range(0, int(last) + 1, tick))
    axes.xaxis.set_major_formatter(FuncFormatter(partial(_time, minutes)))


def _values(axes: Axes, x: Axis, known: Sequence[float]) -> None:
    """An axis of any other quantity."""
    if x.log:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(_decades(min(known), max(known)))
    else:
        axes.set_xlim(0, max(known, default=0.0) or 1.0)
        axes.xaxis.set_major_locator(MaxNLocator(6))
    if x.ticks:
        axes.set_xticks(list(x.ticks))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(partial(_quantity, x.unit)))


def _decades(low: float, high: float) -> LogLocator:
    """Labels of a logarithmic axis: powers of ten, and where these are few the 2 and 5 between them."""
    return LogLocator(10, subs=(1.0,) if high >= 100 * low else (1.0, 2.0, 5.0), numticks=12)


def _quantity(unit: str, value: float, _position: int | None = None) -> str:
    divisor, name = scale(abs(value), unit)
    return f"{value / divisor:.4g} {name}"


def _time(minutes: bool, value: float, _position: int | None = None) -> str:
    if value == 0:
        return "0"
    return f"{value / 60:g} min" if minutes else f"{value:g} s"


def _inline(svg: str, label: str) -> str:
    """Make a drawing part of a page: no file frame, size, fonts or ids; variables for colours."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    view = re.search(r'viewBox="[^"]*"', svg)
    box = view.group() if view else ""
    label = label.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    svg = re.sub(r"<svg[^>]*>", f'<svg {box} role="img" aria-label="{label}">', svg, count=1)
    for pattern, text in (
        (r"<!--.*?-->\s*", ""),
        (r"<defs>\s*<style.*?</style>\s*</defs>\s*", ""),
        (r'<g id="[^"]*"', "<g"),
        (r"font-family: [^;\"]*; ", ""),
        (r' transform="rotate\(-0 [^"]*"', ""),
        (r"\s*\n\s*(?=[LMz\"])", " "),
    ):
        svg = re.sub(pattern, text, svg, flags=re.DOTALL)
    svg = svg.replace("xlink:href", "href")
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, variable)
    return re.sub(r"\n\s*", "\n", svg).strip()
