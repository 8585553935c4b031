# SPDX-License-Identifier: GPL-2.0-only
"""A benchmark on the terminal: a table of the cases, the goals, what became worse."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mergelab.benchmark import goals, record, text
from mergelab.benchmark.compare import REGRESSION
from mergelab.benchmark.lines import ENGINES
from mergelab.benchmark.summary import METRICS, Result, Spread

COLUMNS = {
    "first": "1st pass",
    "looked": "steady, looked at",
    "steady": "steady, per pass",
    "merge": "until merged",
    "cpu95": "95 % saved",
    "metadata": "metadata",
    "net": "net saved",
    "write50": "write p50",
    "write99": "p99",
}
"""Figures of the table and their headings."""

INSTEAD = {"looked": "churn"}
"""What a column shows where its own figure does not apply."""

WIDTH = 128
"""Columns that the widest table takes."""

STYLES = {"green": "green", "red": "red", "amber": "yellow", "quiet": "dim"}


def show(console: Console, made: record.Record) -> None:
    """Print a record."""
    results = record.results(made)
    console.print(_cases(results))
    console.print(
        "CPU time, per page but for “95 % saved”; where pages are rewritten, steady is per page scanned. "
        f"Pairs of runs: {made['plan']['pairs']}, of which the medians; the third line is KSM's figure "
        "divided by memmerge's.",
        style="dim",
        highlight=False,
    )
    console.print(_goals(made))
    if "baseline" in made:
        _baseline(console, made)


def _cases(results: list[Result]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("case")
    table.add_column("engine")
    for heading in COLUMNS.values():
        table.add_column(heading, justify="right", overflow="fold")
    for result in results:
        if not any(_known(result, engine, key) for engine in ENGINES for key in COLUMNS):
            continue  # one that only a goal is about
        for number, engine in enumerate(ENGINES):
            table.add_row(
                result.case if number == 0 else text.memory(result.pages),
                engine,
                *(_cell(result, engine, key) for key in COLUMNS),
            )
        table.add_row(
            "",
            Text("ratio", style="bold"),
            *(_ratio(result, key) for key in COLUMNS),
            end_section=True,
        )
    return table


def _known(result: Result, engine: str, key: str) -> Spread | None:
    return result.figure(engine, key) or result.figure(engine, INSTEAD.get(key, key))


def _cell(result: Result, engine: str, key: str) -> str:
    value = _known(result, engine, key)
    return "–" if value is None else text.quantity(value.median, METRICS[key].unit)


def _ratio(result: Result, key: str) -> Text | str:
    value = result.ratios.get(key) or result.ratios.get(INSTEAD.get(key, key))
    return Text(text.median(value, "times"), style="bold") if value else ""


def _goals(made: record.Record) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("goal", "target", "measured", "verdict"):
        table.add_column(heading)
    for each in made["goals"]:
        decided = each["verdict"] in (goals.REACHED, goals.MISSED)
        mark, tone = text.TONES[each["verdict"]]
        measured = "\n".join(
            f"{one['case']} {text.memory(one['pages'])}: "
            f"{text.spread(record.spread_from_json(one['value']), each['unit'])}"
            for one in each["measured"]
        )
        table.add_row(
            each["figure"],
            each["target"],
            measured if decided else f"{measured}\n{each['reason']}".strip(),
            Text(f"{mark} {each['verdict']}", style=STYLES[tone]),
        )
    return table


def _baseline(console: Console, made: record.Record) -> None:
    baseline = made["baseline"]
    for note in baseline["notes"]:
        console.print(f"note: {note}", markup=False, highlight=False)
    for verdict in text.ORDER:
        mark, tone = text.CHANGES[verdict]
        for each in baseline["findings"]:
            if each["verdict"] == verdict:
                console.print(Text(f"{mark} {change(each)}: {text.WORDS[verdict]}", style=STYLES[tone]))
    console.print(
        text.verdict_of(baseline),
        style="bold red" if any(each["verdict"] == REGRESSION for each in baseline["findings"]) else "bold",
        highlight=False,
    )


def change(finding: record.Record) -> str:
    """A finding in one line: ``near 256 MiB, CPU per page: 900 ns before, 1.2 µs now, +33 %``."""
    before, after = (record.spread_from_json(finding[key]) for key in ("before", "after"))
    what = METRICS[finding["figure"]]
    return (
        f"{finding['case']} {text.memory(finding['pages'])}, {what.title}: "
        f"{text.spread(before, what.unit)} before, {text.spread(after, what.unit)} now, "
        f"{text.relative(before, after)}"
    )
