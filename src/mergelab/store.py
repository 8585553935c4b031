# SPDX-License-Identifier: GPL-2.0-only
"""The store: a run directory read into its parts, and the one record made of them.

What is absent stays absent: nothing is filled in with a zero or a guess, and :func:`absences` lists it. Files
of a schema that this version does not know are refused; only telemetry may be torn, because it is all that a
host that died leaves behind.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import jsonschema

from mergelab import evidence as ev
from mergelab.errors import MergelabError
from mergelab.evidence import Evidence, Verdict
from mergelab.files import write_atomically
from mergelab.judge import LATER, Judgement, judge

SCHEMA = 1
REPORTS = Path(__file__).parents[2] / "reports"

Object = Mapping[str, Any]
"""A JSON object as another room wrote it."""

TROUBLE = {
    "panic": r"Kernel panic - not syncing.*",
    "lockup": r"(BUG: soft lockup|rcu: INFO: rcu\w* (self-)?detected stall|task \S+ blocked for more than).*",
    "oops": r"(Oops: |BUG: |kernel BUG at |general protection fault|Unable to handle kernel).*",
    "warning": r"WARNING: CPU: .*",
    "out of memory": r"(Out of memory: Killed|Memory cgroup out of memory: Killed) .*",
}
"""Lines of a console that a reader of the report must know about, by kind."""

CONSOLE_NOISE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()=>]\S?|[\x00-\x08\x0b-\x1f\x7f]")


@dataclass(frozen=True, kw_only=True)
class Event:
    """One line of a console: its kind in :data:`TROUBLE`, its number from 1, its text."""

    kind: str
    line: int
    text: str


@dataclass(frozen=True, kw_only=True)
class Telemetry:
    """Samples of one host in the order they arrived, and the numbers of the lines that could not be read."""

    samples: tuple[Object, ...]
    torn: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Everything that a run directory holds, as it was measured.

    Attributes:
        meta: of the run; empty when there is no meta.json.
        facts, deploy, guests, telemetry: per host; a host that left none is not in the mapping.
        events: by the console's name, which is the host's, or <host>-<guest> for a guest.
        manifest: of the kernel; empty when none was built.
        evidence: judged, in the order the checks started.
        consoles, logs: paths inside the run directory.
    """

    run: str
    meta: Object
    facts: Mapping[str, Object]
    deploy: Mapping[str, Object]
    guests: Mapping[str, Object]
    telemetry: Mapping[str, Telemetry]
    events: Mapping[str, tuple[Event, ...]]
    manifest: Object
    evidence: tuple[Evidence, ...]
    consoles: tuple[str, ...] = field(default=())
    logs: tuple[str, ...] = field(default=())

    @property
    def hosts(self) -> list[str]:
        """Every host that left anything, by name."""
        parts = (self.facts, self.deploy, self.guests, self.telemetry)
        return sorted({host for part in parts for host in part} | {each.host for each in self.evidence})

    @property
    def panics(self) -> dict[str, str]:
        """Per host, the first line that says that its kernel died."""
        found = {}
        for host in self.hosts:
            texts = [each.text for each in self.events.get(host, ()) if each.kind == "panic"]
            if texts:
                found[host] = texts[0]
        return found


def read(run_dir: Path) -> Parts:
    """Read a run directory.

    Raises:
        MergelabError: a file is no JSON, of an unknown schema, or contradicts its own name.
    """
    consoles = _files(run_dir, "console")
    return Parts(
        run=run_dir.name,
        meta=_object(run_dir / "meta.json"),
        facts=_per_host(run_dir / "facts"),
        deploy=_per_host(run_dir / "deploy"),
        guests=_per_host(run_dir / "guests"),
        telemetry={path.stem: _telemetry(path) for path in sorted((run_dir / "telemetry").glob("*.jsonl"))},
        events={
            path.stem: events
            for path in sorted((run_dir / "console").glob("*.log"))
            if (events := _events(path))
        },
        manifest=_object(run_dir / "kernel" / "manifest.json"),
        evidence=_evidence(run_dir / "evidence"),
        consoles=consoles,
        logs=_files(run_dir, "logs"),
    )


def _files(run_dir: Path, folder: str) -> tuple[str, ...]:
    found = (path for path in (run_dir / folder).rglob("*") if path.is_file())
    return tuple(sorted(path.relative_to(run_dir).as_posix() for path in found))


def _no_number(name: str) -> object:
    raise ValueError(f"{name} is no number")


def _json(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number)
    except ValueError as error:
        raise MergelabError(
            f"{path} is not JSON: {error}",
            "remove it if it is a leftover, or write it again with the step that made it",
        ) from None


def _object(path: Path) -> Object:
    if not path.is_file():
        return {}
    value = _json(path)
    if not isinstance(value, dict):
        raise MergelabError(f"{path} holds no JSON object", "write it as docs/architecture.md describes")
    if value.get("schema", SCHEMA) != SCHEMA:
        raise MergelabError(
            f"{path} is of schema {value['schema']!r}, this mergelab reads {SCHEMA}",
            "make the report with the mergelab that made the run",
        )
    return cast(Object, value)


def _per_host(folder: Path) -> dict[str, Object]:
    return {path.stem: _object(path) for path in sorted(folder.glob("*.json"))}


def _evidence(folder: Path) -> tuple[Evidence, ...]:
    found = []
    for path in sorted(folder.glob("*/*.json")):
        each = ev.from_json(_json(path), str(path))
        if (each.host, each.check) != (path.parent.name, path.stem):
            raise MergelabError(
                f"{path} holds the evidence of {each.check} on {each.host}",
                "file it as evidence/<host>/<check-id>.json",
            )
        found.append(judge(each))
    return tuple(sorted(found, key=lambda each: (each.host, each.started, each.check)))


def _telemetry(path: Path) -> Telemetry:
    samples, torn = [], []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            sample = json.loads(line, parse_constant=_no_number)
        except ValueError:
            sample = None
        if isinstance(sample, dict) and type(sample.get("t")) in (int, float):
            samples.append(sample)
        else:
            torn.append(number)
    return Telemetry(samples=tuple(samples), torn=tuple(torn))


def _events(path: Path) -> tuple[Event, ...]:
    events = []
    patterns = {kind: re.compile(pattern) for kind, pattern in TROUBLE.items()}
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            text = CONSOLE_NOISE.sub("", line)
            for kind, pattern in patterns.items():
                if match := pattern.search(text):
                    events.append(Event(kind=kind, line=number, text=match.group().strip()[:200]))
                    break
    return tuple(events)


EXPECTED_FACTS = {
    "emulated": "whether the host is emulated",
    "dmi": "DMI",
    "cpu.model": "CPU model",
    "cpu.microcode": "microcode",
    "numa": "NUMA nodes",
    "memory.total": "total memory",
    "memory.devices": "memory modules (DIMMs)",
    "kernel.release": "kernel release",
    "kernel.build_id": "kernel build-id",
    "kernel.cmdline": "kernel command line",
    "kernel.taint": "kernel taint",
    "modules.memmerge.srcversion": "srcversion of memmerge",
}
EXPECTED_TELEMETRY = {
    "engine": "engine counters",
    "meminfo": "memory of the host",
    "psi": "pressure (PSI)",
    "scanner_cpu_s": "CPU time of the scanner",
    "guests": "memory of the guests",
}


def lookup(tree: Object, path: str) -> object:
    """Follow a dotted path through nested objects; None where it ends early."""
    value: object = tree
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def lookup_number(tree: Object, path: str) -> float | None:
    """Follow a dotted path to a number; None when there is none."""
    found = lookup(tree, path)
    return found if isinstance(found, int | float) and not isinstance(found, bool) else None


def absences(parts: Parts) -> list[str]:
    """List what a reader may look for and will not find, one phrase each."""
    absent = []
    if not parts.manifest:
        absent.append("provenance of the kernel: no manifest, this run built none")
    for host in parts.hosts:
        absent += [f"{host}: {what}" for what in _absent_on(host, parts)]
    for each in parts.evidence:
        unheard = [witness.name for witness in each.witnesses if witness.measured is None]
        absent += [f"{each.host}: {each.check}, witness {name}" for name in unheard]
        if each.verdict is Verdict.SKIPPED:
            absent.append(f"{each.host}: {each.check} was skipped, {each.reason}")
    ran = {each.check for each in parts.evidence}
    absent += [f"scenario {check}: {what}" for check, what in LATER.items() if check not in ran]
    return absent


def _absent_on(host: str, parts: Parts) -> Iterable[str]:
    facts = parts.facts.get(host)
    if facts is None:
        yield "its fingerprint"
    else:
        yield from (name for path, name in EXPECTED_FACTS.items() if lookup(facts, path) in (None, [], {}))
    if host not in parts.deploy:
        yield "deployment: this run did not deploy"
    guests = parts.guests.get(host, {}).get("guests", [])
    if not guests:
        yield "guests: no batch was recorded"
    yield from (
        f"boot time of guest {each.get('name')}" for each in guests if each.get("boot_seconds") is None
    )
    telemetry = parts.telemetry.get(host)
    if telemetry is None or not telemetry.samples:
        yield "telemetry"
    else:
        for key, name in EXPECTED_TELEMETRY.items():
            if not any(sample.get(key) not in (None, {}) for sample in telemetry.samples):
                yield f"telemetry of {name}"
        if telemetry.torn:
            lines = ", ".join(map(str, telemetry.torn[:8])) + (" …" if len(telemetry.torn) > 8 else "")
            yield f"telemetry: line {lines} could not be read"


def record(parts: Parts, judgement: Judgement) -> dict[str, Any]:
    """Make the run's one record; see reports/schema/run.schema.json for its shape."""
    known = {key: parts.meta[key] for key in ("started", "ended", "inventory", "commit") if key in parts.meta}
    emulated = [
        facts["emulated"] for facts in parts.facts.values() if isinstance(facts.get("emulated"), bool)
    ]
    return {
        "schema": SCHEMA,
        "run": parts.meta.get("run", parts.run),
        **known,
        **({"emulated": any(emulated)} if emulated else {}),
        "verdict": judgement.verdict.value,
        "reason": judgement.reason,
        "findings": [
            {"verdict": each.verdict.value, "subject": each.subject, "sentence": each.sentence}
            for each in judgement.findings
        ],
        **({"kernel": dict(parts.manifest)} if parts.manifest else {}),
        "hosts": [_host(host, parts) for host in parts.hosts],
        "evidence": [ev.to_json(each) for each in parts.evidence],
        "consoles": list(parts.consoles),
        "logs": list(parts.logs),
        "not_measured": absences(parts),
    }


def _host(host: str, parts: Parts) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": host}
    for name, part in (("facts", parts.facts), ("deploy", parts.deploy)):
        if host in part:
            entry[name] = dict(part[host])
    if host in parts.guests:
        entry["guests"] = [
            {key: known for key, known in guest.items() if known is not None}
            for guest in parts.guests[host].get("guests", [])
        ]
    if host in parts.telemetry:
        samples = parts.telemetry[host].samples
        entry["telemetry"] = {
            "path": f"telemetry/{host}.jsonl",
            "samples": len(samples),
            "torn": list(parts.telemetry[host].torn),
            **({"first": samples[0]["t"], "last": samples[-1]["t"]} if samples else {}),
        }
    if host in parts.events:
        entry["events"] = [
            {"kind": each.kind, "line": each.line, "text": each.text} for each in parts.events[host]
        ]
    return entry


def validate(value: object) -> None:
    """Check a record against the schema.

    Raises:
        MergelabError: it does not fit; names the member.
    """
    if isinstance(value, Mapping) and value.get("schema") != SCHEMA:
        raise MergelabError(
            f"the record is of schema {value.get('schema')!r}, this mergelab reads {SCHEMA}",
            "read it with the mergelab that wrote it",
        )
    schema = json.loads((REPORTS / "schema" / "run.schema.json").read_text(encoding="utf-8"))
    validator = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
    error = jsonschema.exceptions.best_match(validator.iter_errors(value))
    if error is not None:
        raise MergelabError(
            f"the record does not fit its schema at {error.json_path}: {error.message}",
            "correct the file of the run that holds this member, as docs/architecture.md describes it",
        )


def write(run_dir: Path, value: Object) -> bool:
    """Validate a record and write it as run.json; returns False when it was there already."""
    validate(value)
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    return write_atomically(run_dir / "run.json", text)
