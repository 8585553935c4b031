# SPDX-License-Identifier: GPL-2.0-only
"""What the measuring program prints: one JSON object a line, checked when it arrives."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from statistics import median
from typing import Any

import jsonschema

from mergelab.errors import MergelabError
from mergelab.store import REPORTS

SCHEMA_FILE = REPORTS / "schema" / "bench.schema.json"
ENGINES = ("ksm", "memmerge")
PLACE = ("kind", "case", "pages", "pair", "engine")


@dataclass(frozen=True, kw_only=True)
class Line:
    """One measurement and its place in the benchmark; a place that it does not have is empty or 0.

    Attributes:
        kind: what was measured, a key of ``$defs`` in the schema.
        data: its values by name; times are nanoseconds.
    """

    kind: str
    case: str
    pages: int
    pair: int
    engine: str
    data: Mapping[str, Any]


@cache
def schema() -> Mapping[str, Any]:
    """The schema of bench.json."""
    read: Mapping[str, Any] = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    return read


@cache
def _validator(kind: str) -> jsonschema.Draft202012Validator | None:
    definitions = schema()["$defs"]
    if f"line-{kind}" not in definitions:
        return None
    return jsonschema.Draft202012Validator({"$ref": f"#/$defs/line-{kind}", "$defs": definitions})


def parse(text: str) -> Line:
    """Read one line.

    Raises:
        MergelabError: it is no line of the measuring program.
    """
    try:
        value = json.loads(text)
        kind = str(value["kind"])
    except (ValueError, TypeError, KeyError):
        raise _refused(text, "it is no JSON object with a kind") from None
    validator = _validator(kind)
    if validator is None:
        raise _refused(text, f"its kind {kind!r} is not known")
    error = jsonschema.exceptions.best_match(validator.iter_errors(value))
    if error is not None:
        raise _refused(text, f"{error.json_path}: {error.message}")
    return Line(
        kind=kind,
        case=value.get("case", ""),
        pages=value.get("pages", 0),
        pair=value.get("pair", 0),
        engine=value.get("engine", ""),
        data={key: each for key, each in value.items() if key not in PLACE},
    )


def growth(end: Line, samples: Sequence[Mapping[str, int]]) -> Line:
    """Samples of a growing saving, and the line that ends them, as one measurement; CPU time from 0."""
    start = samples[0]["cpu_ns"] if samples else 0
    return replace(
        end,
        kind="growth",
        data={
            "wall_ns": [each["wall_ns"] for each in samples],
            "cpu_ns": [each["cpu_ns"] - start for each in samples],
            "saved": [each["saved"] for each in samples],
        },
    )


def watched(end: Line, samples: Sequence[Mapping[str, int]]) -> Line:
    """What a sample costs, beside what was said: the median of some that were taken one after the other."""
    times = [each["cpu_ns"] for each in samples]
    steps = [after - before for before, after in pairwise(times)]
    return replace(end, data={**end.data, "sample_ns": round(median(steps))}) if steps else end


def to_json(line: Line) -> dict[str, Any]:
    """The line as an object again."""
    place = {
        "kind": line.kind,
        "case": line.case,
        "pages": line.pages,
        "pair": line.pair,
        "engine": line.engine,
    }
    return {**{key: value for key, value in place.items() if value}, **line.data}


def _refused(text: str, why: str) -> MergelabError:
    return MergelabError(
        f"the measuring program printed what is not a measurement ({why}): {text[:200]}",
        "build program and project from the same commit: make bench does",
    )
