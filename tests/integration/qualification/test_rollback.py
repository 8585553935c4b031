# SPDX-License-Identifier: GPL-2.0-only
"""The way back that an operator asks for."""

from __future__ import annotations

import pytest

from tests.integration.lab import Lab, Played

pytestmark = pytest.mark.lab


def test_rollback_verb_returns_to_the_stock_kernel(lab: Lab, qualified: Played) -> None:
    """What an operator asks for is done by a reboot, and is remembered by the boot loader."""
    assert qualified.status == 0
    played = lab.play("rollback")
    assert played.status == 0, played.output[-3000:]
    release, *environment = lab.on_host("uname -r; grub-editenv list").splitlines()
    assert release == qualified.deployed()["old_release"]
    assert [line for line in environment if line.startswith("saved_entry=") and release in line]
