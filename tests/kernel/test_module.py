# SPDX-License-Identifier: GPL-2.0-only
"""The module in User-Mode Linux: KUnit, the test programs, and a kernel that complains of nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mergelab import uml
from tests import tap

pytestmark = pytest.mark.kernel

PROGRAMS = (
    "abi_test",
    "advice_test",
    "merge_test",
    "mm_test",
    "race_test",
    "scan_test",
    "guard_test",
    "observe_test",
    "vma_test",
)
SWAP_BYTES = 256 << 20
SUITES = (
    "memmerge-hash",
    "memmerge-index",
    "memmerge-policy",
    "memmerge-rmap",
    "memmerge-hold",
    "memmerge-guard",
    "memmerge-huge",
    "memmerge-budget",
)
LACKING = {
    "this kernel has no transparent huge pages",
    "this kernel has no soft-dirty bit",
    "this kernel has no memory failure handling",
    "this kernel has no userfaultfd write protection",
    "this kernel does not know NUMA",
}
"""Reasons for which a test may be skipped: User-Mode Linux lacks just these."""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, console_log: Path) -> uml.Boot:
    """One boot under KASAN, lockdep and the other checks, for all tests of this file."""
    programs = uml.build_programs(uml.KERNEL / "selftests", tmp_path_factory.mktemp("programs"))
    return uml.boot(
        uml.build_kernel("um-kasan"),
        [programs / name for name in PROGRAMS],
        swap_bytes=SWAP_BYTES,
        console_log=console_log,
    )


def test_came_to_its_end(machine: uml.Boot) -> None:
    """A kernel that died half-way would make the tests below look at half a log."""
    assert machine.finished, machine.console[-4000:]


@pytest.mark.parametrize("step", ["load", "unload", "reload", "unload-again"])
def test_module_comes_and_goes(machine: uml.Boot, step: str) -> None:
    """The module loads, is removed after use, and loads again."""
    assert machine.steps[step].status == 0, machine.steps[step].output


@pytest.mark.parametrize("suite", SUITES)
def test_kunit(machine: uml.Boot, suite: str) -> None:
    """Every case of a KUnit suite passes, and there are some."""
    output = machine.steps[f"kunit-{suite}"].output
    assert re.search(rf"^ok \d+ {suite}$", output, re.MULTILINE), output
    assert re.search(r"^\s+ok \d+ mmg_test", output, re.MULTILINE), output
    assert "not ok" not in output, output


@pytest.mark.parametrize("program", PROGRAMS)
def test_program(machine: uml.Boot, program: str) -> None:
    """A test program runs all of its plan and no test of it fails."""
    step = machine.steps[program]
    assert step.status == 0, step.output
    assert tap.failed(step.output) == [], step.output


def test_only_what_this_kernel_lacks_is_skipped(machine: uml.Boot) -> None:
    """A test that skips itself everywhere tests nothing."""
    assert tap.skipped(machine.console) <= LACKING


def test_leak_detector_ran(machine: uml.Boot) -> None:
    """What was allocated is freed or reachable."""
    assert machine.steps["leaks"].status == 0
    assert "unreferenced object" not in machine.steps["leaks"].output, machine.steps["leaks"].output


def test_no_complaint_in_the_kernel_log(machine: uml.Boot) -> None:
    """KASAN, lockdep, DEBUG_VM and the list checks have nothing to say."""
    assert machine.complaints == []


def test_a_complaint_would_be_seen() -> None:
    """The pattern above finds what kernels print; a pattern that finds nothing would hide everything."""
    console = "[    1.0] BUG: KASAN: use-after-free in mmg_scan_range\n=== begin load\n=== end load 0\n"
    boot = uml.parse(console)
    assert len(boot.complaints) == 1
    assert not boot.finished
    assert boot.steps["load"] == uml.Step("", 0)
