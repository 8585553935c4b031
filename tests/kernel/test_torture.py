# SPDX-License-Identifier: GPL-2.0-only
"""The short tier of the torture: everything at once in User-Mode Linux, from a fixed seed."""

from __future__ import annotations

from pathlib import Path

import pytest

from mergelab import uml
from mergelab.torture import run
from mergelab.torture.plan import Configuration

pytestmark = pytest.mark.kernel

SEED = 20080123
SHORT = {
    "plain": (Configuration("plain", "torture", ("--rounds 2",)), 6000),
    "pressure": (Configuration("pressure", "torture", ("--rounds 1", "--limit 5500000")), 3000),
    "faults": (Configuration("faults", "torture", ("--rounds 1", "--failslab 10", "--fail-page 5")), 4000),
    "fuzz": (Configuration("fuzz", "fuzz"), 12000),
    "fuzz-faults": (Configuration("fuzz-faults", "fuzz", ("--failslab 10", "--fail-page 5")), 12000),
}
"""Configurations and their operations; one machine runs them one after the other."""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, console_log: Path) -> uml.Boot:
    """One boot under KASAN, lockdep and the other checks."""
    folder = tmp_path_factory.mktemp("torture")
    programs = uml.build_programs(uml.KERNEL / "selftests", folder)
    return uml.boot(
        uml.build_kernel(run.PROFILE),
        [
            run.script(folder, name, each.words(str(programs / each.program), SEED, ops))
            for name, (each, ops) in SHORT.items()
        ],
        memory="256M",
        swap_bytes=run.SWAP_BYTES,
        limit=run.SILENCE,
        console_log=console_log,
        hear=lambda line: None,
    )


def test_machine_is_sound(machine: uml.Boot) -> None:
    """No warning, no leak, and the module comes and goes behind it."""
    assert run.general(machine) == []
    assert "unreferenced object" not in machine.steps["leaks"].output


@pytest.mark.parametrize("name", list(SHORT))
def test_nothing_is_found(machine: uml.Boot, name: str) -> None:
    """Every byte was right, every answer a documented one, and all of the plan was run."""
    outcome = run.judge(name, machine)
    assert outcome.findings == [], outcome.output


@pytest.mark.parametrize("name", ["plain", "pressure", "faults"])
def test_it_was_a_torture(machine: uml.Boot, name: str) -> None:
    """One that did nothing would find nothing."""
    _, ops = SHORT[name]
    figures = run.judge(name, machine).figures
    assert figures["operations"] == ops
    assert figures["control"] > 0
    for counter in ("merged", "zeroed", "unshared", "unmerged", "swapped_out", "swapped_in", "children"):
        assert figures[counter] > 0, counter


def test_faults_were_injected(machine: uml.Boot) -> None:
    """Without a refused request no allocation of the engine has failed."""
    assert run.judge("faults", machine).figures["refused_without_memory"] > 0
