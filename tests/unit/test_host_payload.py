# SPDX-License-Identifier: GPL-2.0-only
"""The payload, as a real process, driven by the host tool as on a host."""

import json
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mergelab.host import HostError
from mergelab.host.payload import Payload, parse
from mergelab.hosttool import build

ROOT = Path(__file__).parents[2]
Tool = Callable[..., list[Any]]

root = pytest.mark.skipif(os.geteuid() != 0, reason="the kernel shows page frame numbers to root only")


class ToolError(Exception):
    """The tool's exit was not 0; the message is its standard error."""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The payload, built for this test."""
    assert shutil.which("musl-gcc"), "musl-gcc is missing: tools/setup installs musl-tools"
    folder = tmp_path_factory.mktemp("payload")
    subprocess.run(
        ["make", "-C", ROOT / "kernel/guest", f"O={folder}", folder / "payload"],
        check=True,
        capture_output=True,
    )
    return folder / "payload"


@pytest.fixture
def tool(tmp_path: Path) -> Iterator[Tool]:
    """Runs the installed form of mergelab-host, with its state in a folder of its own."""
    path = tmp_path / "mergelab-host"
    path.write_bytes(build())
    path.chmod(0o755)
    environment = {
        **os.environ,
        "MERGELAB_STATE_DIR": str(tmp_path / "state"),
        "MERGELAB_AGENT_SOCKET": "/nowhere",
    }

    def run(*words: str) -> list[Any]:
        done = subprocess.run(
            [path, *words], capture_output=True, text=True, env=environment, timeout=60, check=False
        )
        if done.returncode != 0:
            raise ToolError(done.stderr)
        return [json.loads(line) for line in done.stdout.splitlines()]

    yield run
    for note in (tmp_path / "state").glob("guests/*/plain.json"):
        run("plain", "stop", note.parent.name)


def test_two_processes_are_driven_side_by_side(tool: Tool, program: Path) -> None:
    """What the checks do with guests works on any machine with plain processes."""
    for name in ("a", "b"):
        tool("plain", "start", name, "--pages", "64", "--program", str(program))
    answers = tool("guest", "call", "a,b", "fill 0 64 seed:7", "verify 0 64 seed:7", "verify 0 64 seed:8")
    assert [(answer["guest"], answer.get("bad")) for answer in answers] == [
        ("a", None),
        ("a", 0),
        ("a", 64),
        ("b", None),
        ("b", 0),
        ("b", 64),
    ]
    assert [entry["name"] for entry in tool("guest", "list")[0] if entry["payload"]] == ["a", "b"]
    assert {"a", "b"} <= set(tool("memory")[0]["guests"])


@root
def test_corruption_is_found_in_its_place(tool: Tool, program: Path) -> None:
    """Proves that a page index, its address and the bytes of its content mean the same everywhere."""
    tool("plain", "start", "a", "--pages", "16", "--program", str(program))
    tool("guest", "call", "a", "fill 0 16 seed:1")
    tool("guest", "corrupt", "a", "--gpa", hex(5 * 4096 + 99), "--xor", "0x10")
    answer = tool("guest", "call", "a", "verify 0 16 seed:1")[0]
    assert (answer["bad"], answer["first"], answer["offset"]) == (1, 5, 99)


@root
def test_pages_of_a_process_by_name(tool: Tool, program: Path) -> None:
    """The page witness must look at the payload's area and nothing else."""
    tool("plain", "start", "a", "--pages", "32", "--program", str(program))
    tool("guest", "call", "a", "fill 0 16 byte:5a")
    pages = tool("pages", "--guest", "a", "--count", "32")[0]
    assert (pages["present"], pages["distinct"]) == (16, 16)
    with pytest.raises(ToolError, match="outside"):
        tool("pages", "--guest", "a", "--count", "33")


def test_batch_is_one_process_and_stops_at_the_first_error(tool: Tool, program: Path) -> None:
    """A check sends its steps in one call; what follows a failed step must not run."""
    tool("plain", "start", "a", "--pages", "4", "--program", str(program))
    values = tool("batch", "guest call a 'fill 0 4 same:1'", "guest call a 'verify 0 4 same:1'", "memory")
    assert [value["verb"].split()[0] for value in values] == ["guest", "guest", "memory"]
    with pytest.raises(ToolError, match="payload refused"):
        tool("batch", "guest call a bogus", "plain stop a")
    assert tool("guest", "call", "a", "info")[0]["pages"] == 4


def test_names_are_taken_once_and_given_back(tool: Tool, program: Path) -> None:
    """A second start under one name would orphan the first process."""
    tool("plain", "start", "a", "--pages", "4", "--program", str(program))
    with pytest.raises(ToolError, match="taken"):
        tool("plain", "start", "a", "--pages", "4", "--program", str(program))
    tool("plain", "stop", "a")
    with pytest.raises(ToolError, match="no plain process"):
        tool("plain", "stop", "a")
    tool("plain", "start", "a", "--pages", "4", "--program", str(program))


def test_a_program_that_ends_says_why(tool: Tool, program: Path) -> None:
    """The cause is in the program's own words, and nothing is left behind."""
    with pytest.raises(ToolError, match="not a number of pages"):
        tool("plain", "start", "a", "--pages", "0", "--program", str(program))
    with pytest.raises(ToolError, match="role guest_image"):
        tool("plain", "start", "a", "--pages", "4")
    assert [entry["name"] for entry in tool("guest", "list")[0] if entry["name"] == "a"] == []


def test_without_an_agent_the_fix_is_named(tool: Tool) -> None:
    """A person learns which unit to start."""
    with pytest.raises(ToolError, match="systemctl start mergelab-agent"):
        tool("domain", "list")


def test_answers_are_read_strictly() -> None:
    """A refusal or a torn line must never look like an answer."""
    assert parse("ok bad=1 first=0x10 state=x", "") == {"bad": 1, "first": 16, "state": "x"}
    assert parse("ok", "") == {}
    for line in ("err no such page", "okay pages=1", "ok pages", ""):
        with pytest.raises(HostError):
            parse(line, "here")


def test_answers_to_an_earlier_client_are_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that gave up leaves half a request and answers in a port; the next must not take them."""
    monkeypatch.setattr("mergelab.host.guests.STATE_DIR", tmp_path)
    home = tmp_path / "guests" / "a"
    home.mkdir(parents=True)
    received = bytearray()

    def port(listener: socket.socket) -> None:
        client, _ = listener.accept()
        with client:
            client.sendall(b"ok bad=7\n@0dd.1 ok bad=8\n")
            while received.count(b"\n") < 2:
                received.extend(client.recv(100))
            tag = received.split(b"\n")[1].split()[0]
            client.sendall(b"@0dd.2 ok bad=9\n" + tag + b" ok bad=0\n")

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(home / "payload.sock"))
        listener.listen()
        thread = threading.Thread(target=port, args=[listener])
        thread.start()
        with Payload("a", timeout=10) as payload:
            assert payload.call("verify 0 1 zero") == {"bad": 0}
        thread.join()
    assert received.startswith(b"\n@"), "half a request of the earlier client was not closed"
