# SPDX-License-Identifier: GPL-2.0-only
"""A kernel that does not come up: the host is back on its own one by itself, and the run says so."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.integration.lab import ROOT, Lab, Played

pytestmark = pytest.mark.lab

PANIC = Path(__file__).with_name("panic-at-boot.patch")
HOST = "vhost1"


def on_host(lab: Lab, *command: str) -> str:
    """Run a command on the lab's host and return what it printed."""
    done = subprocess.run(
        ["ansible", HOST, "-m", "ansible.builtin.command", "-a", " ".join(command)],
        cwd=ROOT,
        env={
            **lab.environment(),
            "ANSIBLE_LOAD_CALLBACK_PLUGINS": "true",  # ad-hoc commands print for people otherwise
            "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    # Other callbacks print around the document.
    document, _ = json.JSONDecoder().raw_decode(done.stdout[done.stdout.index("{") :])
    stdout: str = document["plays"][0]["tasks"][0]["hosts"][HOST]["stdout"]
    return stdout


@pytest.fixture(scope="module")
def stock(lab: Lab) -> str:
    """A host that runs Debian's own kernel, whatever was deployed on it before; gives its release."""
    for verb in ("lab", "rollback"):
        played = lab.play(verb)
        assert played.status == 0, played.output[-3000:]
    release = on_host(lab, "uname", "-r")
    assert "-mergelab-" not in release
    return release


@pytest.fixture(scope="module")
def rolled_back(lab: Lab, stock: str) -> Played:
    """What deploying a kernel that panics did."""
    assert stock
    return lab.play("deploy", "--extra-vars", json.dumps({"kernel_build_extra_patches": [str(PANIC)]}))


def record(played: Played) -> dict[str, Any]:
    """Return what the run wrote about the deployment."""
    assert played.run_dir is not None, played.output[-3000:]
    value: dict[str, Any] = json.loads((played.run_dir / "deploy" / f"{HOST}.json").read_text())
    return value


def test_run_fails_and_says_rolled_back(rolled_back: Played) -> None:
    """A run that ended well would let the next step measure the wrong kernel."""
    assert rolled_back.status != 0
    assert "rolled-back" in rolled_back.output
    assert record(rolled_back)["outcome"] == "rolled-back"


def test_record_has_the_last_words(rolled_back: Played, stock: str) -> None:
    """The console's last lines are those of the kernel that died, not of the one that runs again."""
    deploy = record(rolled_back)
    tail = "\n".join(deploy["console_tail"])
    assert "Kernel panic - not syncing: mergelab test: this kernel does not come up" in tail
    assert stock not in tail
    assert deploy["old_release"] == stock
    assert deploy["new_release"] in tail
    assert deploy["old_boot_id"] != deploy["new_boot_id"]


def test_host_is_back_on_its_kernel(lab: Lab, rolled_back: Played, stock: str) -> None:
    """Without anybody's help, and it stays there: the default is its kernel, and nothing is on trial."""
    assert rolled_back.status != 0
    assert on_host(lab, "uname", "-r") == stock
    environment = on_host(lab, "grub-editenv", "list").splitlines()
    assert [line for line in environment if line.startswith("saved_entry=") and stock in line]
    assert [line for line in environment if line.startswith("next_entry=") and line != "next_entry="] == []


def test_failed_kernel_is_removed(lab: Lab, rolled_back: Played) -> None:
    """A kernel that panics must not wait in the menu for somebody to choose it."""
    release = record(rolled_back)["new_release"]
    assert release not in on_host(lab, "ls", "/boot", "/boot/grub", "/lib/modules")


def test_the_good_kernel_is_deployed_afterwards(lab: Lab, rolled_back: Played, stock: str) -> None:
    """A failed deployment leaves nothing that the next one trips over, which a third one shows again."""
    assert rolled_back.status != 0
    played = lab.play("deploy")
    assert played.status == 0, played.output[-3000:]
    assert record(played)["outcome"] == "promoted"
    assert record(played)["old_release"] == stock
    again = lab.play("deploy")
    assert again.status == 0, again.output[-3000:]
    assert record(again)["outcome"] == "unchanged"
    assert again.changed()[HOST] == 0


def test_rollback_verb_returns_to_the_stock_kernel(lab: Lab, stock: str) -> None:
    """What an operator asks for is done by a reboot, and is remembered by the boot loader."""
    played = lab.play("rollback")
    assert played.status == 0, played.output[-3000:]
    assert on_host(lab, "uname", "-r") == stock
