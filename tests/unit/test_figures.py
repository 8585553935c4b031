# SPDX-License-Identifier: GPL-2.0-only
"""Figures read as a person would write them, and a gap reads as a gap."""

import pytest

from mergelab.figures import MISSING, count, duration, moment, size, value


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.0123, "12 ms"),
        (1, "1 s"),
        (12.34, "12.3 s"),
        (60, "1 min 0 s"),
        (185.4, "3 min 5 s"),
        (3599.6, "1 h 0 min"),
        (7320, "2 h 2 min"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    """Every magnitude a run can take."""
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 B"), (4096, "4 KiB"), (1 << 31, "2 GiB"), (2_098_200_576, "1.954 GiB"), (-8192, "-8 KiB")],
)
def test_size(number: int, text: str) -> None:
    """Binary units, four digits."""
    assert size(number) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (12288, "12\u202f288"),
        (0.999, "0.999"),
        (1.1513, "1.1513"),
        (1234567.0, "1\u202f234\u202f567"),
    ],
)
def test_count(number: float, text: str) -> None:
    """Exact where it is exact."""
    assert count(number) == text


@pytest.mark.parametrize(
    ("measured", "unit", "text"),
    [
        (None, "pages", MISSING),
        (0, "pages", "0 pages"),
        (False, "", "no"),
        (True, "", "yes"),
        (4096, "bytes", "4 KiB"),
        (0.5, "s", "500 ms"),
        ("6.12", "", "6.12"),
        ("", "", "none"),
        (1.25, "", "1.25"),
    ],
)
def test_value(measured: object, unit: str, text: str) -> None:
    """Zero is a figure, None is none."""
    assert value(measured, unit) == text


def test_moment() -> None:
    """UTC is said."""
    assert moment("2026-01-02T03:04:05Z") == "2026-01-02 03:04:05 UTC"
    assert moment(None) == MISSING
