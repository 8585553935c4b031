# SPDX-License-Identifier: GPL-2.0-only
"""Golden tests of a benchmark's page and table: measurements of a real boot, and what has to come of them.

``benchmark.jsonl`` holds what was measured once, on a machine that did other things as well: its figures say
nothing about the engines. A baseline is made from it, in which memmerge was twice as fast.
"""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mergelab.benchmark import goals, lines, plan, record, render, run, summary, terminal

from .test_report import Page, normal

HERE = Path(__file__).parent
EXPECTED = HERE / "expected" / "benchmark"
CASES = ("plain", "regressed", "empty")


def made(measured: list[lines.Line]) -> dict[str, Any]:
    """A record of measurements, with the surroundings of no real machine."""
    results = summary.results(measured)
    items = tuple(plan.Item(case=each.case, pages=each.pages) for each in results)
    items = items or (plan.Item(case="random", pages=16384),)
    chosen = plan.Plan(
        items=items, pairs=4, left_out=(("guest at 64M", "no guest's memory is there: take it"),)
    )
    return {
        "schema": 1,
        "bench": "bench-20260102T000000Z",
        "started": "2026-01-02T00:00:00Z",
        "ended": "2026-01-02T00:04:10Z",
        "commit": "0123456789ab",
        "machine": {
            "cpu": {"vendor": "Example", "model": "Example <b>CPU</b>", "threads": 2},
            "memory": {"total": 8 << 30},
            "emulated": False,
            "kernel": {"release": "6.1.0-example"},
        },
        "build": {
            "digest": "0123456789abcdef",
            "profile": "um",
            "kernel_release": "6.12.117-mergelab-01234567",
            "srcversion": "ABCDEF",
            "config": "c" * 64,
            "patches": 6,
            "compiler": "gcc 12.2.0",
            "program": "p" * 64,
        },
        "tools": {"mergelab": "0.1.0", "python": "3.11.2", "gcc": "gcc 12.2.0", "matplotlib": "3.10.0"},
        "plan": {
            "room": "uml",
            "pairs": chosen.pairs,
            "memory": chosen.memory,
            "items": [{"case": item.case, "pages": item.pages} for item in items],
        },
        "load": {"before": 0.1, "after": 1.02},
        "measurements": [lines.to_json(line) for line in measured],
        "results": [record.result_to_json(result) for result in results],
        "goals": [record.goal_to_json(verdict) for verdict in goals.judge(results)],
        "not_measured": run.not_measured(chosen, results),
    }


def recorded() -> list[lines.Line]:
    """The measurements, each pair twice: what two pairs say of the noise is next to nothing."""
    text = (HERE / "benchmark.jsonl").read_text(encoding="utf-8")
    once = [lines.parse(line) for line in text.splitlines()]
    again = [replace(line, pair=line.pair + 2) for line in once if line.pair]
    return [*once, *again]


def quicker(line: lines.Line) -> lines.Line:
    """A pass of memmerge at half of its cost."""
    if line.engine != "memmerge" or line.kind != "pass":
        return line
    return lines.parse(json.dumps({**lines.to_json(line), "cpu_ns": line.data["cpu_ns"] // 2}))


def benchmark(case: str) -> dict[str, Any]:
    """A record of one of the cases."""
    if case == "empty":
        return made([])
    whole = made(recorded())
    if case == "regressed":
        before = {**made([quicker(line) for line in recorded()]), "bench": "bench-20260101T000000Z"}
        before["build"] = {**before["build"], "program": "q" * 64}
        whole["baseline"] = run.against(before, whole, record.results(whole))
    return whole


def table(value: dict[str, Any]) -> str:
    """What the terminal shows, without colours."""
    out = io.StringIO()
    terminal.show(Console(file=out, width=terminal.WIDTH, color_system=None), value)
    return re.sub(r" +$", "", out.getvalue(), flags=re.MULTILINE)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", ["index.html", "table.txt"])
def test_benchmark_is_the_golden_one(case: str, name: str, pytestconfig: pytest.Config) -> None:
    """Any change of a word, figure or order is a decision that somebody sees."""
    value = benchmark(case)
    record.validate(value)
    got = table(value) if name == "table.txt" else normal(name, render.html(render.page(value)))
    golden = EXPECTED / case / name
    if pytestconfig.getoption("--update-golden", default=False):
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(got, encoding="utf-8")
    assert golden.is_file(), f"{golden} is missing: run pytest tests/golden --update-golden, read the result"
    assert got == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("case", CASES)
def test_page_is_one_offline_file(case: str) -> None:
    """The page needs nothing beside it, links lead somewhere, and text of a machine is never markup."""
    text = render.html(render.page(benchmark(case)))
    page = Page()
    page.feed(text)
    page.close()
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert "script" not in page.tags
    assert [link for link in page.links if re.match(r"[a-z]+:|//", link)] == []
    assert [link for link in page.links if link.startswith("#") and link[1:] not in page.ids] == []
    assert "Example <b>" not in text


def test_same_record_same_page() -> None:
    """A page that differs without a cause cannot be compared."""
    value = benchmark("plain")
    assert render.html(render.page(value)) == render.html(render.page(json.loads(record.text(value))))


def test_regression_is_named_and_counted() -> None:
    """The golden files could be updated unseen; what must be in them is stated here, too."""
    value = benchmark("regressed")
    worse = {each["figure"] for each in value["baseline"]["findings"] if each["verdict"] == "regression"}
    assert "steady" in worse
    assert "regression" in table(value)
    assert "the measuring program is another one" in table(value)
    assert benchmark("plain").get("baseline") is None


def test_comparison_with_itself_finds_nothing() -> None:
    """A benchmark is neither better nor worse than itself."""
    value = benchmark("plain")
    findings = run.against(value, value, record.results(value))["findings"]
    assert findings
    assert {each["verdict"] for each in findings} == {"same"}
