# SPDX-License-Identifier: GPL-2.0-only
"""bench.json: made of lines and what was computed from them, validated, written whole, read back."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jsonschema

from mergelab.benchmark import lines
from mergelab.benchmark.compare import Finding
from mergelab.benchmark.goals import Verdict
from mergelab.benchmark.lines import Line
from mergelab.benchmark.summary import Result, Spread
from mergelab.errors import MergelabError

SCHEMA = 1
FILE = "bench.json"
_NAME = re.compile(r"bench-\d{8}T\d{6}Z")

Record = Mapping[str, Any]


def spread_to_json(spread: Spread) -> dict[str, Any]:
    """A figure as an object."""
    return {
        "median": spread.median,
        "low": spread.low,
        "high": spread.high,
        "values": list(spread.values),
    }


def spread_from_json(value: Mapping[str, Any]) -> Spread:
    """A figure as it was written."""
    return Spread(median=value["median"], low=value["low"], high=value["high"], values=tuple(value["values"]))


def _figures(figures: Mapping[str, Spread]) -> dict[str, Any]:
    return {metric: spread_to_json(value) for metric, value in figures.items()}


def result_to_json(result: Result) -> dict[str, Any]:
    """A result as an object."""
    return {
        "case": result.case,
        "pages": result.pages,
        "engines": {engine: _figures(figures) for engine, figures in result.engines.items()},
        "ratios": _figures(result.ratios),
    }


def results(record: Record) -> list[Result]:
    """The results of a record."""

    def figures(value: Mapping[str, Any]) -> dict[str, Spread]:
        return {metric: spread_from_json(each) for metric, each in value.items()}

    return [
        Result(
            case=each["case"],
            pages=each["pages"],
            engines={engine: figures(value) for engine, value in each["engines"].items()},
            ratios=figures(each["ratios"]),
        )
        for each in record["results"]
    ]


def measurements(record: Record) -> list[Line]:
    """The lines of a record, as they were heard."""
    return [
        Line(
            kind=each["kind"],
            case=each.get("case", ""),
            pages=each.get("pages", 0),
            pair=each.get("pair", 0),
            engine=each.get("engine", ""),
            data={key: value for key, value in each.items() if key not in lines.PLACE},
        )
        for each in record["measurements"]
    ]


def goal_to_json(verdict: Verdict) -> dict[str, Any]:
    """A goal's verdict as an object."""
    return {
        "goal": verdict.goal,
        "figure": verdict.figure,
        "target": verdict.target,
        "unit": verdict.unit,
        "measured": [
            {"case": each.case, "pages": each.pages, "value": spread_to_json(each.value)}
            for each in verdict.measured
        ],
        "verdict": verdict.verdict,
        "reason": verdict.reason,
    }


def baseline_to_json(bench: str, findings: Sequence[Finding], notes: Sequence[str]) -> dict[str, Any]:
    """A comparison as an object."""
    return {
        "bench": bench,
        "notes": list(notes),
        "findings": [
            {
                **{key: value for key, value in asdict(each).items() if key in ("case", "pages", "verdict")},
                "figure": each.metric,
                "before": spread_to_json(each.before),
                "after": spread_to_json(each.after),
            }
            for each in findings
        ],
    }


def validate(record: Record) -> None:
    """Check a record against the schema.

    Raises:
        MergelabError: it does not fit; names the member.
    """
    if record.get("schema") != SCHEMA:
        raise MergelabError(
            f"the benchmark is of schema {record.get('schema')!r}, this mergelab reads {SCHEMA}",
            "read it with the mergelab that wrote it",
        )
    error = jsonschema.exceptions.best_match(
        jsonschema.Draft202012Validator(lines.schema()).iter_errors(record)
    )
    if error is not None:
        raise MergelabError(
            f"the benchmark does not fit its schema at {error.json_path}: {error.message}",
            "measure again with make bench",
        )


def text(record: Record) -> str:
    """A valid record as it is written.

    Raises:
        MergelabError: it does not fit the schema.
    """
    validate(record)
    return json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def read(runs: Path, bench: str) -> Record:
    """Read a benchmark by its name, with or without ``bench-``.

    Raises:
        MergelabError: there is none of that name, or it cannot be read.
    """
    name = bench if bench.startswith("bench-") else f"bench-{bench}"
    path = runs / name / FILE
    if not _NAME.fullmatch(name) or not path.is_file():
        known = [each.name for each in sorted(runs.glob("bench-*")) if (each / FILE).is_file()]
        raise MergelabError(
            f"there is no benchmark '{bench}' in {runs}",
            f"there are: {', '.join(known)}" if known else "make bench makes one",
        )
    try:
        record: Record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise MergelabError(f"{path} is not JSON: {error}", "name another benchmark") from None
    validate(record)
    return record
