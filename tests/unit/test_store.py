# SPDX-License-Identifier: GPL-2.0-only
"""The store reads what is there, refuses what it does not know and never fills a gap."""

import json
from pathlib import Path
from typing import Any

import pytest

from mergelab import store
from mergelab.cli import main
from mergelab.errors import MergelabError
from mergelab.evidence import Evidence, Verdict, Witness, to_json
from mergelab.judge import judge, judge_run
from mergelab.report import NOT_GREEN, judged


def put(run_dir: Path, name: str, value: object) -> Path:
    """Write one file of a run."""
    path = run_dir / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def evidence(check: str = "merge.zero", **more: Any) -> dict[str, Any]:
    """One evidence file in which a single witness was heard."""
    made = Evidence(
        check=check,
        host="h1",
        started="2026-01-01T00:00:00Z",
        seconds=1,
        title="t",
        witnesses=(Witness(name="engine", claim="c", expected=1, measured=1),),
    )
    return {**to_json(judge(made)), **more}


def test_empty_run_has_empty_parts(tmp_path: Path) -> None:
    """A run that left nothing is read without a single invented value."""
    parts = store.read(tmp_path)
    assert (parts.meta, parts.facts, parts.deploy, parts.guests, parts.telemetry) == ({}, {}, {}, {}, {})
    assert (parts.manifest, parts.evidence, parts.consoles, parts.logs) == ({}, (), (), ())


def test_record_of_any_run_fits_the_schema(tmp_path: Path) -> None:
    """An empty run has a record too, and what it lacks is absent, not null and not zero."""
    parts, judgement = judged(tmp_path)
    record = store.record(parts, judgement)
    store.validate(record)
    assert judgement.verdict is Verdict.UNPROVEN
    assert not {"started", "ended", "inventory", "commit", "emulated", "kernel"} & set(record)


@pytest.mark.parametrize(
    "name", ["meta.json", "facts/h1.json", "deploy/h1.json", "guests/h1.json", "kernel/manifest.json"]
)
@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"schema": 2}', "schema 2"),
        ('{"schema": null}', "schema None"),
        ("[]", "no JSON object"),
        ('{"a": 1', "not JSON"),
        ('{"a": NaN}', "not JSON"),
    ],
)
def test_unknown_or_broken_file_is_refused_by_name(
    tmp_path: Path, name: str, content: str, words: str
) -> None:
    """A file that is half understood would give a report that is half invented."""
    path = put(tmp_path, name, content)
    with pytest.raises(MergelabError, match=words) as caught:
        store.read(tmp_path)
    assert str(path) in caught.value.cause


def test_evidence_is_judged_again(tmp_path: Path) -> None:
    """A file that claims pass with one witness is unproven, whatever it says."""
    put(tmp_path, "evidence/h1/merge.zero.json", evidence(verdict="pass", reason=""))
    (found,) = store.read(tmp_path).evidence
    assert found.verdict is Verdict.UNPROVEN


@pytest.mark.parametrize("name", ["evidence/h2/merge.zero.json", "evidence/h1/merge.near.json"])
def test_evidence_in_the_wrong_place_is_refused(tmp_path: Path, name: str) -> None:
    """A copied file would prove a claim about a host that was never asked."""
    put(tmp_path, name, evidence())
    with pytest.raises(MergelabError, match=r"holds the evidence of merge\.zero on h1"):
        store.read(tmp_path)


def test_torn_telemetry_keeps_every_whole_sample(tmp_path: Path) -> None:
    """What a dying host managed to say counts; what it did not is named by line."""
    lines = [
        '{"t": 1.0, "host": "h1"}',
        '{"host": "h1"}',
        "[]",
        '{"t": "2"}',
        '{"t": NaN}',
        '{"t": 3}',
        '{"t": 4',
    ]
    put(tmp_path, "telemetry/h1.jsonl", "\n".join(lines))
    heard = store.read(tmp_path).telemetry["h1"]
    assert [sample["t"] for sample in heard.samples] == [1.0, 3]
    assert heard.torn == (2, 3, 4, 5, 7)
    parts, judgement = judged(tmp_path)
    assert (
        "h1: telemetry: line 2, 3, 4, 5, 7 could not be read"
        in store.record(parts, judgement)["not_measured"]
    )


def test_console_events(tmp_path: Path) -> None:
    """Trouble is found through escape sequences and carriage returns, with its line, and only trouble."""
    text = (
        "[    0.0] Linux version\r\n"
        "\x1b[1m[    9.1] WARNING: CPU: 0 PID: 1 at mm/x.c:1\x1b[0m\r\n"
        "[    9.2] watchdog: BUG: soft lockup - CPU#0 stuck\n"
        "[    9.3] BUG: unable to handle page fault\n"
        "[    9.4] Out of memory: Killed process 7 (qemu)\n"
        "[    9.5] Kernel panic - not syncing: Fatal exception\n"
        "[    9.6] no panic here\n"
    )
    put(tmp_path, "console/h1.log", text)
    put(tmp_path, "console/h1-guest0.log", "Kernel panic - not syncing: a guest's own\n")
    put(tmp_path, "facts/h1.json", {})
    parts = store.read(tmp_path)
    assert [(each.kind, each.line) for each in parts.events["h1"]] == [
        ("warning", 2),
        ("lockup", 3),
        ("oops", 4),
        ("out of memory", 5),
        ("panic", 6),
    ]
    assert parts.events["h1"][0].text == "WARNING: CPU: 0 PID: 1 at mm/x.c:1"
    assert parts.panics == {"h1": "Kernel panic - not syncing: Fatal exception"}
    assert parts.consoles == ("console/h1-guest0.log", "console/h1.log")


def test_absences_name_every_gap(tmp_path: Path) -> None:
    """A reader who looks for a figure and does not find it must find it in the list."""
    put(tmp_path, "facts/h1.json", {"kernel": {"release": "6.12"}, "memory": {"total": 0}})
    put(tmp_path, "guests/h1.json", {"guests": [{"name": "g0", "state": "failed", "boot_seconds": None}]})
    put(tmp_path, "telemetry/h1.jsonl", '{"t": 1, "meminfo": {"MemAvailable": 0}, "guests": {}}\n')
    silent = evidence()
    silent["witnesses"][0].update(measured=None, agrees=None)
    put(tmp_path, "evidence/h1/merge.zero.json", silent)
    parts, judgement = judged(tmp_path)
    record = store.record(parts, judgement)
    store.validate(record)
    assert record["hosts"][0]["guests"] == [{"name": "g0", "state": "failed"}]
    absent = store.absences(parts)
    for phrase in (
        "h1: microcode",
        "h1: kernel build-id",
        "h1: whether the host is emulated",
        "h1: boot time of guest g0",
        "h1: telemetry of engine counters",
        "h1: telemetry of memory of the guests",
        "h1: merge.zero, witness engine",
        "h1: deployment: this run did not deploy",
        "scenario swap.merged: merged pages to swap and back",
    ):
        assert phrase in absent, phrase
    for phrase in ("h1: total memory", "h1: kernel release", "h1: telemetry of memory of the host"):
        assert phrase not in absent, phrase


def test_record_that_does_not_fit_is_not_written(tmp_path: Path) -> None:
    """run.json is either right or absent; the message names the member."""
    parts, judgement = judged(tmp_path)
    record = store.record(parts, judgement)
    with pytest.raises(MergelabError, match=r"\$\.verdict"):
        store.write(tmp_path, {**record, "verdict": "green"})
    with pytest.raises(MergelabError, match="schema 2"):
        store.write(tmp_path, {**record, "schema": 2})
    with pytest.raises(MergelabError, match="surprise"):
        store.write(tmp_path, {**record, "surprise": 1})
    assert list(tmp_path.iterdir()) == []


def test_emulated_is_true_when_any_host_is_and_absent_when_none_says(tmp_path: Path) -> None:
    """False must be something that a host said."""

    def emulated() -> object:
        parts = store.read(tmp_path)
        return store.record(
            parts,
            judge_run(facts={}, deploy={}, manifest={}, evidence=(), finished=True, panics={}),
        ).get("emulated")

    put(tmp_path, "facts/h1.json", {})
    assert emulated() is None
    put(tmp_path, "facts/h2.json", {"emulated": False})
    assert emulated() is False
    put(tmp_path, "facts/h3.json", {"emulated": True})
    assert emulated() is True


def test_command_says_what_is_wrong_and_exits_non_zero(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """1: it could not be done, with cause and fix; 3: done, but the verdict is not pass."""
    assert main(["report", str(tmp_path / "nowhere")]) == 1
    said = capsys.readouterr().err
    assert "there is no run in" in said
    assert "fix:" in said
    monkeypatch.setenv("MERGELAB_RUN_DIR", str(tmp_path))
    assert main(["judge"]) == NOT_GREEN
    assert capsys.readouterr().out.startswith("unproven: ")
    assert list(tmp_path.iterdir()) == []
    assert main(["report"]) == NOT_GREEN
    assert {path.name for path in tmp_path.iterdir()} == {"run.json", "index.html", "report.md", "junit.xml"}
    assert capsys.readouterr().out.splitlines()[-1].endswith("index.html written")
    assert main(["report"]) == NOT_GREEN
    assert capsys.readouterr().out.splitlines()[-1].endswith("index.html unchanged")
