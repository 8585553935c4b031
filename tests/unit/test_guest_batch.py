# SPDX-License-Identifier: GPL-2.0-only
"""The module of role guest_batch: what it decides, what it calls a guest, how it waits for payloads."""

from __future__ import annotations

import contextlib
import importlib.util
import socket
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import jinja2
import pytest
import yaml

from tests.waiting import until

ROLE = Path(__file__).parents[2] / "roles/guest_batch"


def load() -> ModuleType:
    """Imports the module from where Ansible takes it."""
    spec = importlib.util.spec_from_file_location("guest_batch", ROLE / "library/guest_batch.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["guest_batch"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


batch = load()


def domain(digest: str, running: bool = True, owner: str | None = "guest") -> Any:
    """A domain as the host might have it."""
    return batch.Domain(owner, digest, running)


WANTED = {"guest1": "a", "guest2": "a"}


@pytest.mark.parametrize(
    ("found", "left_over", "stop", "start", "keep"),
    [
        ({}, set(), (), ("guest1", "guest2"), ()),
        ({"guest1": domain("a"), "guest2": domain("a")}, set(), (), (), ("guest1", "guest2")),
        ({"guest1": domain("a")}, set(), (), ("guest2",), ("guest1",)),
        ({"guest1": domain("b"), "guest2": domain("a")}, set(), ("guest1",), ("guest1",), ("guest2",)),
        ({"guest1": domain("a", running=False)}, set(), ("guest1",), ("guest1", "guest2"), ()),
        (
            {"guest10": domain("a"), "guest9": domain("a")},
            set(),
            ("guest9", "guest10"),
            ("guest1", "guest2"),
            (),
        ),
        ({}, {"guest2", "guest7"}, ("guest2", "guest7"), ("guest1", "guest2"), ()),
        ({"guest1": domain("a")}, {"guest1"}, (), ("guest2",), ("guest1",)),
        ({"web": domain("a", owner=None), "x1": domain("a", owner="x")}, set(), (), ("guest1", "guest2"), ()),
    ],
    ids=[
        "none",
        "all",
        "missing",
        "changed",
        "stopped",
        "surplus",
        "left-over",
        "running-with-files",
        "foreign",
    ],
)
def test_plan(found: Any, left_over: set[str], stop: Any, start: Any, keep: Any) -> None:
    """One guest too many or too few falsifies every expected number."""
    assert batch.plan("guest", WANTED, found, left_over) == batch.Plan(stop, start, keep)


def test_removing_a_batch_removes_all_of_it_and_nothing_else() -> None:
    """Somebody else's guest must survive a teardown."""
    found = {"guest1": domain("a"), "guest2": domain("a", running=False), "db1": domain("a", owner="db")}
    assert batch.plan("guest", {}, found, {"guest3"}).stop == ("guest1", "guest2", "guest3")


@pytest.mark.parametrize("owner", [None, "other"])
def test_a_name_that_is_taken_is_an_error(owner: str | None) -> None:
    """Replacing a domain that is not ours would destroy it."""
    with pytest.raises(
        batch.BatchError, match=r"guest2 exists and is not of batch 'guest'.*guest_batch_name"
    ):
        batch.plan("guest", WANTED, {"guest2": domain("a", owner=owner)}, set())


def rendered(**changes: object) -> str:
    """The role's template with its defaults, as Ansible renders it."""
    values = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
    values |= {"__guest_batch_kernel_arguments": "console=ttyS0"} | changes
    template = jinja2.Template(
        (ROLE / "templates/guest.xml.j2").read_text(), trim_blocks=True, autoescape=False
    )
    return str(template.render(values))


def test_a_guest_is_recognised_by_its_description() -> None:
    """Otherwise a second run would start everything anew, or keep what has changed."""
    place = ("guest", "guest1", Path("/var/g/guest1"), Path("/var/i"))
    xml, digest = batch.describe(rendered(), *place)
    assert batch.owner(xml) == ("guest", digest)
    assert batch.describe(rendered(), *place)[1] == digest
    assert batch.describe(rendered(guest_batch_memory_mib=128), *place)[1] != digest
    assert batch.owner("<domain><metadata><other/></metadata></domain>") == (None, None)


def test_the_description_is_complete() -> None:
    """A place-holder left over would name a file that does not exist."""
    xml, _ = batch.describe(rendered(), "guest", "guest1", Path("/var/g/guest1"), Path("/var/i"))
    assert "@" not in xml
    root = ET.fromstring(xml)  # noqa: S314 - the role's own template
    assert root.findtext("name") == "guest1"
    assert root.find("memoryBacking/nosharepages") is None
    assert root.findtext("os/kernel") == "/var/i/bzImage"
    refused, _ = batch.describe(rendered(guest_batch_merge=False), "g", "g1", Path("/g"), Path("/i"))
    assert "<nosharepages/>" in refused


def listens(path: Path) -> bool:
    """Whether somebody takes connections there; it is there a moment before."""
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


@pytest.fixture
def sockets(payload_program: Path, tmp_path: Path) -> Iterator[list[Path]]:
    """Two payloads that wait for requests."""
    paths = [tmp_path / "one", tmp_path / "two"]
    running = [subprocess.Popen([payload_program, "--pages", "64", "--socket", path]) for path in paths]
    assert until(lambda: all(listens(path) for path in paths))
    yield paths
    for process in running:
        process.kill()
        process.wait()


def test_requests_are_answered_one_after_the_other(sockets: list[Path]) -> None:
    """Every request is answered once and in order, whatever an earlier client left behind."""
    call = batch.Call("one", sockets[0], ["info", "fill 0 64 seed:1", "verify 0 64 seed:1"])
    call.finish(time.monotonic() + 20)
    assert [call.answers[0]["pages"], call.answers[1]["pages"], call.answers[2]["bad"]] == ["64", "64", "0"]
    assert call.seconds == sorted(call.seconds)


def test_a_request_that_is_refused_names_guest_request_and_reason(sockets: list[Path]) -> None:
    """The reader must not have to guess what the payload disliked."""
    reason = "guest one refuses 'fill 0 65 zero': FIRST and COUNT must lie within"
    with pytest.raises(batch.BatchError, match=reason):
        batch.Call("one", sockets[0], ["fill 0 65 zero"]).finish(time.monotonic() + 20)


def test_a_guest_that_ends_is_noticed(sockets: list[Path]) -> None:
    """Nobody waits for the dead until the time is up."""
    with pytest.raises(batch.BatchError, match="guest one ended before its payload answered 'info'"):
        batch.Call("one", sockets[0], ["poweroff", "info"]).finish(time.monotonic() + 20)


def test_a_guest_that_says_nothing_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    """The wait is bounded."""
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as silent:
        silent.bind(str(tmp_path / "silent"))
        silent.listen()
        with pytest.raises(batch.BatchError, match="silent did not answer 'info' in time"):
            batch.Call("silent", tmp_path / "silent", ["info"]).finish(time.monotonic() + 0.2)


def test_a_guest_without_a_port_is_an_error(tmp_path: Path) -> None:
    """A guest that never started has no socket."""
    with pytest.raises(batch.BatchError, match="guest one has no payload port"):
        batch.Call("one", tmp_path / "missing", ["info"])


def test_a_long_console_is_cut_at_its_beginning(tmp_path: Path) -> None:
    """The end says why a guest died."""
    console = tmp_path / "console.log"
    assert batch.console_text(console) == ""
    console.write_bytes(b"x" * batch.CONSOLE_BYTES + b"\r\nthe end\r\n")
    assert batch.console_text(console).endswith("x\nthe end\n")
    assert len(batch.console_text(console)) <= batch.CONSOLE_BYTES
