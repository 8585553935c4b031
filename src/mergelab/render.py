# SPDX-License-Identifier: GPL-2.0-only
"""Rendering: the record and the telemetry become flat views of formatted strings, and those become pages.

Every figure is formatted here; a template only places strings. What was not measured reads “not measured”.
"""

import io
import re
from collections.abc import Iterable, Mapping
from typing import Any

import jinja2
import junitparser

from mergelab import curves
from mergelab.evidence import Verdict
from mergelab.figures import MISSING, count, duration, moment, size, unix_seconds, value
from mergelab.store import REPORTS, Object, Telemetry, lookup, lookup_number
from mergelab.views import (
    CheckView,
    ControlView,
    DeployView,
    EventView,
    FindingView,
    Group,
    GuestView,
    HostView,
    Page,
    Pair,
    VerdictView,
    WitnessView,
)

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
        kernel=groups(record["kernel"], "kernel") if "kernel" in record else (),
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
    return f"took {duration(max(unix_seconds(record['ended']) - unix_seconds(record['started']), 0.0))}"


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
        if (sharing := lookup_number(sample, "engine.pages_sharing")) is not None
        and (zero := lookup_number(sample, "engine.pages_mapped_zero")) is not None
    ]
    return max(saved, default=None)


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


def groups(tree: Object, first: str) -> tuple[Group, ...]:
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
    return _plain(key, each) if key.endswith("_bytes") else value(each)


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
        groups=groups({key: each for key, each in facts.items() if key != "emulated"}, "host"),
        deploy=_deploy(host["deploy"]) if "deploy" in host else None,
        guests=tuple(_guest(each, heard) for each in host.get("guests", [])),
        charts=curves.views(name, heard, [each for _, each in bands], [number for number, _ in bands], tag),
        bands=tuple(Pair(name=str(number), text=each["check"]) for number, each in bands),
        samples=_samples(host, heard),
        events=tuple(
            EventView(kind=each["kind"], line=str(each["line"]), text=each["text"])
            for each in host.get("events", [])
        ),
        console=console if console in record["consoles"] else "",
    )


def _fingerprint(facts: Object) -> str:
    total = lookup_number(facts, "memory.total")
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
    verdict = _verdict(Verdict.PASS if outcome in ("promoted", "unchanged") else outcome)
    keys = ("old_release", "new_release", "old_boot_id", "new_boot_id")
    tail = deploy.get("console_tail", [])
    return DeployView(
        outcome=outcome,
        mark=verdict.mark,
        tone=verdict.tone,
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
            if (number := lookup_number(sample.get("guests", {}).get(guest["name"], {}), key)) is not None
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
