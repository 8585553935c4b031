# SPDX-License-Identifier: GPL-2.0-only
"""Golden tests of memmergectl: what a person reads, byte for byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from mergelab.ctl import domains, process, status, text, tune
from mergelab.ctl.module import Module
from tests.faked import COUNTERS, Host, describe

EXPECTED = Path(__file__).parent / "expected" / "memmergectl"


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host with the engine."""
    return Host(tmp_path)


def golden(name: str, got: str, request: pytest.FixtureRequest) -> None:
    """Compares with a golden file, or writes it."""
    path = EXPECTED / f"{name}.txt"
    if request.config.getoption("--update-golden"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(got + "\n")
    assert got + "\n" == path.read_text()


def test_status(host: Host, request: pytest.FixtureRequest) -> None:
    """A scanner that runs, with everything at its default."""
    golden("status", text.status(status.gather(Module(host.root))), request)


def test_status_of_a_changed_and_overcommitted_host(host: Host, request: pytest.FixtureRequest) -> None:
    """What differs from a default, and that unsharing would not fit, must catch the eye."""
    host.write("run", "0")
    host.write("scanner_pid", "0")
    host.write("sleep_millisecs", "0")
    host.write("use_zero_pages", "0")
    host.write("unshare_demand", str(4 << 30))
    host.write("engine", "ksm [memmerge]")
    golden("status-changed", text.status(status.gather(Module(host.root))), request)


def test_status_of_a_module_with_hardly_a_file(host: Host, request: pytest.FixtureRequest) -> None:
    """What the module does not say is not available, and never zero."""
    host.remove(*(name for name in COUNTERS if name != "run"))
    golden("status-bare", text.status(status.gather(Module(host.root))), request)


def test_show(host: Host, request: pytest.FixtureRequest) -> None:
    """Every file with its meaning; one that is not known comes last, without."""
    host.write("shiny_new", "7")
    golden("show", text.show(status.show(Module(host.root)), None), request)


def test_show_on_a_narrow_terminal(host: Host, request: pytest.FixtureRequest) -> None:
    """A meaning that does not fit goes on below itself."""
    names = ["run", "pages_sharing", "max_page_sharing"]
    golden("show-narrow", text.show(status.show(Module(host.root), names), 80), request)


def test_set(host: Host, request: pytest.FixtureRequest) -> None:
    """What was set, from what to what."""
    module = Module(host.root)
    done = tune.apply(module, tune.parse(module, ["run=0", "pages_to_scan=4000", "sleep_millisecs=20"]))
    golden("set", text.changes(done), request)


def test_watch(request: pytest.FixtureRequest) -> None:
    """Figures of one to seven digits, a fall, and rates that are not known, below one head."""
    row = {
        "scanned_per_s": 1234567.8, "merged_per_s": 9.4, "zeroed_per_s": 0.0, "unshared_per_s": 1024.0,
        "saved_bytes": 3 << 30, "saved_change_bytes": -(4 << 20), "cpu_percent": 99.97,
    }  # fmt: skip
    lines = [text.watch_head(), text.watch_row(row), text.watch_row(row | {"saved_change_bytes": 4096})]
    lines.append(text.watch_row(dict.fromkeys(row)))
    golden("watch", "\n".join(lines), request)


def test_processes(host: Host, request: pytest.FixtureRequest) -> None:
    """A guest, a process of a kernel that says more, and one of a kernel without KSM."""
    host.process(4712, "a longer name", "ksm_merging_pages 0\nksm_process_profit -4096\nksm_merge_any: yes\n")
    host.process(47130, "bare", None)
    found = [process.describe("web1", 4711, host.root / "proc")]
    found += [process.describe(None, pid, host.root / "proc") for pid in (4712, 47130)]
    golden("process", text.processes(found), request)


def test_domains(request: pytest.FixtureRequest) -> None:
    """Regions with their reasons, one that has gone, and a domain without any."""
    golden("domains", text.domains(domains.gather(ask=describe)), request)


def test_engine(host: Host, request: pytest.FixtureRequest) -> None:
    """Which engine it is, and which it was before another was chosen."""
    shown = text.engine(tune.engine(Module(host.root), None))
    chosen = text.engine({"engine": "memmerge", "old": "ksm", "choices": ["ksm", "memmerge"]})
    golden("engine", f"{shown}\n{chosen}", request)


def test_unmerged(request: pytest.FixtureRequest) -> None:
    """What came of it, in pages and bytes."""
    done = {"pages_sharing": {"old": 1024, "new": 0}, "pages_mapped_zero": {"old": 1024, "new": 0}}
    golden("unmerge", text.unmerged(done), request)
