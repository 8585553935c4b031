# SPDX-License-Identifier: GPL-2.0-only
"""The engine on a whole machine: two processors, two nodes, huge pages, soft-dirty bits.

User-Mode Linux, where its own tests run under the kernel's debug checks, has none of these. The kernel's own
tests of KSM run here with KSM and with memmerge in its place.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mergelab import uml
from tests import tap
from tests.integration.boots import kselftest
from tests.integration.lab import Lab, Played
from tests.integration.programs import SYSFS, on_host, run, within
from tests.kernel.test_module import PROGRAMS

pytestmark = pytest.mark.lab

SHAPE = ("--extra-vars", "virtual_host_vcpus=2 virtual_host_numa_nodes=2")
TORTURE = "torture --seed 20080123 --ops 4000 --rounds 1"
KSM = "/sys/kernel/mm/ksm"
# A page that some passes did not merge is left out of every second one and more. Two of them that KSM met at
# different times it may not merge for long, and the tests allow it a few passes.
ALL_PAGES = f"echo 0 >{KSM}/smart_scan"
ENGINES = {
    "KSM alone": f"unload && {ALL_PAGES}",
    "KSM beside memmerge": f"reload && {ALL_PAGES}",
    "memmerge in its place": f"reload && echo memmerge >{SYSFS}/engine && mount --bind {SYSFS} {KSM}",
}
"""Which engine the kernel's own tests of KSM talk to, and what makes it so in a name space of their own."""


@pytest.fixture(scope="module")
def impatient(lab: Lab) -> Played:
    """What is said when the host with the engine, started anew in that shape, is given no time to come up."""
    for verb in ("lab", "deploy", "lab-stop"):
        played = lab.play(verb)
        assert played.status == 0, played.output[-3000:]
    return lab.play("lab", *SHAPE, "--extra-vars", "virtual_host_boot_timeout=1")


@pytest.fixture(scope="module")
def machine(lab: Lab, impatient: Played, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The host with the engine in that shape, and the programs on it; no guests run there."""
    assert impatient.status != 0
    played = lab.play("lab", *SHAPE)
    assert played.status == 0, played.output[-9000:]
    programs = uml.build_programs(uml.KERNEL / "selftests", tmp_path_factory.mktemp("programs"))
    kselftest.compile_programs(programs)
    with on_host(lab, programs, (*PROGRAMS, "torture", *kselftest.PROGRAMS)):
        yield lab


@pytest.fixture(scope="module")
def own_tests(machine: Lab, tmp_path_factory: pytest.TempPathFactory) -> dict[str, uml.Step]:
    """What the engine's own programs print."""
    programs = {program: program for program in PROGRAMS} | {"torture": TORTURE}
    commands = {name: f"reload && {within(program)}" for name, program in programs.items()}
    return run(machine, "selftests", commands, tmp_path_factory.mktemp("own"))


@pytest.fixture(scope="module", params=ENGINES)
def ksm_tests(
    machine: Lab, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> dict[str, uml.Step]:
    """What the kernel's own tests of KSM print with an engine."""
    commands = {name: within(kselftest.command(*words)) for name, words in kselftest.RUNS.items()}
    choice = {"choice": ENGINES[request.param]}
    steps = run(machine, request.param, choice | commands, tmp_path_factory.mktemp("ksm"))
    assert steps["choice"].status == 0, steps["choice"].output
    return steps


def test_host_that_does_not_answer_is_started_once_more(impatient: Played) -> None:
    """Not for ever, and not without a word."""
    assert impatient.output.count("TASK [virtual_host : Start the machine]") == 2
    assert impatient.output.count("is started once more") == 1
    assert "vhost1 did not come up" in impatient.output


def test_it_has_that_shape(machine: Lab) -> None:
    """Otherwise the tests below would skip what they are here for."""
    words = machine.on_host("nproc; cat /sys/devices/system/node/online; uname -r").split()
    assert words[:2] == ["2", "0-1"]
    assert "-mergelab-" in words[2]


@pytest.mark.parametrize("program", PROGRAMS)
def test_program(own_tests: dict[str, uml.Step], program: str) -> None:
    """A test program runs all of its plan and no test of it fails, and none is skipped for what is here."""
    step = own_tests[program]
    assert tap.failed(step.output) == []
    assert step.status == 0
    assert tap.skipped(step.output) == set()


def test_torture(own_tests: dict[str, uml.Step]) -> None:
    """Everything at once on two processors, every byte checked."""
    assert own_tests["torture"].status == 0, own_tests["torture"].output


@pytest.mark.parametrize("name", kselftest.RUNS)
def test_kernels_own_tests_of_ksm(ksm_tests: dict[str, uml.Step], name: str) -> None:
    """KSM is as it was without the engine and beside it, and what is written for KSM passes with memmerge."""
    step = ksm_tests[name]
    assert step.status == 0, step.output
    assert tap.failed(step.output) == [], step.output
    assert tap.skipped(step.output) == set(), step.output


def test_no_complaint_in_the_kernel_log(machine: Lab) -> None:
    """The last of them: what all the tests above made the kernel say."""
    log = machine.on_host("dmesg")
    Path(machine.logs / "dmesg.log").write_text(log)
    assert [line for line in log.splitlines() if uml.COMPLAINTS.search(line)] == []
