# SPDX-License-Identifier: GPL-2.0-only
"""Evidence: one claim about a host, who was asked, and what they said.

A check makes an :class:`Evidence` without verdict, lets :func:`mergelab.judge.judge` complete it, writes
``to_json`` to ``evidence/<host>/<check-id>.json`` and asserts the verdict. Reading is strict: what this
version does not know is refused, not skipped.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import cast

from mergelab.errors import MergelabError

SCHEMA = 1

Value = int | float | str | bool


class Verdict(StrEnum):
    """What became of a claim or a run. Only PASS is green."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    FAIL = "fail"
    UNPROVEN = "unproven"
    ENVIRONMENT = "environment"
    HANG = "hang"
    PANIC = "panic"
    ROLLED_BACK = "rolled-back"
    SKIPPED = "skipped"

    @property
    def green(self) -> bool:
        """Whether everything that had to hold was shown to hold."""
        return self is Verdict.PASS


class Relation(StrEnum):
    """How a measured value has to stand to the expected one."""

    EQUALS = "equals"
    AT_LEAST = "at least"
    AT_MOST = "at most"


@dataclass(frozen=True, kw_only=True)
class Witness:
    """One independent source and what it said.

    Attributes:
        name: the source: engine, pages, memory, content, kernel-log, ….
        claim: what it was asked, in one sentence.
        expected: the value that would prove the claim.
        measured: the value it gave; None when it could not be asked.
        unit: of both values; empty for plain values.
        tolerance: how far a number may lie off, in the same unit.
        relation: how measured has to stand to expected.
        agrees: set by the judge; None when not measured.
    """

    name: str
    claim: str
    expected: Value
    measured: Value | None
    unit: str = ""
    tolerance: float = 0
    relation: Relation = Relation.EQUALS
    agrees: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Control:
    """A side experiment that has to turn out in a known way for the evidence to count.

    Attributes:
        name: of the control.
        claim: what had to happen, in one sentence.
        behaved: whether it did.
    """

    name: str
    claim: str
    behaved: bool


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """One claim about one host.

    Attributes:
        check: id of the check, such as ``merge.identical``.
        host: inventory name.
        started: UTC, ``YYYY-MM-DDTHH:MM:SSZ``.
        seconds: how long the check took.
        title: the claim in one sentence.
        expected: the numbers that the bench knows before it measures.
        witnesses: who was asked.
        controls: what had to turn out in a known way.
        verdict: set by the judge, or by the check when it could not measure (environment, hang, panic,
            skipped).
        reason: why it is not green; empty for pass.
    """

    check: str
    host: str
    started: str
    seconds: float
    title: str
    expected: Mapping[str, Value] = field(default_factory=dict)
    witnesses: tuple[Witness, ...] = ()
    controls: tuple[Control, ...] = ()
    verdict: Verdict | None = None
    reason: str = ""


def to_json(evidence: Evidence) -> dict[str, object]:
    """Give the evidence as its JSON object; it must have been judged.

    Raises:
        MergelabError: it has no verdict yet.
    """
    if evidence.verdict is None:
        raise MergelabError(
            f"evidence of {evidence.check} on {evidence.host} was never judged",
            "pass it through mergelab.judge.judge before it is written",
        )
    return {
        "schema": SCHEMA,
        "check": evidence.check,
        "host": evidence.host,
        "started": evidence.started,
        "seconds": evidence.seconds,
        "title": evidence.title,
        "expected": dict(evidence.expected),
        "witnesses": [
            {
                "name": witness.name,
                "claim": witness.claim,
                "expected": witness.expected,
                "measured": witness.measured,
                "unit": witness.unit,
                "tolerance": witness.tolerance,
                "relation": witness.relation.value,
                "agrees": witness.agrees,
            }
            for witness in evidence.witnesses
        ],
        "controls": [
            {"name": control.name, "claim": control.claim, "behaved": control.behaved}
            for control in evidence.controls
        ],
        "verdict": evidence.verdict.value,
        "reason": evidence.reason,
    }


class _Reader:
    """Takes members out of a JSON object by type and refuses what is left over."""

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise _broken(where, f"is not an object but {type(value).__name__}")
        self.rest = dict(cast(dict[str, object], value))
        self.where = where

    def take(self, key: str, *types: type) -> object:
        if key not in self.rest:
            raise _broken(self.where, f"has no {key!r}")
        value = self.rest.pop(key)
        if type(value) not in types:  # exact: a bool is no number here
            names = " or ".join(kind.__name__ for kind in types)
            raise _broken(self.where, f"has a {key!r} that is not {names} but {value!r}")
        return value

    def text(self, key: str) -> str:
        return cast(str, self.take(key, str))

    def number(self, key: str) -> float:
        return cast(float, self.take(key, int, float))

    def value(self, key: str) -> Value:
        return cast(Value, self.take(key, int, float, str, bool))

    def members(self, key: str) -> list[object]:
        return cast(list[object], self.take(key, list))

    def end(self) -> None:
        if self.rest:
            raise _broken(self.where, f"has unknown members: {', '.join(sorted(self.rest))}")


def _broken(where: str, what: str) -> MergelabError:
    return MergelabError(
        f"{where} {what}",
        f"write it as docs/architecture.md describes evidence of schema {SCHEMA}, "
        "or read it with the mergelab that wrote it",
    )


def _witness(value: object, where: str) -> Witness:
    reader = _Reader(value, where)
    measured = cast(Value | None, reader.take("measured", int, float, str, bool, type(None)))
    agrees = cast(bool | None, reader.take("agrees", bool, type(None)))
    relation = reader.text("relation") if "relation" in reader.rest else Relation.EQUALS.value
    if relation not in list(Relation):
        raise _broken(where, f"has the unknown relation {relation!r}")
    witness = Witness(
        name=reader.text("name"),
        claim=reader.text("claim"),
        expected=reader.value("expected"),
        measured=measured,
        unit=reader.text("unit"),
        tolerance=reader.number("tolerance"),
        relation=Relation(relation),
        agrees=agrees,
    )
    reader.end()
    return witness


def _control(value: object, where: str) -> Control:
    reader = _Reader(value, where)
    control = Control(
        name=reader.text("name"),
        claim=reader.text("claim"),
        behaved=cast(bool, reader.take("behaved", bool)),
    )
    reader.end()
    return control


def from_json(value: object, where: str = "evidence") -> Evidence:
    """Read one evidence object.

    Args:
        value: what ``json.load`` gave.
        where: the file, for messages.

    Raises:
        MergelabError: a member is missing, unknown or of another type, or the schema is another version's.
    """
    reader = _Reader(value, where)
    schema = reader.take("schema", int)
    if schema != SCHEMA:
        raise _broken(where, f"is of schema {schema}, this mergelab reads {SCHEMA}")
    expected = _Reader(reader.take("expected", dict), f"{where}: expected")
    witnesses, controls = reader.members("witnesses"), reader.members("controls")
    verdict = reader.text("verdict")
    if verdict not in list(Verdict):
        raise _broken(where, f"has the unknown verdict {verdict!r}")
    evidence = Evidence(
        check=reader.text("check"),
        host=reader.text("host"),
        started=reader.text("started"),
        seconds=reader.number("seconds"),
        title=reader.text("title"),
        expected={key: expected.value(key) for key in list(expected.rest)},
        witnesses=tuple(_witness(each, f"{where}: witness {n}") for n, each in enumerate(witnesses, 1)),
        controls=tuple(_control(each, f"{where}: control {n}") for n, each in enumerate(controls, 1)),
        verdict=Verdict(verdict),
        reason=reader.text("reason"),
    )
    reader.end()
    return evidence
