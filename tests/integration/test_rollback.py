# SPDX-License-Identifier: GPL-2.0-only
"""The way back that an operator asks for."""

from __future__ import annotations

import pytest

from tests.integration.lab import Lab

pytestmark = pytest.mark.lab


def test_rollback_verb_returns_to_the_stock_kernel(lab: Lab) -> None:
    """What an operator asks for is done by a reboot, and is remembered by the boot loader."""
    for verb in ("lab", "deploy"):  # nothing to do for them behind the tests of a qualification run
        played = lab.play(verb)
        assert played.status == 0, played.output[-3000:]
    assert "-mergelab-" in lab.on_host("uname", "-r")

    played = lab.play("rollback")
    assert played.status == 0, played.output[-3000:]
    release = lab.on_host("uname", "-r")
    assert "-mergelab-" not in release
    environment = lab.on_host("grub-editenv", "list").splitlines()
    assert [line for line in environment if line.startswith("saved_entry=") and release in line]
