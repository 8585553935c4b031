# SPDX-License-Identifier: GPL-2.0-only
"""Teardown leaves nothing of the lab; the last of its tests."""

from __future__ import annotations

import pytest

from tests.integration.lab import Lab, Played
from tests.processes import processes
from tests.waiting import until

pytestmark = pytest.mark.lab


def test_teardown_leaves_nothing(lab: Lab, qualified: Played) -> None:
    """No machine, no file, no process of the lab is left."""
    assert qualified.run_dir is not None
    assert lab.machines(), "the lab must be there, or its removal proves nothing"
    gone = lab.play("teardown")
    assert gone.status == 0, gone.output[-6000:]
    assert lab.machines() == set()
    left = {path.relative_to(lab.state) for path in lab.state.rglob("*") if not path.is_dir()}
    # Locks are for the next ones; the benchmark's is not the lab's.
    assert {str(path) for path in left} <= {"mergelab/locks/virtual", "mergelab/locks/benchmark"}
    assert until(lambda: not processes(str(lab.state))), processes(str(lab.state))


def test_second_teardown_is_quiet(lab: Lab) -> None:
    """Removing what is gone is no error and changes nothing."""
    again = lab.play("teardown")
    assert again.status == 0, again.output[-6000:]
    assert set(again.changed().values()) == {0}, again.output[-6000:]
