# SPDX-License-Identifier: GPL-2.0-only
"""memmergectl against the real module in User-Mode Linux, on two processes whose content is known.

Of 2048 pages that each has, 1024 are equal to the other's, 512 are zero and 512 its own: 1024 merged pages in
use, 1024 further mappings, 1024 zero pages, 1024 without an equal.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mergelab.ctl.files import FILES
from mergelab.uml import Boot, boot, build_kernel

pytestmark = pytest.mark.kernel

ROOT = Path(__file__).parents[2]
PAGE = 4096

THERE = FILES.keys() - {"merge_across_nodes"}
"""The files that the module has in a kernel without NUMA."""

NUMBERS = [name for name in FILES if isinstance(FILES[name].default, int) and name in THERE - {"run"}]

PROGRAM = """#!/bin/sh
cd {root}
exec env PYTHONPATH=src {python} tests/kernel/operator_steps.py {folder}
"""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> tuple[Boot, Path]:
    """A machine on which the commands have run, and the folder with what they said."""
    folder = tmp_path_factory.mktemp("memmergectl")
    payload = folder / "payload"
    subprocess.run(
        ["make", "-C", ROOT / "kernel/guest", f"O={folder}", payload], check=True, capture_output=True
    )
    program = folder / "operator"
    program.write_text(PROGRAM.format(root=ROOT, python=sys.executable, folder=folder))
    program.chmod(0o755)
    return boot(build_kernel("um"), [program]), folder


@pytest.fixture(scope="module")
def said(machine: tuple[Boot, Path]) -> dict[str, Any]:
    """What the commands said: exit status, standard output, standard error."""
    ended, folder = machine
    path = folder / "said.json"
    assert path.is_file(), ended.console[-4000:]
    answers: dict[str, Any] = json.loads(path.read_text())
    return answers


def value(answer: list[Any]) -> Any:
    """What a command that did well printed as JSON."""
    ended, out, err = answer
    assert (ended, err) == (0, "")
    return json.loads(out)


def test_the_machine_came_to_its_end(machine: tuple[Boot, Path]) -> None:
    """A machine that dies on the way must not look like one on which the commands did well."""
    ended, _ = machine
    assert ended.finished, ended.console[-4000:]
    assert ended.steps["operator"].status == 0, ended.steps["operator"].output[-8000:]
    assert ended.complaints == []


def test_a_fresh_module_is_at_its_defaults(said: dict[str, Any]) -> None:
    """A default that the table states wrongly would show as a change."""
    state = value(said["fresh"])
    assert state["module"]["loaded"] is True
    assert len(state["module"]["srcversion"]) == 23
    assert state["changed"] == {}
    assert (state["scanner"]["state"], state["domains"], state["saved_bytes"]) == ("stopped", 0, 0)


@pytest.mark.parametrize("name", NUMBERS)
def test_the_module_takes_the_range_of_the_table_and_nothing_beyond(said: dict[str, Any], name: str) -> None:
    """What the command refuses, the module must refuse; what it lets pass, the module must take."""
    refused = "Invalid argument"
    assert said["ranges"][name] == [refused, True, True, refused, True]


def test_the_module_has_the_files_of_the_table(said: dict[str, Any]) -> None:
    """All of them, and none that has no meaning there."""
    shown = value(said["show"])
    assert set(shown) == THERE
    assert {name: each["value"] for name, each in shown.items() if name in ("run", "pages_to_scan")} == {
        "run": 0,
        "pages_to_scan": 4096,
    }


def test_set(said: dict[str, Any]) -> None:
    """Old and new, and a bad value among good ones changes nothing."""
    assert value(said["set"]) == {
        "pages_to_scan": {"old": 1000, "new": 4096},
        "sleep_millisecs": {"old": 20, "new": 1},
    }
    assert said["bad set"] == [
        1, "", "memmergectl: max_page_sharing cannot be '1'; allowed: 2 to 2147483647 mappings\n",
    ]  # fmt: skip
    assert value(said["merged"])["changed"] == {
        "pages_to_scan": {"value": 4096, "default": 1000},
        "sleep_millisecs": {"value": 1, "default": 20},
    }


def test_start_and_stop(said: dict[str, Any]) -> None:
    """The scanner's thread is there while it runs."""
    assert said["start"] == [0, "run  0 → 1\n", ""]
    assert value(said["running"])["scanner"]["state"] == "running"
    assert value(said["running"])["scanner"]["thread"] > 0
    assert value(said["stop"]) == {"run": {"old": 1, "new": 0}}


def test_status_counts_what_was_merged(said: dict[str, Any]) -> None:
    """To the page."""
    state = value(said["merged"])
    assert state["pages"] == {
        "pages_shared": 1024,
        "pages_sharing": 1024,
        "pages_mapped_zero": 1024,
        "pages_unshared": 1024,
        "pages_volatile": 0,
    }
    assert (state["domains"], state["regions"]) == (1, 2)
    assert state["saved_bytes"] == 2048 * PAGE
    assert 0 < state["metadata_bytes"] == state["saved_bytes"] - state["net_bytes"]
    assert state["unsharing"]["covered"] is True
    assert state["scanning"]["pages"] >= 2 * 4096
    assert state["scanning"]["cpu_us_per_page"] > 0
    assert "saved       8 MiB: 1024 pages by sharing 1024, 1024 by the zero page\n" in said["merged table"][1]


def test_watch_of_a_scanner_that_is_stopped(said: dict[str, Any]) -> None:
    """Nothing moves; that it does while the scanner runs is what the steps have waited for."""
    ended, out, err = said["at rest"]
    rows = [json.loads(line) for line in out.splitlines()]
    assert (ended, err, len(rows)) == (0, "", 2)
    for row in rows:
        assert (row["scanned_per_s"], row["merged_per_s"], row["cpu_percent"]) == (0, 0, 0)
        assert (row["saved_bytes"], row["saved_change_bytes"]) == (2048 * PAGE, 0)
    assert len(said["watch table"][1].splitlines()) == 3


def test_domains_say_why_not(said: dict[str, Any]) -> None:
    """Each region's own pages have no equal, and that is all that holds any back."""
    assert said["no domains"] == [0, "the agent holds no domain\n", ""]
    (domain,) = value(said["domains"])
    why = {"field": "pages_unshared", "reason": "no equal page found"}
    assert (domain["domain"], domain["pages_registered"], domain["saved_bytes"]) == (
        "bench",
        4096,
        2048 * PAGE,
    )
    assert domain["why_not"] == [why | {"pages": 1024}]
    assert [region["guest"] for region in domain["regions"]] == ["a", "b"]
    for region in domain["regions"]:
        assert (region["pages_mapped_shared"], region["pages_mapped_zero"]) == (1024, 512)
        assert region["why_not"] == [why | {"pages": 512}]
    assert "     512  no equal page found\n" in said["domains table"][1]


def test_a_process_that_has_exited_is_gone(said: dict[str, Any]) -> None:
    """Its region is, the other one is not."""
    (domain,) = value(said["gone"])
    assert [region["gone"] for region in domain["regions"]] == [True, False]


def test_process_shows_its_merged_pages(said: dict[str, Any]) -> None:
    """By the kernel's own account."""
    found = value(said["process"])
    assert [each["guest"] for each in found] == ["a", "b"]
    assert [each["merged_bytes"] for each in found] == [1024 * PAGE] * 2
    assert said["process table"][0] == 0
    assert "4 MiB" in said["process table"][1]


def test_engine_is_the_module_s_to_offer(said: dict[str, Any]) -> None:
    """A module without the choice says so; one that has it shows it."""
    ended, out, err = said["engine"]
    if "engine" in FILES:
        assert (ended, out, err) == (0, "engine  ksm (of ksm, memmerge)\n", "")
    else:
        assert (ended, out) == (1, "")
        assert "has no file 'engine'" in err


def test_unmerge_gives_everything_back(said: dict[str, Any]) -> None:
    """Four pages were written before; all others get a copy now, and keep their content."""
    assert value(said["written"])["pages"]["pages_sharing"] == 1020
    assert value(said["unmerge"]) == {
        "run": 2,
        "pages_sharing": {"old": 1020, "new": 0},
        "pages_mapped_zero": {"old": 1024, "new": 0},
    }
    state = value(said["unmerged"])
    assert (state["saved_bytes"], state["pages"]["pages_shared"]) == (0, 0)
    assert state["scanner"]["state"] == "stopped, everything unshared"
    assert [json.loads(line)["bad"] for line in said["content"].splitlines()] == [0, 0]
    assert said["start again"] == [0, "run  2 → 1\n", ""]


def test_a_module_that_is_not_loaded_has_a_status_of_its_own(said: dict[str, Any]) -> None:
    """And one that was loaded anew is fresh."""
    ended, out, err = said["unloaded"]
    assert (ended, json.loads(out)) == (3, {"module": {"loaded": False}})
    assert "modprobe memmerge" in err or "has no module memmerge" in err
    assert value(said["loaded"])["scanning"]["pages"] == 0
