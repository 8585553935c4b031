"""Rendering: the record and the telemetry become flat views of formatted strings, and those become pages.

Every figure is formatted here; a template only places strings. What was not measured reads “not measured”.
"""

import io
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import jinja2
import junitparser
from markupsafe import Markup

from mergelab import charts
from mergelab.charts import Band, Series
from mergelab.evidence import Verdict
from mergelab.store import REPORTS, Object, Telemetry, lookup

MISSING = "not measured"

MARKS = {
    Verdict.PASS: "✓",
    Verdict.FAIL: "✗",
    Verdict.UNPROVEN: "?",
    Verdict.ENVIRONMENT: "!",
    Verdict.HANG: "…",
    Verdict.PANIC: "‼",
    Verdict.ROLLED_BACK: "↩",
    Verdict.SKIPPED: "○",
}
MEANINGS = {
    Verdict.PASS: "every witness agrees with what the bench knew before it measured, every control behaved",
    Verdict.FAIL: "a witness contradicts the claim",
    Verdict.UNPROVEN: "a witness is missing, a control did not behave, or a check did not run",
    Verdict.ENVIRONMENT: "the lab, not the host, is at fault",
    Verdict.HANG: "a bounded wait ran out",
    Verdict.PANIC: "the host's kernel died",
    Verdict.ROLLED_BACK: "the new kernel did not come up and the host went back to the one it had",
    Verdict.SKIPPED: "not run, for the reason given",
}
GRAVE = (Verdict.FAIL, Verdict.PANIC, Verdict.HANG)

LABELS = {
    "build_id": "build-id",
    "boot_id": "boot id",
    "bios_date": "firmware date",
    "bios_vendor": "firmware vendor",
    "bios_version": "firmware version",
    "board_name": "board",
    "board_vendor": "board vendor",
    "bytes": "size",
    "cmdline": "command line",
    "cpu": "CPU",
    "cpus": "CPUs",
    "dmi": "DMI",
    "memory_bytes": "memory",
    "nested_paging": "nested paging",
    "numa": "NUMA",
    "product_name": "product",
    "product_version": "product version",
    "kernel_release": "release",
    "sha256": "SHA-256",
    "speed_mts": "speed in MT/s",
    "swap": "swap",
    "sys_vendor": "vendor",
    "transparent_hugepage": "transparent huge pages",
}
SIZES = ("bytes", "total", "swap", "page", "memory", "size", "memory_bytes")
"""Keys of facts and manifests whose numbers are bytes."""

DIGEST = re.compile(r"[0-9a-f]{64}")
"""A SHA-256, shown by its beginning; the record has all of it."""


def count(value: float) -> str:
    """A number with thousands set apart: ``12 288``, ``0.999``."""
    text = (
        f"{value:,}" if isinstance(value, int) else f"{value:,.6g}" if abs(value) < 1e6 else f"{value:,.0f}"
    )
    return text.replace(",", "\u202f")


def size(value: float) -> str:
    """Bytes in the binary unit that reads best: ``1.95 GiB``."""
    divisor, unit = charts.scale(abs(value), "bytes")
    return f"{value / divisor:.4g} {unit}"


def duration(value: float) -> str:
    """Seconds as a person says them: ``850 ms``, ``12.3 s``, ``3 min 5 s``, ``1 h 2 min``."""
    if value < 1:
        return f"{value * 1000:.0f} ms"
    if value < 60:
        return f"{value:.3g} s"
    minutes, seconds = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {seconds} s"
    return f"{minutes // 60} h {minutes % 60} min"


def moment(text: object) -> str:
    """A time of the record as ``2026-01-01 00:00:00 UTC``."""
    return f"{str(text)[:19].replace('T', ' ')} UTC" if text else MISSING


def value(measured: object, unit: str = "") -> str:
    """A witness's value with its unit; None is “not measured”, an empty text “none”."""
    if measured is None:
        return MISSING
    if isinstance(measured, bool):
        return "yes" if measured else "no"
    if isinstance(measured, int | float):
        if unit in ("bytes", "B"):
            return size(measured)
        if unit in ("s", "seconds"):
            return duration(measured)
        return f"{count(measured)} {unit}".rstrip()
    return f"{measured} {unit}".strip() or "none"


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


def page(record: Object, telemetry: Mapping[str, Telemetry]) -> Page:
    """Format a validated record and the telemetry of its hosts."""
    checks = tuple(_check(number, each) for number, each in enumerate(record["evidence"], 1))
    origin, banner = _origin(record.get("emulated"))
    return Page(
        run=record["run"],
        inventory=record.get("inventory", MISSING),
        commit=record.get("commit", MISSING),
        started=moment(record.get("started")),
        took=_run_time(record),
        verdict=_verdict(record["verdict"]),
        reason=record["reason"],
        banner=banner,
        tag=origin,
        findings=tuple(
            FindingView(verdict=_verdict(each["verdict"]), subject=each["subject"], sentence=each["sentence"])
            for each in record["findings"]
        ),
        summary=_summary(record, telemetry, origin),
        checks=checks,
        hosts=tuple(_host(each, record, telemetry) for each in record["hosts"]),
        kernel=_groups(record["kernel"], "build") if "kernel" in record else (),
        not_measured=tuple(record["not_measured"]),
        consoles=tuple(record["consoles"]),
        logs=tuple(record["logs"]),
        legend=tuple(_verdict(each) for each in Verdict),
    )


def _verdict(word: str) -> VerdictView:
    verdict = Verdict(word)
    tone = "green" if verdict.green else "red" if verdict in GRAVE else "amber"
    return VerdictView(word=verdict.value, mark=MARKS[verdict], tone=tone, meaning=MEANINGS[verdict])


def _origin(emulated: object) -> tuple[str, str]:
    if emulated is True:
        return "emulated", (
            "Every figure in this report was measured on a virtual machine that stands in for "
            "hardware. Counts of pages hold; times, rates and sizes are not the hardware's."
        )
    if emulated is False:
        return "", ""
    return (
        "origin unknown",
        "It is not known whether the host is emulated: do not take its figures for a hardware's.",
    )


def _run_time(record: Object) -> str:
    if "started" not in record:
        return f"duration {MISSING}"
    if "ended" not in record:
        return "did not reach its end"
    return f"took {duration(max(_seconds(record['ended']) - _seconds(record['started']), 0.0))}"


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).astimezone(UTC).timestamp()


def _summary(record: Object, telemetry: Mapping[str, Telemetry], tag: str) -> tuple[Pair, ...]:
    evidence = record["evidence"]
    green = sum(1 for each in evidence if Verdict(each["verdict"]).green)
    heard = [witness for each in evidence for witness in each["witnesses"]]
    agreeing = sum(1 for each in heard if each["agrees"])
    guests = [guest for host in record["hosts"] for guest in host.get("guests", [])]
    releases = {str(text) for host in record["hosts"] if (text := lookup(host, "facts.kernel.release"))}
    saved = [top for each in telemetry.values() if (top := _most_saved(each)) is not None]
    names = ", ".join(host["name"] for host in record["hosts"])
    return (
        Pair(name="checks passed", text=f"{green} of {len(evidence)}" if evidence else "none ran"),
        Pair(name="witnesses agreeing", text=f"{agreeing} of {len(heard)}" if heard else "none heard"),
        Pair(name="hosts", text=names or "none"),
        Pair(name="kernel", text=", ".join(sorted(releases)) or MISSING),
        Pair(name="guests", text=count(len(guests)) if guests else MISSING),
        Pair(name="most memory saved", text=size(max(saved)) if saved else MISSING, tag=tag if saved else ""),
    )


PAGE_SIZE = 4096
"""Bytes of a page that the engine merges (x86-64, no huge pages)."""


def _most_saved(telemetry: Telemetry) -> float | None:
    saved = [
        (sharing + zero) * PAGE_SIZE
        for sample in telemetry.samples
        if (sharing := _number(sample, "engine.pages_sharing")) is not None
        and (zero := _number(sample, "engine.pages_mapped_zero")) is not None
    ]
    return max(saved, default=None)


def _number(tree: Object, path: str) -> float | None:
    found = lookup(tree, path)
    return found if isinstance(found, int | float) and not isinstance(found, bool) else None


def _check(number: int, each: Object) -> CheckView:
    agreeing = sum(1 for witness in each["witnesses"] if witness["agrees"])
    return CheckView(
        number=str(number),
        anchor=f"check-{number}",
        check=each["check"],
        host=each["host"],
        title=each["title"],
        verdict=_verdict(each["verdict"]),
        reason=each["reason"],
        started=moment(each["started"]),
        took=duration(each["seconds"]),
        agreement=f"{agreeing} of {len(each['witnesses'])}",
        expected=tuple(
            Pair(name=_label(key), text=_known(key, known)) for key, known in each["expected"].items()
        ),
        witnesses=tuple(_witness(witness) for witness in each["witnesses"]),
        controls=tuple(_control(control) for control in each["controls"]),
    )


def _witness(each: Object) -> WitnessView:
    unit = each["unit"]
    relation = "" if each["relation"] == "equals" else f"{each['relation']} "
    within = f" ± {value(each['tolerance'], unit)}" if each["tolerance"] else ""
    agrees, mark, tone = {True: ("agrees", "✓", "green"), False: ("disagrees", "✗", "red")}.get(
        each["agrees"], ("not heard", "?", "amber")
    )
    return WitnessView(
        name=each["name"],
        claim=each["claim"],
        expected=f"{relation}{value(each['expected'], unit)}{within}",
        measured=value(each["measured"], unit),
        agrees=agrees,
        mark=mark,
        tone=tone,
        wrap=" long" if isinstance(each["expected"], str) else "",
    )


def _control(each: Object) -> ControlView:
    behaved = each["behaved"]
    return ControlView(
        name=each["name"],
        claim=each["claim"],
        behaved="behaved" if behaved else "did not behave",
        mark="✓" if behaved else "✗",
        tone="green" if behaved else "red",
    )


def _label(key: str) -> str:
    return LABELS.get(key, key.replace("_", " "))


def _groups(tree: Object, first: str) -> tuple[Group, ...]:
    """Nested facts as groups of terms: top-level plain values first, then one group per object or list."""
    plain = {key: each for key, each in tree.items() if not isinstance(each, dict | list) and key != "schema"}
    groups = [Group(title=first, pairs=tuple(_pairs(plain)))] if plain else []
    for key, each in tree.items():
        if isinstance(each, dict | list) and each:
            groups.append(Group(title=_label(key), pairs=tuple(_pairs({key: each}, top=True))))
    return tuple(groups)


def _pairs(
    tree: Mapping[str, Any], prefix: str = "", *, top: bool = False, seconds: bool = False
) -> Iterable[Pair]:
    for key, each in tree.items():
        if each is None:
            continue
        name = "" if top else f"{prefix}{_label(key)}"
        inner = f"{name} · " if name else ""
        if isinstance(each, dict):
            if not each:
                yield Pair(name=name or _label(key), text="present")
            yield from _pairs(each, inner, seconds=key == "seconds")
        elif isinstance(each, list) and any(isinstance(item, dict) for item in each):
            for number, item in enumerate(each):
                node = f"node {item['node']}" if "node" in item else number
                title = str(item.get("name", item.get("place", node)))
                rest = {part: what for part, what in item.items() if part not in ("name", "place", "node")}
                text = ", ".join(f"{pair.name} {pair.text}" for pair in _pairs(rest))
                yield Pair(name=f"{inner}{title}", text=text)
        elif isinstance(each, list):
            yield Pair(name=name or _label(key), text=", ".join(map(str, each)) or "none")
        else:
            text = duration(each) if seconds and isinstance(each, int | float) else _plain(key, each)
            yield Pair(name=name or _label(key), text=text)


def _known(key: str, each: object) -> str:
    return _plain(key, each) if key in SIZES or key.endswith("_bytes") else value(each)


def _plain(key: str, each: object) -> str:
    if (key in SIZES or key.endswith("_bytes")) and isinstance(each, int) and not isinstance(each, bool):
        return size(each)
    if key.endswith("seconds") and isinstance(each, int | float):
        return duration(each)
    if isinstance(each, int) and not isinstance(each, bool):
        return str(each)
    if isinstance(each, str) and DIGEST.fullmatch(each):
        return f"{each[:16]}…"
    return value(each)


def _host(host: Object, record: Object, telemetry: Mapping[str, Telemetry]) -> HostView:
    name = host["name"]
    facts = host.get("facts", {})
    tag, _ = _origin(facts.get("emulated"))
    heard = telemetry.get(name, Telemetry(samples=(), torn=()))
    bands = [(number, each) for number, each in enumerate(record["evidence"], 1) if each["host"] == name]
    console = f"console/{name}.log"
    return HostView(
        name=name,
        anchor=f"host-{name}",
        origin={"emulated": "emulated", "": "hardware"}.get(tag, tag),
        tag=tag,
        summary=_fingerprint(facts),
        groups=_groups({key: each for key, each in facts.items() if key != "emulated"}, "host"),
        deploy=_deploy(host["deploy"]) if "deploy" in host else None,
        guests=tuple(_guest(each, heard) for each in host.get("guests", [])),
        charts=_charts(name, heard, [each for _, each in bands], [number for number, _ in bands], tag),
        bands=tuple(Pair(name=str(number), text=each["check"]) for number, each in bands),
        samples=_samples(host, heard),
        events=tuple(
            EventView(kind=each["kind"], line=str(each["line"]), text=each["text"])
            for each in host.get("events", [])
        ),
        console=console if console in record["consoles"] else "",
    )


def _fingerprint(facts: Object) -> str:
    total = _number(facts, "memory.total")
    parts = (
        " ".join(
            str(part) for key in ("sys_vendor", "product_name") if (part := lookup(facts, f"dmi.{key}"))
        ),
        lookup(facts, "cpu.model"),
        f"{threads} threads" if (threads := lookup(facts, "cpu.threads")) else None,
        f"{size(total)} memory" if total is not None else None,
        f"Linux {release}" if (release := lookup(facts, "kernel.release")) else None,
    )
    return " · ".join(str(part) for part in parts if part) or "fingerprint not measured"


def _samples(host: Object, heard: Telemetry) -> str:
    if not heard.samples:
        return "no sample"
    told = host.get("telemetry", {})
    span = heard.samples[-1]["t"] - heard.samples[0]["t"]
    torn = f", {len(told['torn'])} unreadable" if told.get("torn") else ""
    return f"{count(len(heard.samples))} samples over {duration(span)}{torn}"


def _deploy(deploy: Object) -> DeployView:
    outcome = deploy["outcome"]
    green = outcome in ("promoted", "unchanged")
    keys = ("old_release", "new_release", "old_boot_id", "new_boot_id")
    tail = deploy.get("console_tail", [])
    return DeployView(
        outcome=outcome,
        mark="✓" if green else MARKS[Verdict.ROLLED_BACK],
        tone="green" if green else "amber",
        reason=deploy.get("reason", ""),
        pairs=tuple(Pair(name=_label(key), text=deploy.get(key, MISSING)) for key in keys),
        steps=tuple(
            Pair(name=_label(key), text=duration(seconds)) for key, seconds in deploy.get("steps", {}).items()
        ),
        tail="\n".join(tail),
    )


def _guest(guest: Object, heard: Telemetry) -> GuestView:
    def last(key: str) -> str:
        found = [
            number
            for sample in heard.samples
            if (number := _number(sample.get("guests", {}).get(guest["name"], {}), key)) is not None
        ]
        return size(found[-1]) if found else MISSING

    memory, boot = guest.get("memory"), guest.get("boot_seconds")
    return GuestView(
        name=guest["name"],
        state=guest["state"],
        memory=size(memory) if memory is not None else MISSING,
        vcpus=str(guest.get("vcpus", MISSING)),
        boot=duration(boot) if boot is not None else MISSING,
        rss=last("rss"),
        pss=last("pss"),
        console=guest.get("console", ""),
    )


@dataclass(frozen=True, kw_only=True)
class Plot:
    """What a chart shows: a title, one unit, and how each curve is read from a sample."""

    title: str
    note: str
    unit: str
    curves: Mapping[str, Callable[[Object], float | None]]


def _at(path: str, factor: float = 1.0) -> Callable[[Object], float | None]:
    def read(sample: Object) -> float | None:
        found = _number(sample, path)
        return None if found is None else found * factor

    return read


def _sum(key: str) -> Callable[[Object], float | None]:
    def read(sample: Object) -> float | None:
        sizes = [_number(guest, key) for guest in sample.get("guests", {}).values()]
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


def _charts(
    host: str, heard: Telemetry, evidence: Sequence[Object], numbers: Sequence[int], tag: str
) -> tuple[ChartView, ...]:
    if not heard.samples:
        return ()
    start = heard.samples[0]["t"]
    times = [sample["t"] - start for sample in heard.samples]
    bands = [
        Band(start=began - start, end=began - start + each["seconds"], mark=str(number))
        for number, each in zip(numbers, evidence, strict=True)
        if times[0] <= (began := _seconds(each["started"])) - start <= times[-1]
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
        return lambda sample: _number(sample.get("guests", {}).get(name, {}), "pss")

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


def _cell(text: object) -> str:
    """Text that cannot end a cell of a Markdown table."""
    return str(text).replace("|", "\\|").replace("\n", " ")


def environment() -> jinja2.Environment:
    """Templates of reports/templates: an unknown name is an error, HTML is escaped."""
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(REPORTS / "templates"),
        autoescape=jinja2.select_autoescape(("html",)),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters["cell"] = _cell
    return templates


def html(view: Page) -> str:
    """The report as one page that needs nothing beside it."""
    return environment().get_template("index.html").render(page=view)


def markdown(view: Page) -> str:
    """The report as text."""
    return environment().get_template("report.md").render(page=view)


def junit(record: Object) -> str:
    """The record as JUnit XML: a suite per host, a case per check, the run's own verdict as the last case."""
    document = junitparser.JUnitXml(name=record["run"])
    for host in sorted({each["host"] for each in record["evidence"]}):
        suite = junitparser.TestSuite(host)
        for each in record["evidence"]:
            if each["host"] == host:
                suite.add_testcase(
                    _case(each["check"], host, each["verdict"], each["reason"], each["seconds"])
                )
        document.add_testsuite(suite)
    suite = junitparser.TestSuite("run")
    suite.add_testcase(_case("verdict", "run", record["verdict"], record["reason"], None))
    document.add_testsuite(suite)
    out = io.BytesIO()
    document.write(out, pretty=True)
    return out.getvalue().decode("utf-8").rstrip() + "\n"


def _case(name: str, group: str, word: str, reason: str, seconds: float | None) -> junitparser.TestCase:
    verdict = Verdict(word)
    case = junitparser.TestCase(name, classname=group, time=seconds)
    if not verdict.green:
        kinds = {Verdict.FAIL: junitparser.Failure, Verdict.SKIPPED: junitparser.Skipped}
        kind = kinds.get(verdict, junitparser.Error)
        case.result = [kind(reason, verdict.value)]
    return case
