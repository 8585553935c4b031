# SPDX-License-Identifier: GPL-2.0-only
"""Telemetry leaves the host while it happens: samples stream over SSH and are flushed line by line.

One process of the controller per host, in the background from :func:`start` to :func:`stop`. A host that dies
loses nothing that it had sent; the loss is noted in the run's logs, and the process tries to reach the host
again until it is told to stop.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import shlex
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import IO, Any

import fabric  # type: ignore[import-untyped]  # fabric ships no types
import paramiko

from mergelab.errors import MergelabError
from mergelab.files import write_atomically

TOOL = "/usr/local/sbin/mergelab-host"
CONNECT_SECONDS = 30
KEEPALIVE_SECONDS = 10
RETRY_SECONDS = 5


@dataclass(frozen=True)
class Target:
    """How to reach a host by SSH.

    Attributes:
        name: in the inventory; also the name of its files.
        address: host name or IP address.
        port: of its SSH server.
        user: root, or a user with passwordless sudo.
        identity: private key file; empty for the user's own keys and agent.
        ssh_args: what the inventory passes to ssh; UserKnownHostsFile, HostKeyAlias and
            StrictHostKeyChecking are heeded.
        tool: path of mergelab-host on it.
    """

    name: str
    address: str
    port: int = 22
    user: str = "root"
    identity: str = ""
    ssh_args: str = ""
    tool: str = TOOL

    def option(self, key: str) -> str | None:
        """Returns an ssh option that the inventory sets by `-o Key=value`."""
        words = shlex.split(self.ssh_args)
        for at, word in enumerate(words):
            text = words[at + 1] if word == "-o" and at + 1 < len(words) else word.removeprefix("-o")
            name, equals, value = text.partition("=")
            if equals and name.strip().lower() == key.lower():
                return value.strip().strip('"')
        return None


class KnownHost(paramiko.MissingHostKeyPolicy):
    """Accepts a host's key if the known_hosts file has it under the name that ssh would use."""

    def __init__(self, target: Target) -> None:
        """Reads the file that the inventory names, or the user's own."""
        self._anything = (target.option("StrictHostKeyChecking") or "").lower() in ("no", "off", "accept-new")
        path = Path(target.option("UserKnownHostsFile") or "~/.ssh/known_hosts").expanduser()
        self._path = path
        self._keys = paramiko.HostKeys()
        if path.is_file():
            self._keys.load(str(path))
        place = target.address if target.port == 22 else f"[{target.address}]:{target.port}"
        self._name = target.option("HostKeyAlias") or place

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        """Refuses an unknown or changed key.

        Raises:
            SSHException: The key is not the one in the file.
        """
        if not (self._anything or self._keys.check(self._name, key)):
            raise paramiko.SSHException(
                f"the host key of {self._name} ({key.get_name()}) is not in {self._path}: "
                "connect once with ssh and compare its fingerprint"
            )


def connect(target: Target) -> fabric.Connection:
    """Opens a connection to a host.

    Raises:
        MergelabError: It cannot be reached, or is not who it should be.
    """
    options: dict[str, Any] = {"timeout": CONNECT_SECONDS, "banner_timeout": CONNECT_SECONDS}
    if target.identity:
        options |= {"key_filename": str(Path(target.identity).expanduser()), "look_for_keys": False}
    connection = fabric.Connection(
        target.address, user=target.user, port=target.port, connect_kwargs=options, config=_config()
    )
    connection.client.set_missing_host_key_policy(KnownHost(target))
    try:
        connection.open()
    except (OSError, paramiko.SSHException, EOFError) as error:
        raise MergelabError(
            f"{target.name} ({target.user}@{target.address}:{target.port}) cannot be reached: {error}",
            "is it up, and do its address, port, user and key in the inventory hold?",
        ) from None
    connection.transport.set_keepalive(KEEPALIVE_SECONDS)
    return connection


def _config() -> fabric.Config:
    """The inventory says everything; a user's ~/.ssh/config must not turn a lab's address elsewhere."""
    return fabric.Config(overrides={"load_ssh_configs": False})


def as_root(target: Target, command: str) -> str:
    """Returns the shell command that runs another one as root."""
    return command if target.user == "root" else f"sudo -n {command}"


def command(target: Target, verb: str) -> str:
    """Returns the shell command that runs a verb of `mergelab-host` as root."""
    return as_root(target, f"{target.tool} {verb}")


def ask(target: Target, verb: str) -> dict[str, Any]:
    """Returns what a verb of `mergelab-host` prints.

    Raises:
        MergelabError: The host cannot be reached, or has no tool.
    """
    with connect(target) as connection:
        result = connection.run(command(target, verb), hide=True, warn=True, in_stream=False)
    if not result.ok:
        raise MergelabError(
            f"{target.name}: {result.stderr.strip()}",
            "role memmerge installs mergelab-host: run make qualify first, or apply the role",
        )
    said: dict[str, Any] = json.loads(result.stdout)
    return said


def facts(target: Target) -> dict[str, Any]:
    """Returns the host's fingerprint; raises as :func:`ask`."""
    return ask(target, "facts")


class Stream:
    """Copies a host's samples into a file until told to stop."""

    def __init__(
        self, target: Target, interval: float, output: Path, log: IO[str], owner: int | None = None
    ) -> None:
        """Keeps what is needed; nothing is opened but the owner's pidfd.

        Args:
            target: the host.
            interval: seconds between samples.
            output: file that samples are appended to.
            log: where comings and goings of the connection are noted.
            owner: process with whose end the stream ends, too; it must live.
        """
        self._target, self._interval, self._output, self._log = target, interval, output, log
        self._stop = threading.Event()
        self._owner = None if owner is None else os.pidfd_open(owner)

    def stop(self) -> None:
        """Ends :meth:`run` soon; safe in a signal handler."""
        self._stop.set()

    def run(self) -> None:
        """Streams, and connects again when the host went away."""
        while not self._done():
            try:
                with connect(self._target) as connection:
                    self._note("connected")
                    self._copy(connection)
            except MergelabError as error:
                self._note(error.cause)
            except (OSError, EOFError, paramiko.SSHException) as error:
                self._note(f"connection lost: {error}")
            self._stop.wait(RETRY_SECONDS)
        self._note(
            "stopped as asked" if self._stop.is_set() else "stopped, as the run that started it is gone"
        )

    def _done(self) -> bool:
        """Whether it was told to stop, or its owner ended."""
        orphan = self._owner is not None and bool(select.select([self._owner], [], [], 0)[0])
        return self._stop.is_set() or orphan

    def _copy(self, connection: fabric.Connection) -> None:
        channel = connection.transport.open_session()
        channel.settimeout(0.5)
        channel.exec_command(command(self._target, f"sample --interval {self._interval:g}"))
        rest = b""
        with self._output.open("ab") as file:
            while not self._done():
                try:
                    data = channel.recv(65536)
                except TimeoutError:
                    continue
                if not data:
                    self._note(f"the sampler ended: {_errors(channel)}")
                    return
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    file.write(line + b"\n")
                    file.flush()
            channel.shutdown_write()  # the sampler ends when its standard input does

    def _note(self, text: str) -> None:
        self._log.write(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {self._target.name}: {text}\n")
        self._log.flush()


def _errors(channel: paramiko.Channel) -> str:
    text = b""
    with contextlib.suppress(TimeoutError):
        while data := channel.recv_stderr(4096):
            text += data
    return text.decode(errors="replace").strip() or "without a word"


def paths(run_dir: Path, host: str) -> tuple[Path, Path, Path]:
    """Returns the files of a host's telemetry: samples, log, process id."""
    logs = run_dir / "logs"
    return (
        run_dir / "telemetry" / f"{host}.jsonl",
        logs / f"telemetry-{host}.log",
        logs / f"telemetry-{host}.pid",
    )


def start(target: Target, interval: float, run_dir: Path, seconds: float) -> bool:
    """Starts streaming in the background and waits for the first sample.

    Args:
        target: the host.
        interval: seconds between samples.
        run_dir: of the run.
        seconds: within which the first sample must have come.

    Returns:
        False when it streams already.

    Raises:
        MergelabError: No sample came in time; nothing is left running.
    """
    samples, log, pid_file = paths(run_dir, target.name)
    if running(pid_file) is not None:
        return False
    samples.parent.mkdir(parents=True, exist_ok=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    before = samples.stat().st_size if samples.exists() else 0
    arguments = [
        sys.executable,
        "-m",
        "mergelab.cli",
        "telemetry",
        "stream",
        *_options(target, interval, run_dir),
    ]
    playbook = owner()
    if playbook is not None:
        arguments.append(f"--owner={playbook}")
    with log.open("ab") as output:
        process = subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    write_atomically(pid_file, f"{process.pid}\n")
    deadline = time.monotonic() + seconds
    while not (samples.exists() and samples.stat().st_size > before):
        if process.poll() is not None or time.monotonic() > deadline:
            stop(run_dir, target.name)
            words = log.read_text(errors="replace").strip().splitlines()[-3:]
            raise MergelabError(
                f"no telemetry from {target.name} within {seconds:g} s: {' | '.join(words)}",
                f"see {log}; 'mergelab-host sample' on the host shows what it would send",
            )
        time.sleep(0.2)
    return True


def stop(run_dir: Path, host: str, seconds: float = 15) -> bool:
    """Stops streaming; returns False when nothing ran.

    Raises:
        MergelabError: The process does not end.
    """
    _, _, pid_file = paths(run_dir, host)
    pid = running(pid_file)
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + seconds
        while running(pid_file) is not None:
            if time.monotonic() > deadline:
                raise MergelabError(
                    f"the telemetry process {pid} of {host} does not end", f"kill -KILL {pid}"
                )
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
            time.sleep(0.1)
    pid_file.unlink(missing_ok=True)
    return pid is not None


def owner() -> int | None:
    """Returns the ansible-playbook process that this one descends from, if any: the run that it works for."""
    found = None
    pid = os.getpid()
    while pid > 1:
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            fields = (
                Path(f"/proc/{pid}/stat")
                .read_text(encoding="ascii", errors="replace")
                .rpartition(")")[2]
                .split()
            )
        except OSError:
            return found
        if any(word.endswith(b"ansible-playbook") for word in words[:2]):
            found = pid
        pid = int(fields[1])
    return found


def running(pid_file: Path) -> int | None:
    """Returns the process that a pid file names, if it is a telemetry process that lives."""
    try:
        pid = int(pid_file.read_text(encoding="ascii"))
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return pid if b"telemetry" in words and b"stream" in words else None


def _options(target: Target, interval: float, run_dir: Path) -> list[str]:
    return [
        target.name,
        f"--address={target.address}",
        f"--port={target.port}",
        f"--user={target.user}",
        f"--identity={target.identity}",
        f"--ssh-args={target.ssh_args}",
        f"--tool={target.tool}",
        f"--interval={interval:g}",
        f"--run-dir={run_dir}",
    ]


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds `mergelab telemetry start|stop|stream|facts`."""
    room = subparsers.add_parser("telemetry", help="stream a host's samples into a run; take its fingerprint")
    actions = room.add_subparsers(required=True, metavar="ACTION")
    explain = {
        "start": "stream in the background",
        "stop": "end that",
        "stream": "stream until SIGTERM",
        "facts": "write facts/HOST.json",
    }
    for action, text in explain.items():
        parser = actions.add_parser(action, help=text)
        parser.add_argument("host", help="name in the inventory")
        parser.add_argument("--run-dir", type=Path, required=True)
        if action != "stop":
            parser.add_argument("--address", required=True)
            parser.add_argument("--port", type=int, default=22)
            parser.add_argument("--user", default="root")
            parser.add_argument("--identity", default="")
            parser.add_argument("--ssh-args", default="")
            parser.add_argument("--tool", default=TOOL)
        if action in ("start", "stream"):
            parser.add_argument("--interval", type=float, default=2.0, metavar="SECONDS")
        if action == "stream":
            parser.add_argument("--owner", type=int, metavar="PID", help="end when this process ends")
        if action == "start":
            parser.add_argument("--wait", type=float, default=60.0, metavar="SECONDS")
        parser.set_defaults(run=_ACTIONS[action])


def _target(options: argparse.Namespace) -> Target:
    return Target(
        options.host,
        options.address,
        options.port,
        options.user,
        options.identity,
        options.ssh_args,
        options.tool,
    )


def _start(options: argparse.Namespace) -> int:
    changed = start(_target(options), options.interval, options.run_dir.resolve(), options.wait)
    print("started" if changed else "already running")
    return 0


def _stop(options: argparse.Namespace) -> int:
    print("stopped" if stop(options.run_dir.resolve(), options.host) else "was not running")
    return 0


def _stream(options: argparse.Namespace) -> int:
    samples, _, _ = paths(options.run_dir.resolve(), options.host)
    samples.parent.mkdir(parents=True, exist_ok=True)
    stream = Stream(_target(options), options.interval, samples, sys.stdout, options.owner)

    def end(_signal: int, _frame: FrameType | None) -> None:
        stream.stop()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    stream.run()
    return 0


def _facts(options: argparse.Namespace) -> int:
    target = _target(options)
    text = json.dumps(facts(target), indent=2) + "\n"
    path = options.run_dir / "facts" / f"{target.name}.json"
    same = path.is_file() and path.read_text(encoding="utf-8") == text
    if not same:
        write_atomically(path, text)
    print("unchanged" if same else "written")
    return 0


_ACTIONS = {"start": _start, "stop": _stop, "stream": _stream, "facts": _facts}
