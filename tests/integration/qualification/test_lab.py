# SPDX-License-Identifier: GPL-2.0-only
"""The embedded lab end to end, by the commands that a user types."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from mergelab import uml
from mergelab.benchmark import lines
from tests.integration.lab import HOST, ROOT, Lab, Played
from tests.integration.programs import on_host, run, within

pytestmark = pytest.mark.lab

# What a qualification claims, at the least. The report refuses a pass without them, too.
CHECKS = {
    "merge.identical",
    "merge.zero",
    "merge.near",
    "merge.plain",
    "unshare.one",
    "overcommit.density",
    "control.off",
}


def evidence(played: Played) -> dict[str, dict[str, object]]:
    """Return the evidence of the lab's host, by check."""
    assert played.run_dir is not None, played.output
    files = (played.run_dir / "evidence" / HOST).glob("*.json")
    return {path.stem: json.loads(path.read_text()) for path in files}


def test_qualify_passes(qualified: Played) -> None:
    """The command ends well, and says where its report is."""
    assert qualified.status == 0, qualified.output[-6000:]
    assert qualified.run_dir is not None
    assert f"report {qualified.run_dir}/index.html" in qualified.output


def test_record_is_a_pass_of_an_emulated_host(qualified: Played) -> None:
    """The record carries the verdict, and never passes emulated hardware off as real."""
    record = qualified.record()
    assert record["verdict"] == "pass"
    assert qualified.run_dir is not None
    facts = json.loads((qualified.run_dir / "facts" / f"{HOST}.json").read_text())
    assert facts["emulated"] is True
    assert "emulated" in (qualified.run_dir / "index.html").read_text()


def test_the_host_was_deployed_by_a_reboot(qualified: Played) -> None:
    """A host that ran the kernel already would prove nothing about deploy."""
    deploy = qualified.deployed()
    assert deploy["outcome"] == "promoted"
    assert deploy["old_release"] != deploy["new_release"]


def test_every_check_left_evidence(qualified: Played) -> None:
    """A check that did not run must not be missed."""
    assert set(evidence(qualified)) >= CHECKS


@pytest.mark.parametrize("check", sorted(CHECKS))
def test_check_passed_with_three_witnesses(qualified: Played, check: str) -> None:
    """A claim holds when three independent witnesses agree, and the kernel log is silent."""
    claim = evidence(qualified)[check]
    witnesses = claim["witnesses"]
    assert isinstance(witnesses, list)
    assert claim["verdict"] == "pass", claim["reason"]
    assert [witness for witness in witnesses if not witness["agrees"]] == []
    assert {witness["name"] for witness in witnesses} >= {"engine", "pages", "memory"}


def test_density_overcommits(qualified: Played) -> None:
    """More guest memory than the host has: otherwise nothing was overcommitted."""
    expected = evidence(qualified)["overcommit.density"]["expected"]
    assert isinstance(expected, dict)
    assert expected["declared_bytes"] > expected["host_bytes"]


def test_telemetry_covers_the_run(qualified: Played) -> None:
    """Every line of the stream is a sample, in order, with the engine's counters in some."""
    assert qualified.run_dir is not None
    lines = (qualified.run_dir / "telemetry" / f"{HOST}.jsonl").read_text().splitlines()
    samples = [json.loads(line) for line in lines]
    times = [sample["t"] for sample in samples]
    assert times == sorted(times)
    assert any(sample.get("engine", {}).get("pages_sharing", 0) > 0 for sample in samples)


def test_second_deploy_changes_nothing(lab: Lab, qualified: Played) -> None:
    """The second run of what holds already is a reading, not a writing."""
    assert qualified.status == 0
    again = lab.play("deploy")
    assert again.status == 0, again.output[-6000:]
    assert again.changed()
    assert set(again.changed().values()) == {0}, again.output[-6000:]
    assert again.deployed()["outcome"] == "unchanged"


def test_second_lab_up_changes_nothing(lab: Lab, qualified: Played) -> None:
    """Hosts that run are left alone."""
    assert qualified.status == 0
    again = lab.play("lab")
    assert again.status == 0, again.output[-6000:]
    assert again.changed()
    assert set(again.changed().values()) == {0}, again.output[-6000:]


def test_torture_with_guests(lab: Lab, qualified: Played, tmp_path: Path) -> None:
    """Everything at once, and virtual machines of KVM write and read the same memory, every byte checked.

    With an engine that tells KVM nothing, 20,000 operations were always enough to find it, 3,000 were not.
    """
    assert qualified.status == 0
    programs = uml.build_programs(uml.KERNEL / "selftests", tmp_path)
    with on_host(lab, programs, ["torture"]):
        command = f"reload && {within('torture --seed 20080123 --ops 20000 --rounds 1')}"
        steps = run(lab, "torture-with-guests", {"torture": command}, tmp_path)
        complaints = uml.COMPLAINTS.findall(lab.on_host("dmesg"))
    output = steps["torture"].output
    assert steps["torture"].status == 0, output
    assert complaints == []
    for kind in ("guest-read", "guest-write"):
        done = re.search(rf" {kind}=(\d+)", output)
        assert done, output
        assert int(done[1]) > 0, output


def test_benchmark_with_guests(lab: Lab, qualified: Played) -> None:
    """Both engines merge the memory of KVM guests, which then write to it, and the content is what it was."""
    assert qualified.status == 0
    command = [
        "mergelab",
        "benchmark",
        "run",
        "--host",
        HOST,
        "--case",
        "kvm",
        "--size",
        "64M",
        "--pairs",
        "1",
    ]
    done = subprocess.run(
        command, cwd=ROOT, env=lab.environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    page = re.search(r"^bench: (\S+)/index.html$", done.stdout, re.MULTILINE)
    assert page, done.stdout
    measured = json.loads(Path(page[1], "bench.json").read_text())["measurements"]
    for engine in lines.ENGINES:
        (state,) = [each for each in measured if (each["kind"], each.get("engine")) == ("state", engine)]
        assert state["saved"] > 8192 * 0.95
        (writes,) = [each for each in measured if (each["kind"], each.get("engine")) == ("writes", engine)]
        assert writes["state"] == "merged"
        assert writes["writes"] == 4096
