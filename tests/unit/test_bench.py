# SPDX-License-Identifier: GPL-2.0-only
"""The bench writes a claim down whatever happens to it; this machine and the real host tool are its host."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mergelab.bench import Bench, HostLostError, Skipped, proving
from mergelab.errors import MergelabError
from mergelab.hosttool import build

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the kernel log is for root")

CHECK = "kernel.example"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """This machine, through the tool as it is installed on hosts."""
    tool = tmp_path / "mergelab-host"
    tool.write_bytes(build())
    tool.chmod(0o755)

    def execute(command: str) -> tuple[int, str, str]:
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, check=False)
        return done.returncode, done.stdout, done.stderr

    return Bench("here", execute, str(tool))


@pytest.fixture
def written(tmp_path: Path) -> Callable[[], dict[str, Any]]:
    """Reads the evidence that was left."""

    def read() -> dict[str, Any]:
        evidence: dict[str, Any] = json.loads((tmp_path / f"evidence/here/{CHECK}.json").read_text())
        return evidence

    return read


def test_a_proved_claim_passes(bench: Bench, tmp_path: Path, written: Callable[[], dict[str, Any]]) -> None:
    """The evidence holds what the check said, and the kernel log that the bench looked at by itself."""
    with proving(bench, CHECK, "An example", tmp_path) as it:
        release = bench.do("facts")[0]["kernel"]["release"]
        it.expect(release=os.uname().release)
        it.witness("release", "what uname says", os.uname().release, release)
    evidence = written()
    assert evidence["verdict"] == "pass"
    assert evidence["expected"] == {"release": os.uname().release}
    assert [witness["name"] for witness in evidence["witnesses"]] == ["release", "kernel-log", "kernel-log"]


def test_a_wrong_figure_fails(bench: Bench, tmp_path: Path, written: Callable[[], dict[str, Any]]) -> None:
    """A check whose numbers differ must end as a failed test, with the reason in its record."""
    with (
        pytest.raises(AssertionError, match=r"kernel\.example on here: fail"),
        proving(bench, CHECK, "An example", tmp_path) as it,
    ):
        it.witness("engine", "pages", 4, 3, "pages")
    assert written()["verdict"] == "fail"


def test_an_error_in_the_kernel_log_fails(
    bench: Bench, tmp_path: Path, written: Callable[[], dict[str, Any]]
) -> None:
    """A claim is not proved while the kernel complains about what was done for it."""
    with pytest.raises(AssertionError, match="fail"), proving(bench, CHECK, "An example", tmp_path):
        Path("/dev/kmsg").write_text("<4>WARNING: CPU: 0 PID: 1 at nowhere, written by a test\n")
    said = [witness["claim"] for witness in written()["witnesses"] if witness["agrees"] is False]
    assert len(said) == 1
    assert "at nowhere" in said[0]


def test_a_lab_that_cannot_is_no_failure_of_the_host(
    bench: Bench, tmp_path: Path, written: Callable[[], dict[str, Any]]
) -> None:
    """Too few guests, or no module, must not be told as a defect of the kernel."""
    with (
        pytest.raises(AssertionError, match="environment"),
        proving(bench, CHECK, "An example", tmp_path),
    ):
        bench.do("guest call no-such-guest info")
    evidence = written()
    assert evidence["verdict"] == "environment"
    assert "no-such-guest" in evidence["reason"]


def test_a_host_that_is_gone_is_a_hang(tmp_path: Path, written: Callable[[], dict[str, Any]]) -> None:
    """What ssh says when it cannot connect, or loses the connection."""
    gone = Bench("here", lambda _: (255, "", "ssh: connect to host: Connection refused"))
    with pytest.raises(AssertionError, match="hang"), proving(gone, CHECK, "An example", tmp_path):
        pytest.fail("the block runs on a host that is not there")
    assert "Connection refused" in written()["reason"]
    with pytest.raises(HostLostError, match="did not finish"):
        Bench("here", lambda _: (124, "", "")).do("klog")


def test_a_broken_check_is_written_down_and_raised(
    bench: Bench, tmp_path: Path, written: Callable[[], dict[str, Any]]
) -> None:
    """A mistake in a check must neither pass nor disappear."""
    with pytest.raises(ZeroDivisionError), proving(bench, CHECK, "An example", tmp_path):
        print(1 // 0)
    assert written()["verdict"] == "environment"
    with pytest.raises(Skipped), proving(bench, CHECK, "An example", tmp_path):
        raise Skipped("nothing to compare with")
    assert (written()["verdict"], written()["reason"]) == ("skipped", "nothing to compare with")


def test_waits_are_bounded(bench: Bench) -> None:
    """A counter that never comes ends the wait, and says so."""
    reached, value = bench.wait("facts", lambda _: False, 0.1)
    assert not reached
    assert value["kernel"]["release"] == os.uname().release
    assert bench.wait("facts", lambda _: True, 0.1)[0]


def test_the_tool_s_words_are_kept(bench: Bench) -> None:
    """The person who reads the report needs the host's own message."""
    with pytest.raises(MergelabError, match="no running guest"):
        bench.do("guest ram no-such-guest")
