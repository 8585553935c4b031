# SPDX-License-Identifier: GPL-2.0-only
"""What the page of a benchmark shows: flat, immutable, every field a formatted string."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from mergelab.views import Group, Pair


@dataclass(frozen=True, kw_only=True)
class GoalView:
    """A row of the goals: verdict as word, mark and tone."""

    figure: str
    target: str
    measured: tuple[str, ...]
    verdict: str
    mark: str
    tone: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class RowView:
    """A figure of a case: both engines and their ratio, with spreads."""

    name: str
    ksm: str
    memmerge: str
    ratio: str


@dataclass(frozen=True, kw_only=True)
class CaseView:
    """One case at one size; ``beside`` is what was measured without an engine."""

    anchor: str
    name: str
    title: str
    memory: str
    rows: tuple[RowView, ...]
    beside: tuple[Pair, ...]


@dataclass(frozen=True, kw_only=True)
class CellView:
    """A figure of the overview: the ratio, and both medians below it."""

    ratio: str
    medians: str


@dataclass(frozen=True, kw_only=True)
class OverviewView:
    """A row of the overview: medians only."""

    anchor: str
    case: str
    memory: str
    cells: tuple[CellView, ...]


@dataclass(frozen=True, kw_only=True)
class LegendView:
    """A curve of a drawing: its line style, and its figures."""

    name: str
    style: str
    cells: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class DrawingView:
    """A drawing with a row of figures for each of its curves."""

    title: str
    note: str
    svg: Markup
    columns: tuple[str, ...]
    legend: tuple[LegendView, ...]


@dataclass(frozen=True, kw_only=True)
class ChangeView:
    """A figure beside the one of an earlier benchmark."""

    case: str
    memory: str
    figure: str
    before: str
    after: str
    change: str
    verdict: str
    mark: str
    tone: str


@dataclass(frozen=True, kw_only=True)
class BaselineView:
    """A comparison; ``changes`` are those that are not the same."""

    bench: str
    sentence: str
    notes: tuple[str, ...]
    changes: tuple[ChangeView, ...]


@dataclass(frozen=True, kw_only=True)
class BenchPage:
    """The whole page, formatted."""

    bench: str
    started: str
    took: str
    headline: str
    tone: str
    mark: str
    sentence: str
    banner: str
    tag: str
    summary: tuple[Pair, ...]
    goals: tuple[GoalView, ...]
    columns: tuple[str, ...]
    overview: tuple[OverviewView, ...]
    charts: tuple[DrawingView, ...]
    cases: tuple[CaseView, ...]
    baseline: BaselineView | None
    notes: tuple[str, ...]
    not_measured: tuple[Pair, ...]
    provenance: tuple[Group, ...]
    commit: str
