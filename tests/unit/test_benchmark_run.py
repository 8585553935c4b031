# SPDX-License-Identifier: GPL-2.0-only
"""What the measuring program prints is heard, other lines are refused, and nothing stays half-done."""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mergelab.benchmark import lines, plan, record, run
from mergelab.benchmark.lines import Line
from mergelab.benchmark.progress import Progress
from mergelab.benchmark.run import Ear
from mergelab.errors import MergelabError

RECORDED = Path(__file__).with_name("benchmark_lines.txt")
PLAN = plan.Plan(items=(plan.Item(case="twice", pages=16384),), pairs=1)


def ear() -> tuple[Ear, io.StringIO]:
    """An ear, and what somebody who waits sees."""
    shown = io.StringIO()
    return Ear(Progress(Console(file=shown, width=100), PLAN)), shown


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> tuple[Ear, list[str], str]:
    """The recorded lines of a real boot, heard; the answers; what was shown."""
    clock = iter(range(1000, 10**9, 1000))
    monkeypatch.setattr(run, "cpu_ns", lambda _process: next(clock))
    listener, shown = ear()
    answers = [listener(line, 1) for line in RECORDED.read_text().splitlines()]
    return listener, [answer for answer in answers if answer is not None], shown.getvalue()


def test_recorded_boot_is_heard_to_its_end(heard: tuple[Ear, list[str], str]) -> None:
    """Every line of a real boot is a measurement, in the order in which it came."""
    listener, _, shown = heard
    assert listener.done
    kinds = [line.kind for line in listener.lines if line.engine == "memmerge"]
    assert kinds == ["run", "growth", *["pass"] * 5, "state", "join", "writes"]
    assert "run 2 of 2: twice 64 MiB, pair 1, memmerge" in shown


def test_bar_on_a_terminal_names_the_run_and_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits sees which run it is and what a pass costs; nothing of it remains above the table."""
    monkeypatch.setattr(run, "cpu_ns", lambda _process: 0)
    out = io.StringIO()
    with Progress(Console(file=out, force_terminal=True, width=120), PLAN) as progress:
        listener = Ear(progress)
        for line in RECORDED.read_text().splitlines():
            listener(line, 1)
    shown = out.getvalue()
    assert "of 2 runs" in shown
    assert "bench: run" not in shown
    assert shown.rstrip().endswith("\x1b[2K")


def test_every_question_is_answered(heard: tuple[Ear, list[str], str]) -> None:
    """A question without an answer would leave the machine waiting for ever."""
    _, answers, _ = heard
    assert len(answers) == RECORDED.read_text().count("cpu?")
    assert all(int(answer) > 0 for answer in answers)


def test_samples_become_one_curve(heard: tuple[Ear, list[str], str]) -> None:
    """The CPU time of a sample is that of the moment in which it was heard, from the first on."""
    listener, _, _ = heard
    (growth,) = [line for line in listener.lines if (line.kind, line.engine) == ("growth", "ksm")]
    wall, cpu, saved = (growth.data[key] for key in ("wall_ns", "cpu_ns", "saved"))
    assert len(wall) == len(cpu) == len(saved) > 2
    assert cpu[:3] == [0, 1000, 2000]
    assert wall == sorted(wall)
    assert saved[-1] == 8192


def test_time_to_understand_a_sample_is_not_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel goes on meanwhile; the first line of a kind takes milliseconds, as its schema is read."""
    now = [0]
    slow = iter([5000, 0, 0])

    def parse(text: str, understand: Callable[[str], Line] = lines.parse) -> Line:
        now[0] += next(slow)
        return understand(text)

    monkeypatch.setattr(run, "cpu_ns", lambda _process: now[0])
    monkeypatch.setattr(lines, "parse", parse)
    listener, _ = ear()
    for text in (
        '{"kind": "sample", "case": "twice", "pages": 1, "pair": 1, "wall_ns": 0, "saved": 0}',
        '{"kind": "sample", "case": "twice", "pages": 1, "pair": 1, "wall_ns": 1, "saved": 0}',
        '{"kind": "settled", "case": "twice", "pages": 1, "pair": 1, "engine": "ksm"}',
    ):
        listener(text, 1)
    assert listener.lines[0].data["cpu_ns"] == [0, 5000]


def test_cost_of_a_sample_is_heard(heard: tuple[Ear, list[str], str]) -> None:
    """What is taken before there is anything to see tells what looking costs, and is in no curve."""
    listener, _, _ = heard
    (watching,) = [line for line in listener.lines if line.kind == "watching"]
    assert watching.data["sample_ns"] == 1000


def test_samples_of_two_engines_do_not_mix(heard: tuple[Ear, list[str], str]) -> None:
    """A curve begins anew with every engine."""
    listener, _, _ = heard
    (growth,) = [line for line in listener.lines if (line.kind, line.engine) == ("growth", "memmerge")]
    assert growth.data["cpu_ns"][0] == 0
    assert growth.data["saved"][0] == 0


def test_lines_survive_the_record(heard: tuple[Ear, list[str], str]) -> None:
    """What is written is what was heard."""
    listener, _, _ = heard
    written: dict[str, Any] = {"measurements": [lines.to_json(line) for line in listener.lines]}
    assert record.measurements(written) == listener.lines
    assert [lines.parse(json.dumps(line)) for line in written["measurements"]] == listener.lines


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("no JSON", "no JSON object with a kind"),
        ("[1]", "no JSON object with a kind"),
        ('{"kind": "novel"}', "its kind 'novel' is not known"),
        ('{"kind": "run", "case": "twice", "pages": 1, "pair": 1}', "'engine' is a required property"),
        ('{"kind": "floor", "case": "twice", "pages": 1, "pair": 1, "ps_per_page": "1"}', r"\$.ps_per_page"),
        ('{"kind": "done", "more": 1}', "'more' was unexpected"),
    ],
)
def test_other_lines_are_refused(text: str, why: str) -> None:
    """A program of another version must not be half understood."""
    with pytest.raises(MergelabError, match=why):
        ear()[0](text, os.getpid())


def test_error_of_the_program_ends_the_benchmark() -> None:
    """An engine that changed the memory's content is the news, not a gap in a table."""
    text = '{"kind": "error", "case": "zero", "pages": 1, "pair": 1, "reason": "ksm changed the content"}'
    with pytest.raises(MergelabError, match="gave up: ksm changed the content"):
        ear()[0](text, os.getpid())


def test_clock_of_a_process() -> None:
    """The CPU time is that of the process named, and moves with its work."""
    before = run.cpu_ns(os.getpid())
    end = time.process_time_ns() + 2_000_000
    while time.process_time_ns() < end:
        pass
    assert run.cpu_ns(os.getpid()) - before >= 2_000_000


def test_second_benchmark_is_refused(tmp_path: Path) -> None:
    """Two at once would measure each other; the first is named, and its end frees the way."""
    with run.alone(tmp_path), pytest.raises(MergelabError) as caught, run.alone(tmp_path):
        pass
    assert f"process {os.getpid()}" in caught.value.cause
    with run.alone(tmp_path):
        pass


def test_folder_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was interrupted while it was written leaves nothing that looks like a benchmark."""
    monkeypatch.setattr(record, "text", lambda _made: "{}")
    folder = run.keep(tmp_path, {"bench": "bench-1"}, {"index.html": "page"})
    assert sorted(path.name for path in folder.iterdir()) == ["bench.json", "index.html"]
    monkeypatch.setattr(os, "fsync", lambda _file: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        run.keep(tmp_path, {"bench": "bench-2"}, {})
    assert [path.name for path in tmp_path.iterdir()] == ["bench-1"]


def test_invalid_record_is_not_written(tmp_path: Path) -> None:
    """A record that does not fit the schema would be refused by the next comparison."""
    with pytest.raises(MergelabError, match="does not fit its schema"):
        run.keep(tmp_path, {"schema": 1, "bench": "bench-1"}, {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["20260101T000000Z", "bench-20260101T000000Z", "../bench-20260101T000000Z", ""]
)
def test_missing_benchmark(tmp_path: Path, name: str) -> None:
    """A baseline that does not exist is an error before anything is measured, and names what there is."""
    with pytest.raises(MergelabError) as caught:
        record.read(tmp_path, name)
    assert caught.value.fix == "make bench makes one"
    (tmp_path / "bench-20250101T000000Z").mkdir()
    (tmp_path / "bench-20250101T000000Z" / "bench.json").write_text("{")
    with pytest.raises(MergelabError) as caught:
        record.read(tmp_path, name)
    assert caught.value.fix == "there are: bench-20250101T000000Z"


def test_torn_and_foreign_benchmarks(tmp_path: Path) -> None:
    """What cannot be read, or is of another version, is not compared with."""
    folder = tmp_path / "bench-20250101T000000Z"
    folder.mkdir()
    (folder / "bench.json").write_text("{")
    with pytest.raises(MergelabError, match="is not JSON"):
        record.read(tmp_path, "20250101T000000Z")
    (folder / "bench.json").write_text('{"schema": 2}')
    with pytest.raises(MergelabError, match="is of schema 2"):
        record.read(tmp_path, "20250101T000000Z")


def test_what_was_not_measured_is_listed() -> None:
    """A case that was left out is said; nothing is passed over."""
    left = plan.Plan(items=PLAN.items, pairs=1, left_out=(("guest at 64M", "no memory"),))
    found = {each["what"]: each["why"] for each in run.not_measured(left, [])}
    assert found["guest at 64M"] == "no memory"


def test_line_without_a_place() -> None:
    """A line about the machine belongs to no case."""
    line = lines.parse('{"kind": "done"}')
    assert line == Line(kind="done", case="", pages=0, pair=0, engine="", data={})
    assert lines.to_json(line) == {"kind": "done"}
