# SPDX-License-Identifier: GPL-2.0-only
"""The payload of kernel/guest as a plain process: its protocol, and its pages against their Python twin."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mergelab.patterns import NEAR_KINDS, PAGE, Pattern
from tests.waiting import until

PAGES = 600
PATTERNS = [
    "zero",
    "byte:a5",
    "seed:0",
    "seed:0xffffffffffffffff",
    "same:42",
    *(f"near:7:{kind}" for kind in NEAR_KINDS),
]


class Client:
    """One connection to a payload."""

    def __init__(self, path: Path) -> None:
        """Connects within five seconds."""
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(20)
        assert until(lambda: self.socket.connect_ex(str(path)) == 0, 5), "the payload does not listen"
        self.file = self.socket.makefile("rw", newline="\n")

    def call(self, request: str) -> str:
        """Sends a request and returns the answer's line."""
        self.file.write(request + "\n")
        self.file.flush()
        return self.file.readline().rstrip("\n")

    def ok(self, request: str) -> dict[str, int]:
        """Sends a request that must be answered with ok."""
        status, *fields = self.call(request).split()
        assert status == "ok", (request, fields)
        return {key: int(value, 0) for key, value in (field.split("=") for field in fields)}

    def close(self) -> None:
        """Disconnects."""
        self.file.close()
        self.socket.close()


class Payload:
    """A running payload process."""

    def __init__(self, program: Path, home: Path) -> None:
        """Starts it with a socket below `home`."""
        self.path = home / "payload.sock"
        self.process = subprocess.Popen([program, "--pages", str(PAGES), "--socket", str(self.path)])
        self.client = Client(self.path)
        self.address = self.client.ok("info")["gpa"]

    def memory(self, page: int, count: int) -> bytes:
        """Reads its pages from outside."""
        with Path(f"/proc/{self.process.pid}/mem").open("rb", buffering=0) as memory:
            memory.seek(self.address + page * PAGE)
            return memory.read(count * PAGE)

    def flip(self, page: int, offset: int) -> None:
        """Changes one byte behind its back."""
        with Path(f"/proc/{self.process.pid}/mem").open("rb+", buffering=0) as memory:
            memory.seek(self.address + page * PAGE + offset)
            byte = memory.read(1)[0]
            memory.seek(self.address + page * PAGE + offset)
            memory.write(bytes([byte ^ 0x10]))


@pytest.fixture
def payload(payload_program: Path, tmp_path: Path) -> Iterator[Payload]:
    """A payload process with PAGES pages."""
    running = Payload(payload_program, tmp_path)
    yield running
    running.client.close()
    running.process.kill()
    running.process.wait()


def test_info_names_the_area(payload: Payload) -> None:
    """Without it nobody could tell which memory to register."""
    info = payload.client.ok("info")
    assert (info["proto"], info["pages"], info["page"]) == (1, PAGES, PAGE)
    assert info["pid"] == payload.process.pid


@pytest.mark.parametrize("pattern", PATTERNS)
def test_pages_hold_what_the_twin_computes(payload: Payload, pattern: str) -> None:
    """A wrong twin would expect wrong numbers of merged pages."""
    twin = Pattern.parse(pattern)
    first, count = 3, 520
    assert payload.client.ok(f"fill {first} {count} {pattern}")["pages"] == count
    assert payload.memory(first, count) == b"".join(twin.page(i) for i in range(count))
    assert payload.memory(0, first) == bytes(first * PAGE)
    assert payload.memory(first + count, 1) == bytes(PAGE)
    assert payload.client.ok(f"verify {first} {count} {pattern}") == {"bad": 0}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_distinct_counts_the_pages_that_differ(pattern: str) -> None:
    """It is the number of shared pages that a check expects."""
    twin = Pattern.parse(pattern)
    assert twin.distinct(300) == len({twin.page(i) for i in range(300)})


@pytest.mark.parametrize("kind", NEAR_KINDS)
def test_near_duplicates_differ_only_where_they_say(kind: str) -> None:
    """A near-duplicate that differs elsewhere would not find a hash that forgets the tail."""
    twin = Pattern.parse(f"near:9:{kind}")
    at, length, _ = NEAR_KINDS[kind]
    base = twin.page(0)
    for index in (1, 2, 254, 255, 256, 70000):
        page = twin.page(index)
        assert page[:at] == base[:at]
        assert page[at + length :] == base[at + length :]
    assert twin.page(1) != base


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize(("page", "offset"), [(0, 0), (17, 2048), (PAGES - 1, PAGE - 1)])
def test_one_flipped_byte_is_found(payload: Payload, pattern: str, page: int, offset: int) -> None:
    """A verification that overlooks a byte would call lost content intact."""
    payload.client.ok(f"fill 0 {PAGES} {pattern}")
    payload.flip(page, offset)
    assert payload.client.ok(f"verify 0 {PAGES} {pattern}") == {"bad": 1, "first": page, "offset": offset}
    payload.flip(page, offset)
    assert payload.client.ok(f"verify 0 {PAGES} {pattern}") == {"bad": 0}


def test_every_bad_page_is_counted(payload: Payload) -> None:
    """The number tells one lost page from a lost guest."""
    payload.client.ok("fill 100 200 seed:5")
    for page in (299, 100, 150):
        payload.flip(page, 11)
    payload.flip(150, 4000)
    payload.flip(99, 0)
    payload.flip(300, 0)
    assert payload.client.ok("verify 100 200 seed:5") == {"bad": 3, "first": 100, "offset": 11}
    assert payload.client.ok("verify 101 199 zero")["bad"] == 199


@pytest.mark.parametrize("stride", [1, 3, 49, 50, 1000, 2**64 - 1])
def test_poke_writes_every_strideth_page(payload: Payload, stride: int) -> None:
    """The check of unsharing counts on exactly these pages being written."""
    payload.client.ok("fill 10 50 same:8")
    before = payload.memory(0, PAGES)
    answer = payload.client.ok(f"poke 10 50 {stride} 4095 0x81")
    after = payload.memory(0, PAGES)
    changed = [i for i in range(len(before)) if before[i] != after[i]]
    assert changed == [(10 + i) * PAGE + 4095 for i in range(0, 50, stride)]
    assert all(before[i] ^ after[i] == 0x81 for i in changed)
    assert answer["written"] == len(changed)
    assert 0 < answer["p50_ns"] <= answer["p99_ns"] <= answer["max_ns"]
    assert payload.client.ok(f"verify 10 50 same:8 poked:{stride}:4095:0x81") == {"bad": 0}
    assert payload.client.ok("verify 10 50 same:8")["bad"] == len(changed)


def test_poke_with_nothing_to_xor_changes_nothing(payload: Payload) -> None:
    """Such a write unshares a page without changing it."""
    payload.client.ok("fill 0 50 same:8")
    assert payload.client.ok("poke 0 50 5 0 0")["written"] == 10
    assert payload.client.ok("verify 0 50 same:8") == {"bad": 0}


@pytest.mark.parametrize(
    "request_line",
    [
        "hello",
        "info now",
        "fill",
        "fill 0 1",
        "fill 0 0 zero",
        f"fill 0 {PAGES + 1} zero",
        f"fill {PAGES} 1 zero",
        f"fill 1 {2**64 - 1} zero",
        f"fill 1 {2**64} zero",
        "fill -1 1 zero",
        "fill +1 1 zero",
        "fill 0 1x zero",
        "fill 0 0x zero",
        "fill 0 1 zero more",
        "fill 0 1 zero:0",
        "fill 0 1 one",
        "fill 0 1 byte:5",
        "fill 0 1 byte:0x5",
        "fill 0 1 byte:ga",
        "fill 0 1 seed",
        "fill 0 1 seed:",
        "fill 0 1 seed::5",
        "fill 0 1 seed:5:6",
        f"fill 0 1 seed:{2**64}",
        "fill 0 1 near:5",
        "fill 0 1 near:5:middle",
        "fill 0 1 near:5:last-byte:0",
        "fill 0 1 zero\0zero",
        "verify 0 1 zero poke:1:0:0",
        "verify 0 1 zero poked:1:0",
        "verify 0 1 zero poked:1:0:1:1",
        "verify 0 1 zero poked:0:0:1",
        "poke 0 1 0 0 1",
        "poke 0 1 1 4096 1",
        "poke 0 1 1 0 256",
        "poke 0 1 1 0",
        "a b c d e f g h i",
        "x" * 5000,
        "@tag nothing",
    ],
)
def test_bad_input_is_refused_and_changes_nothing(payload: Payload, request_line: str) -> None:
    """A payload that hangs or guesses would take the check with it."""
    payload.client.ok("fill 0 2 byte:77")
    answer = payload.client.call(request_line)
    assert answer.split()[0] == "err" or answer.startswith("@tag err "), answer
    assert len(answer.split()) > 2
    assert payload.client.ok("verify 0 2 byte:77") == {"bad": 0}
    assert payload.client.ok("verify 2 1 zero") == {"bad": 0}


def test_a_tag_comes_back(payload: Payload) -> None:
    """A client tells its answers from those to an interrupted one by it."""
    assert payload.client.call("@17 info").startswith("@17 ok proto=1 ")
    assert payload.client.call("@x fill").startswith("@x err ")


def test_requests_that_arrive_together_are_answered_in_order(payload: Payload) -> None:
    """Checks batch requests to save round trips."""
    lines = ["fill 0 8 seed:1", "", "verify 0 8 seed:1", "verify 0 8 seed:2", "@last info"]
    payload.client.socket.sendall("".join(line + "\r\n" for line in lines).encode())
    answers = [payload.client.file.readline().split() for _ in range(4)]
    assert answers[0][1] == "pages=8"
    assert answers[1][1] == "bad=0"
    assert answers[2][1] == "bad=8"
    assert answers[3][0] == "@last"


def test_a_request_in_pieces_is_one_request(payload: Payload) -> None:
    """A stream has no message borders."""
    for piece in ("ver", "ify 0 1", " zero", "\n"):
        payload.client.socket.sendall(piece.encode())
        time.sleep(0.01)
    assert payload.client.file.readline() == "ok bad=0\n"


def test_clients_come_and_go(payload: Payload) -> None:
    """What one client left half-said must not reach the next one."""
    payload.client.socket.sendall(b"fill 0 1 byte:11")
    payload.client.close()
    second = Client(payload.path)
    second.socket.sendall(f"fill 0 {PAGES} seed:3\n".encode())
    second.close()
    payload.client = Client(payload.path)
    assert payload.client.ok(f"verify 0 {PAGES} seed:3") == {"bad": 0}


def test_poweroff_ends_the_process(payload: Payload) -> None:
    """Nothing may be left behind."""
    assert payload.client.call("poweroff") == "ok"
    assert payload.process.wait(10) == 0
    assert not payload.path.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "usage"),
        (["--pages", "0", "--socket", "s"], "--pages 0"),
        (["--pages", "99999999999999999999", "--socket", "s"], "not a number"),
        (["--pages", "1", "--socket", "x" * 200], "path has more than"),
        (["--pages", "1", "--socket", "missing/s"], "No such file"),
        (["--pages", "1", "--socket", "taken"], "taken exists"),
    ],
)
def test_a_bad_command_line_is_an_error(
    payload_program: Path, tmp_path: Path, arguments: list[str], words: str
) -> None:
    """The words say what is wrong."""
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as taken:
        taken.bind(str(tmp_path / "taken"))
        ended = subprocess.run(
            [payload_program, *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    assert ended.returncode == 1
    assert words in ended.stderr


def test_huge_pages_are_refused(payload: Payload) -> None:
    """A huge page cannot be merged, so the area must not get one."""
    payload.client.ok(f"fill 0 {PAGES} byte:01")
    mapping, flags = "", []
    for line in Path(f"/proc/{payload.process.pid}/smaps").read_text().splitlines():
        if "-" in line.split()[0]:
            mapping = line.split()[0]
        start, end = (int(x, 16) for x in mapping.split("-"))
        if start <= payload.address < end and line.startswith("VmFlags"):
            flags = line.split()
    assert os.sysconf("SC_PAGE_SIZE") == PAGE
    assert "nh" in flags
