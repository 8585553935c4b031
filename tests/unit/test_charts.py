# SPDX-License-Identifier: GPL-2.0-only
"""Drawings carry the data, follow the page's colours and say what they show."""

import math
import re
import xml.etree.ElementTree as ET

import pytest

from mergelab.charts import Band, Series, draw, measured
from mergelab.scales import scale

NAN = math.nan


def drawing(*series: Series, bands: tuple[Band, ...] = (), unit: str = "bytes") -> ET.Element:
    """Draw and parse: a drawing that is not well-formed would break the page."""
    return ET.fromstring(draw("key", series, bands, unit, 'label & "more" <x>'))  # noqa: S314 - our own drawing


def curves(svg: ET.Element) -> list[str]:
    """The paths of the curves."""
    return [
        path.attrib["d"]
        for path in svg.iter("path")
        if "stroke: var(--series-" in path.attrib.get("style", "") and path.attrib.get("clip-path")
    ]


def test_curve_follows_the_values() -> None:
    """Higher values lie higher, equal times lie at equal places."""
    svg = drawing(Series(name="a", x=[0, 10, 20], y=[0, 100, 50]))
    points = [(float(x), float(y)) for x, y in re.findall(r"([\d.]+) ([\d.]+)", curves(svg)[0])]
    (x0, y0), (x1, y1), (x2, y2) = points
    assert x1 - x0 == pytest.approx(x2 - x1)
    assert y0 - y1 == pytest.approx(2 * (y0 - y2))


def test_gap_is_a_gap() -> None:
    """Two pieces, not a line across what was not measured."""
    svg = drawing(Series(name="a", x=[0, 1, 2, 3, 4], y=[1, 2, NAN, 2, 1]))
    assert curves(svg)[0].count("M") == 2


def test_label_is_escaped_and_sizes_are_the_pages() -> None:
    """The page decides the size; a screen reader gets the label."""
    svg = drawing(Series(name="a", x=[0, 1], y=[1, 2]))
    assert svg.attrib["aria-label"] == 'label & "more" <x>'
    assert svg.attrib["role"] == "img"
    assert "width" not in svg.attrib


def test_colours_are_variables_and_never_alone() -> None:
    """Light and dark are the style sheet's; each curve has a line style of its own."""
    series = [Series(name=str(number), x=[0, 1], y=[1, 2]) for number in range(4)]
    text = draw("key", series, (Band(start=0, end=1, mark="7"),), "pages", "")
    assert re.findall(r"#[0-9a-f]{6}", text) == []
    assert {f"var(--series-{number})" for number in (1, 2, 3, 4)} <= set(re.findall(r"var\([^)]*\)", text))
    assert len(set(re.findall(r"stroke-dasharray: ([^;]*)", text))) == 3
    assert "var(--band)" in text
    assert ">7<" in text


def test_marks_do_not_lie_upon_each_other() -> None:
    """Of marks in a crowd the first is drawn, and the next for which there is room."""
    bands = [Band(start=at, end=at + 1, mark=mark) for at, mark in ((0, "a"), (1, "b"), (2, "c"), (98, "d"))]
    text = draw("key", [Series(name="a", x=[0, 100], y=[1, 2])], bands, "pages", "")
    assert [mark for mark in "abcd" if f">{mark}</text>" in text] == ["a", "d"]


def test_same_data_same_drawing() -> None:
    """A report that changes without a cause cannot be compared."""
    series = [Series(name="a", x=[0, 1, 2], y=[3, 1, 2])]
    assert draw("k", series, (), "s", "") == draw("k", series, (), "s", "")


def test_ids_of_two_drawings_differ() -> None:
    """Two drawings on one page must not clip each other."""
    series = [Series(name="a", x=[0, 1, 2], y=[3, 1, 2])]
    first, second = (set(re.findall(r'id="([^"]*)"', draw(key, series, (), "s", ""))) for key in ("a", "b"))
    assert first
    assert not first & second


@pytest.mark.parametrize(
    ("top", "unit", "expected"),
    [
        (0, "bytes", (1.0, "B")),
        (1023, "bytes", (1.0, "B")),
        (1024, "bytes", (1024.0, "KiB")),
        (3 * 1024**3, "bytes", (1024.0**3, "GiB")),
        (2e15, "bytes", (1024.0**4, "TiB")),
        (999, "pages", (1.0, "pages")),
        (65536, "pages", (1000.0, "k pages")),
        (12, "s", (1.0, "s")),
    ],
)
def test_scale(top: float, unit: str, expected: tuple[float, str]) -> None:
    """The axis reads in a unit that a person would choose."""
    assert scale(top, unit) == expected


def test_measured() -> None:
    """Gaps are no values."""
    assert measured([1.0, NAN, 0.0]) == [1.0, 0.0]
