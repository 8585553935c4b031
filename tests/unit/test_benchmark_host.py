# SPDX-License-Identifier: GPL-2.0-only
"""A benchmark on a host: refused where it would do harm or could not be filed; nothing stays changed."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest

from mergelab.benchmark import host, plan
from mergelab.errors import MergelabError

MIB = 1 << 20


def small() -> plan.Plan:
    """A plan for a host with two processors."""
    return plan.make(
        cases=("random",),
        sizes=(64 * MIB,),
        pairs=1,
        guest_memory=None,
        guest_help="no",
        processors=2,
        host="h1",
    )


def test_memory_must_do() -> None:
    """Swapping would be measured instead of merging."""
    needed = small().memory + host.RESERVE
    host.require_memory(small(), {"memory": {"total": needed}})
    with pytest.raises(MergelabError, match=f"needs {needed // MIB} MiB of memory and h1 has"):
        host.require_memory(small(), {"memory": {"total": needed - 1}})


@pytest.mark.parametrize(
    ("modules", "can"),
    [
        ({}, False),
        ({"kvm": {}, "memmerge": {}}, False),
        ({"kvm": {}, "kvm_amd": {}}, True),
        ({"kvm_intel": {}}, True),
    ],
)
def test_guests_take_the_module_of_the_processor(modules: dict[str, object], can: bool) -> None:
    """Without it there is no /dev/kvm; a host that was never asked has none."""
    assert host.runs_guests({"modules": modules}) is can
    assert not host.runs_guests({})


@pytest.mark.parametrize(
    ("emulated", "threads", "can"), [(True, 1, True), (True, 2, False), (False, 2, True)]
)
def test_guests_of_an_emulated_host_want_it_to_have_one_processor(
    *, emulated: bool, threads: int, can: bool
) -> None:
    """With two they die at boot, or take the host with them."""
    facts = {"modules": {"kvm_amd": {}}, "emulated": emulated, "cpu": {"threads": threads}}
    assert host.runs_guests(facts) is can


def test_kernel_is_found_by_its_release(tmp_path: Path) -> None:
    """The record says which build it was that ran there."""
    manifest = {
        "digest": "d1",
        "profile": "lab",
        "kernel_release": "6.12.1-mergelab-d1",
        "modules": {"memmerge": {"srcversion": "ABC"}},
        "config": {"sha256": "0"},
        "patches": [1, 2],
        "compiler": "gcc",
    }
    folder = tmp_path / "kernels" / "d1"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    found = host.kernel({"kernel": {"release": "6.12.1-mergelab-d1"}}, tmp_path)
    assert (found["digest"], found["profile"], found["patches"]) == ("d1", "lab", 2)
    with pytest.raises(MergelabError, match=r"runs 6\.1\.0-1-amd64, which was not built here"):
        host.kernel({"hostname": "h1", "kernel": {"release": "6.1.0-1-amd64"}}, tmp_path)


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A host's files of both engines, and the script with a program beside it; no host is changed."""
    files = {
        "ksm": {"run": "0", "pages_shared": "0", "sleep_millisecs": "20", "advisor_mode": "none [scan-time]"},
        "memmerge": {"run": "1", "domains": "0", "scanners": "2", "sleep_millisecs": "20"},
    }
    for engine, values in files.items():
        folder = tmp_path / "sys" / engine
        folder.mkdir(parents=True)
        for name, value in values.items():
            (folder / name).write_text(f"{value}\n")
    script = host.SCRIPT.read_text()
    for engine in files:
        script = script.replace(f"/sys/kernel/mm/{engine}", str(tmp_path / "sys" / engine))
    (tmp_path / "run.sh").write_text(script.replace('"$(id -u)"', "0"))
    return tmp_path


def program(machine: Path, text: str) -> None:
    """Give the host a measuring program."""
    file = machine / "memmerge_bench"
    file.write_text(f"#!/bin/sh\ncd {machine}/sys\n{text}\n")
    file.chmod(0o755)


def start(machine: Path, *words: str) -> subprocess.Popen[str]:
    """Run the script."""
    return subprocess.Popen(
        ["sh", str(machine / "run.sh"), *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def value(machine: Path, name: str) -> str:
    """What a file of an engine holds."""
    return (machine / "sys" / name).read_text().strip()


def test_files_are_as_before(machine: Path) -> None:
    """Whatever the program has set; its output and exit status come through."""
    program(machine, 'for f in */*; do echo 7 >$f; done; echo "said $1"; exit 5')
    done = start(machine, "random:64")
    assert done.stdout is not None
    assert done.stdout.read() == "said random:64\n"
    assert done.wait() == 5
    assert value(machine, "ksm/sleep_millisecs") == value(machine, "memmerge/sleep_millisecs") == "20"
    assert value(machine, "ksm/advisor_mode") == "scan-time"
    assert value(machine, "memmerge/scanners") == "2"
    assert value(machine, "memmerge/run") == "1"


def test_program_ends_with_its_reader(machine: Path) -> None:
    """A connection that breaks must not leave a program at work, nor the files as it has set them."""
    program(machine, "echo 9 >memmerge/scanners; echo here; exec sleep 600")
    running = start(machine)
    assert running.stdin is not None
    assert running.stdout is not None
    assert running.stdout.readline() == "here\n"
    running.stdin.close()
    assert running.wait() == 128 + signal.SIGTERM
    assert value(machine, "memmerge/scanners") == "2"


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("memmerge/domains", "3", "memmerge is in use: it has 3 domains"),
        ("ksm/run", "1", "KSM is running"),
        ("ksm/pages_shared", "12", "KSM has merged 12 pages"),
    ],
)
def test_host_at_work_is_refused(machine: Path, name: str, text: str, why: str) -> None:
    """A benchmark unmerges everything."""
    program(machine, "touch ran")
    (machine / "sys" / name).write_text(text)
    done = start(machine)
    _, said = done.communicate()
    assert (done.returncode, said.strip()) == (3, why)
    assert not (machine / "sys" / "ran").exists()
