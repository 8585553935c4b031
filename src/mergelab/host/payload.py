# SPDX-License-Identifier: GPL-2.0-only
"""Client of the payload's line protocol, and the life of a payload that runs as a plain process.

One request, one answer (docs/architecture.md, "The payload's protocol"). A guest's port stays open while its
clients come and go, so what an earlier, interrupted client left behind may still be in it: half a request,
which the first line end closes, and answers, which lack the tag of this client's request and are dropped.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from mergelab.host import STATE_DIR, HostError
from mergelab.host.guests import directory, note, plain

if TYPE_CHECKING:
    import subprocess

Answer = dict[str, int | str]


class Payload:
    """A connection to the payload of one guest or plain process; use it in a `with` statement."""

    def __init__(self, name: str, timeout: float) -> None:
        """Connects.

        Args:
            name: guest or plain process.
            timeout: seconds for each answer.

        Raises:
            HostError: Nothing listens.
        """
        self.name = name
        self.timeout = timeout
        self._buffer = b""
        self._client = secrets.token_hex(4)
        self._sent = 0
        path = directory(name) / "payload.sock"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout)
        try:
            self._connect(path)
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Payload:
        """Returns itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the connection."""
        self._socket.close()

    def call(self, request: str) -> Answer:
        """Sends one request and returns the fields of its answer, numbers as numbers.

        Raises:
            HostError: The payload answered `err`, not in time, or went away.
        """
        tag = self._send(request)
        if request.strip() == "poweroff":
            return self._last_words(tag)
        return parse(self._receive(tag, request), f"{self.name}: {request}")

    def _connect(self, path: Path) -> None:
        try:
            self._socket.connect(str(path))
        except FileNotFoundError:
            raise HostError(f"{self.name} has no payload socket ({path}): start it first") from None
        except (ConnectionRefusedError, TimeoutError) as error:
            raise HostError(f"nobody answers on {path} ({error}): see {self.name}'s console.log") from None

    def _send(self, request: str) -> str:
        if "\n" in request or not request.isascii():
            raise HostError(f"'{request}' is not one line of ASCII")
        self._sent += 1
        tag = f"@{self._client}.{self._sent}"
        close = "\n" if self._sent == 1 else ""
        try:
            self._socket.sendall(f"{close}{tag} {request}\n".encode("ascii"))
        except OSError as error:
            raise HostError(f"{self.name} does not take '{request}': {error}") from None
        return tag

    def _receive(self, tag: str, request: str) -> str:
        deadline = time.monotonic() + self.timeout
        while True:
            mine, _, answer = self._line(request, deadline).partition(" ")
            if mine == tag:
                return answer

    def _line(self, request: str, deadline: float) -> str:
        while b"\n" not in self._buffer:
            self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                data = self._socket.recv(65536)
            except TimeoutError:
                raise HostError(
                    f"{self.name} did not answer '{request}' within {self.timeout:g} s; see its console.log"
                ) from None
            except ConnectionResetError:
                data = b""
            if not data:
                raise HostError(f"{self.name} went away during '{request}'; see its console.log")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode("ascii", errors="replace").strip()

    def _last_words(self, tag: str) -> Answer:
        with contextlib.suppress(HostError):  # it may be gone before it can answer, which is what was asked
            self._receive(tag, "poweroff")
        return {}


def parse(line: str, context: str) -> Answer:
    """Turns `ok key=value …` into a dict; decimal and 0x numbers become numbers.

    Raises:
        HostError: The line says `err`, or is no answer at all.
    """
    status, _, rest = line.partition(" ")
    if status == "err":
        raise HostError(f"{context}: the payload refused: {rest}")
    if status != "ok":
        raise HostError(f"{context}: '{line}' is not an answer of the payload's protocol")
    answer: Answer = {}
    for field in rest.split():
        key, equals, value = field.partition("=")
        if not equals:
            raise HostError(f"{context}: '{field}' in '{line}' is not key=value")
        try:
            answer[key] = int(value, 0)
        except ValueError:
            answer[key] = value
    return answer


def call_all(names: list[str], requests: list[str], timeout: float) -> Iterator[Answer]:
    """Sends the same requests to several payloads, which work on them side by side.

    Yields:
        One answer for each name and request, with `guest` and `request` added; names in order, then requests.

    Raises:
        HostError: One refused or did not answer; the others have still been asked.
    """
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - slow to import on an emulated host

    def ask(name: str) -> list[Answer]:
        with Payload(name, timeout) as payload:
            return [{"guest": name, "request": request, **payload.call(request)} for request in requests]

    with ThreadPoolExecutor(len(names)) as pool:
        for future in [pool.submit(ask, name) for name in names]:
            yield from future.result()


def start_plain(name: str, pages: int, program: Path | None, timeout: float) -> Answer:
    """Starts the payload as a plain process and waits until it answers.

    Args:
        name: its name among guests and plain processes.
        pages: size of its area.
        program: the payload; by default the one that role guest_image installed.
        timeout: seconds until it must answer.

    Raises:
        HostError: The name is taken, the program is missing, or it does not answer.
    """
    import subprocess  # noqa: PLC0415 - slow to import on an emulated host

    program = program or STATE_DIR / "payload"
    if not os.access(program, os.X_OK):
        raise HostError(f"{program} is not there or not executable: role guest_image installs it")
    home = directory(name)
    if home.exists():
        raise HostError(f"'{name}' is taken; stop it first (mergelab-host plain stop {name})")
    home.mkdir(parents=True)
    path = home / "payload.sock"
    with (home / "console.log").open("wb") as console:
        process = subprocess.Popen(
            [str(program), "--pages", str(pages), "--socket", str(path)],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            start_new_session=True,
        )
    try:
        info = _first_answer(name, process, time.monotonic() + timeout)
        _write_note(name, process.pid, info)
    except BaseException:
        process.kill()
        process.wait()
        _remove(home)
        raise
    return {**info, "pid": process.pid}


def stop_plain(name: str, timeout: float) -> Answer:
    """Asks a plain process to end, ends it when it does not, and removes its directory."""
    home = directory(name)
    area = plain(name)
    if area is not None:
        pid = area.pid
        with contextlib.suppress(HostError), Payload(name, timeout) as payload:
            payload.call("poweroff")
        if not _gone(pid, timeout):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            if not _gone(pid, timeout):
                raise HostError(f"process {pid} of {name} cannot be ended; the kernel log may say why")
    elif not note(name).exists():
        raise HostError(f"no plain process '{name}'")
    _remove(home)
    return {}


def _first_answer(name: str, process: subprocess.Popen[bytes], deadline: float) -> Answer:
    """Asks a fresh process for `info` until it answers, ends, or the monotonic time has come."""
    while True:
        try:
            with Payload(name, max(deadline - time.monotonic(), 0.1)) as payload:
                return payload.call("info")
        except HostError:
            status = process.poll()
            if status is not None:
                words = (directory(name) / "console.log").read_text(errors="replace").strip()
                raise HostError(f"the payload of {name} ended with status {status}: {words}") from None
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _write_note(name: str, pid: int, info: Answer) -> None:
    start, pages, size = info["gpa"], info["pages"], info["page"]
    if not (isinstance(start, int) and isinstance(pages, int) and isinstance(size, int)):
        raise HostError(f"{name}: 'info' does not give numbers: {info}")
    text = json.dumps({"pid": pid, "start": start, "size": pages * size})
    temporary = note(name).with_suffix(".new")
    temporary.write_text(text, encoding="ascii")
    temporary.replace(note(name))


def _gone(pid: int, timeout: float) -> bool:
    import select  # noqa: PLC0415 - only needed here

    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([pidfd], [], [], timeout)[0])
    finally:
        os.close(pidfd)


def _remove(home: Path) -> None:
    for name in ("payload.sock", "console.log", "plain.json", "plain.new"):
        (home / name).unlink(missing_ok=True)
    with contextlib.suppress(FileNotFoundError):
        home.rmdir()
