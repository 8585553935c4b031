# SPDX-License-Identifier: GPL-2.0-only
"""The module in User-Mode Linux of 6.1, Debian 12's own kernel: test_module and test_torture once more.

One kernel and one boot for all of it. ``-m "not release_6_1"`` leaves it out.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mergelab import uml
from mergelab.kernel import source
from mergelab.torture import run
from mergelab.torture.plan import Configuration
from tests import tap
from tests.kernel.test_module import (
    LACKING,
    PROGRAMS,
    SWAP_BYTES,
    test_came_to_its_end,
    test_kunit,
    test_leak_detector_ran,
    test_module_comes_and_goes,
    test_no_complaint_in_the_kernel_log,
    test_program,
)

__all__ = [
    "test_came_to_its_end",
    "test_kunit",
    "test_leak_detector_ran",
    "test_module_comes_and_goes",
    "test_no_complaint_in_the_kernel_log",
    "test_program",
]

pytestmark = [pytest.mark.kernel, pytest.mark.release_6_1]

SEED = 20080123
SHORT = {
    "torture": (Configuration("torture", "torture", ("--rounds 2", "--limit 5500000")), 4000),
    "torture-faults": (
        Configuration("torture-faults", "torture", ("--rounds 1", "--failslab 10", "--fail-page 5")),
        2000,
    ),
    "fuzz-faults": (Configuration("fuzz-faults", "fuzz", ("--failslab 10", "--fail-page 5")), 12000),
}
"""Configurations of the torture and their operations."""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, console_log: Path) -> uml.Boot:
    """One boot under KASAN, lockdep and the other checks, for all tests of this file."""
    folder = tmp_path_factory.mktemp("programs")
    programs = uml.build_programs(uml.KERNEL / "selftests", folder)
    return uml.boot(
        uml.build_kernel("um-kasan", origin=source.debian("6.1")),
        [programs / name for name in PROGRAMS]
        + [
            run.script(folder, name, each.words(str(programs / each.program), SEED, ops))
            for name, (each, ops) in SHORT.items()
        ],
        swap_bytes=SWAP_BYTES,
        limit=run.SILENCE,
        console_log=console_log,
        hear=lambda line: None,
    )


def test_it_is_that_release(machine: uml.Boot) -> None:
    """The tests would pass on the usual kernel as well."""
    assert re.search(r"Linux version 6\.1\.\d+-mergelab-", machine.console), machine.console[:2000]


def test_only_what_this_kernel_lacks_is_skipped(machine: uml.Boot) -> None:
    """Beside what User-Mode Linux lacks, 6.1 lacks this and nothing else, and it is seen to lack it."""
    release = {"this kernel has no PR_SET_MEMORY_MERGE"}
    assert release <= tap.skipped(machine.console) <= LACKING | release


@pytest.mark.parametrize("name", list(SHORT))
def test_torture_finds_nothing(machine: uml.Boot, name: str) -> None:
    """Every byte was right, every answer a documented one, and all of the plan was run."""
    outcome = run.judge(name, machine)
    assert outcome.findings == [], outcome.output


@pytest.mark.parametrize("name", ["torture", "torture-faults"])
def test_it_was_a_torture(machine: uml.Boot, name: str) -> None:
    """One that did nothing would find nothing."""
    figures = run.judge(name, machine).figures
    assert figures["operations"] == SHORT[name][1]
    for counter in ("merged", "zeroed", "unshared", "unmerged", "children"):
        assert figures[counter] > 0, counter
