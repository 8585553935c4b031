# SPDX-License-Identifier: GPL-2.0-only
"""What a page shows: flat, immutable, every field a formatted string."""

from dataclasses import dataclass

from markupsafe import Markup


@dataclass(frozen=True, kw_only=True)
class VerdictView:
    """A verdict as its word, a mark and a tone (green, amber or red); colour is never alone."""

    word: str
    mark: str
    tone: str
    meaning: str


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One line of a list of terms; ``tag`` marks a figure that is not a hardware's."""

    name: str
    text: str
    tag: str = ""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Terms under a heading."""

    title: str
    pairs: tuple[Pair, ...]


@dataclass(frozen=True, kw_only=True)
class WitnessView:
    """One row of a check's table of witnesses; ``wrap`` is a class for values that may break anywhere."""

    name: str
    claim: str
    expected: str
    measured: str
    agrees: str
    mark: str
    tone: str
    wrap: str


@dataclass(frozen=True, kw_only=True)
class ControlView:
    """One control and whether it behaved."""

    name: str
    claim: str
    behaved: str
    mark: str
    tone: str


@dataclass(frozen=True, kw_only=True)
class CheckView:
    """One check with its evidence."""

    number: str
    anchor: str
    check: str
    host: str
    title: str
    verdict: VerdictView
    reason: str
    started: str
    took: str
    agreement: str
    expected: tuple[Pair, ...]
    witnesses: tuple[WitnessView, ...]
    controls: tuple[ControlView, ...]


@dataclass(frozen=True, kw_only=True)
class CurveView:
    """One row under a chart: the curve's line style and its figures."""

    name: str
    style: str
    first: str
    lowest: str
    highest: str
    last: str


@dataclass(frozen=True, kw_only=True)
class ChartView:
    """One chart; ``svg`` is empty when nothing was measured."""

    title: str
    note: str
    unit: str
    svg: Markup
    curves: tuple[CurveView, ...]


@dataclass(frozen=True, kw_only=True)
class GuestView:
    """One row of the table of guests."""

    name: str
    state: str
    memory: str
    vcpus: str
    boot: str
    rss: str
    pss: str
    console: str


@dataclass(frozen=True, kw_only=True)
class DeployView:
    """What became of a deployment."""

    outcome: str
    mark: str
    tone: str
    reason: str
    pairs: tuple[Pair, ...]
    steps: tuple[Pair, ...]
    tail: str


@dataclass(frozen=True, kw_only=True)
class EventView:
    """A line of a host's console that a reader must know about."""

    kind: str
    line: str
    text: str


@dataclass(frozen=True, kw_only=True)
class HostView:
    """Everything about one host."""

    name: str
    anchor: str
    origin: str
    tag: str
    summary: str
    groups: tuple[Group, ...]
    deploy: DeployView | None
    guests: tuple[GuestView, ...]
    charts: tuple[ChartView, ...]
    bands: tuple[Pair, ...]
    samples: str
    events: tuple[EventView, ...]
    console: str


@dataclass(frozen=True, kw_only=True)
class FindingView:
    """One finding of the judge."""

    verdict: VerdictView
    subject: str
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Page:
    """The whole report, formatted."""

    run: str
    inventory: str
    commit: str
    started: str
    took: str
    verdict: VerdictView
    reason: str
    banner: str
    tag: str
    findings: tuple[FindingView, ...]
    summary: tuple[Pair, ...]
    checks: tuple[CheckView, ...]
    hosts: tuple[HostView, ...]
    kernel: tuple[Group, ...]
    not_measured: tuple[str, ...]
    consoles: tuple[str, ...]
    logs: tuple[str, ...]
    legend: tuple[VerdictView, ...]
