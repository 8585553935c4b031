# SPDX-License-Identifier: GPL-2.0-only
"""A kernel that does not come up: the host is back on its own one by itself, and the run says so.

The first of these tests: the host is new. The deployment of the next ones shows that a failed one leaves
nothing to trip over.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.lab import Lab, Played

pytestmark = pytest.mark.lab

PANIC = Path(__file__).with_name("panic-at-boot.patch")


@pytest.fixture(scope="module")
def stock(lab: Lab) -> str:
    """A new host, which runs Debian's own kernel; gives its release."""
    played = lab.play("lab")
    assert played.status == 0, played.output[-3000:]
    release = lab.on_host("uname -r")
    assert "-mergelab-" not in release
    return release


@pytest.fixture(scope="module")
def rolled_back(lab: Lab, stock: str) -> Played:
    """What deploying a kernel that panics did."""
    assert stock
    return lab.play("deploy", "--extra-vars", json.dumps({"kernel_build_extra_patches": [str(PANIC)]}))


def test_run_fails_and_says_rolled_back(rolled_back: Played) -> None:
    """A run that ended well would let the next step measure the wrong kernel."""
    assert rolled_back.status != 0
    assert "rolled-back" in rolled_back.output
    assert rolled_back.deployed()["outcome"] == "rolled-back"


def test_record_has_the_last_words(rolled_back: Played, stock: str) -> None:
    """The console's last lines are those of the kernel that died, not of the one that runs again."""
    deploy = rolled_back.deployed()
    tail = "\n".join(deploy["console_tail"])
    assert "Kernel panic - not syncing: mergelab test: this kernel does not come up" in tail
    assert stock not in tail
    assert deploy["old_release"] == stock
    assert deploy["new_release"] in tail
    assert deploy["old_boot_id"] != deploy["new_boot_id"]


def test_host_is_back_on_its_kernel(lab: Lab, rolled_back: Played, stock: str) -> None:
    """Without anybody's help, and it stays there: the default is its kernel, and nothing is on trial."""
    assert rolled_back.status != 0
    release, *environment = lab.on_host("uname -r; grub-editenv list").splitlines()
    assert release == stock
    assert [line for line in environment if line.startswith("saved_entry=") and stock in line]
    assert [line for line in environment if line.startswith("next_entry=") and line != "next_entry="] == []


def test_failed_kernel_is_removed(lab: Lab, rolled_back: Played) -> None:
    """A kernel that panics must not wait in the menu for somebody to choose it."""
    release = rolled_back.deployed()["new_release"]
    assert release not in lab.on_host("ls /boot /boot/grub /lib/modules")
