# SPDX-License-Identifier: GPL-2.0-only
"""Telemetry becomes curves without a value that nobody measured."""

from typing import Any

import pytest

from mergelab.curves import views
from mergelab.store import Telemetry
from mergelab.views import ChartView


def charts(*samples: dict[str, Any]) -> dict[str, ChartView]:
    """The charts of one host by title."""
    heard = Telemetry(samples=samples, torn=())
    return {chart.title: chart for chart in views("h1", heard, [], [], "emulated")}


def test_no_sample_no_chart() -> None:
    """An empty axis would look like a measurement of nothing."""
    assert charts() == {}


def test_chart_of_what_was_not_measured_says_so() -> None:
    """A missing counter is a sentence, not a line at zero."""
    made = charts({"t": 1, "meminfo": {"MemAvailable": 4096}}, {"t": 2, "meminfo": {"MemAvailable": 8192}})
    assert made["Merged pages"].svg == ""
    assert "ot measured" in made["Merged pages"].note
    (curve,) = made["Memory of the host"].curves
    assert (curve.name, curve.first, curve.last) == ("MemAvailable", "4 KiB", "8 KiB")
    assert "(emulated)" in made["Memory of the host"].svg


@pytest.mark.parametrize("unread", [{"rss": 4096}, {}])
def test_sum_needs_every_guest(unread: dict[str, int]) -> None:
    """A guest that could not be read must not make all guests together look smaller."""
    whole = {"t": 1, "guests": {"a": {"rss": 4096, "pss": 4096}, "b": {"rss": 4096, "pss": 4096}}}
    partly = {"t": 2, "guests": {"a": {"rss": 4096, "pss": 4096}, "b": unread}}
    curves = {curve.name: curve for curve in charts(whole, partly)["All guests together"].curves}
    assert (curves["PSS, sum"].lowest, curves["PSS, sum"].last) == ("8 KiB", "8 KiB")
