# SPDX-License-Identifier: GPL-2.0-only
"""Telemetry over real SSH connections: the server is paramiko's, in this process, the host this machine."""

import contextlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import paramiko
import pytest
from paramiko.common import AUTH_FAILED, AUTH_SUCCESSFUL, OPEN_SUCCEEDED

from mergelab import telemetry
from mergelab.errors import MergelabError
from mergelab.hosttool import build
from mergelab.telemetry import Target
from tests.waiting import until


class Door(paramiko.ServerInterface):
    """Lets one key in, and runs what it asks for in a shell."""

    def __init__(self, key: paramiko.PKey, running: list[subprocess.Popen[bytes]]) -> None:
        """Keeps the key, and where commands are noted."""
        self.key, self.running = key, running

    def get_allowed_auths(self, username: str) -> str:
        """Keys only."""
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        """One key."""
        return AUTH_SUCCESSFUL if key == self.key else AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        """Any session."""
        return OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        """Any command."""
        threading.Thread(target=self.serve, args=(channel, command.decode()), daemon=True).start()
        return True

    def serve(self, channel: paramiko.Channel, command: str) -> None:
        """Runs a command, its output to the channel; its input ends with the channel's."""
        process = subprocess.Popen(
            ["sh", "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self.running.append(process)
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        # The other side may be gone at any time.
        with contextlib.suppress(OSError, EOFError):
            for line in process.stdout:
                channel.sendall(line)
                if channel.eof_received:
                    process.stdin.close()
        process.stdin.close()
        with contextlib.suppress(OSError, EOFError):
            channel.sendall_stderr(process.stderr.read())
            channel.send_exit_status(abs(process.wait()))
            channel.close()


class Machine:
    """The machine behind the door: its address, and a switch to let it die."""

    def __init__(self, folder: Path) -> None:
        """Makes keys, opens the door, installs the tool."""
        self.user_key = paramiko.ECDSAKey.generate()
        self.host_key = paramiko.ECDSAKey.generate()
        self.user_key.write_private_key_file(str(folder / "id"))
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.transports: list[paramiko.Transport] = []
        self.running: list[subprocess.Popen[bytes]] = []
        known = paramiko.HostKeys()
        known.add("box", self.host_key.get_name(), self.host_key)
        known.save(str(folder / "known_hosts"))
        tool = folder / "mergelab-host"
        tool.write_bytes(build())
        tool.chmod(0o755)
        self.target = Target(
            "box",
            "127.0.0.1",
            self.port,
            "root",
            str(folder / "id"),
            f"-o HostKeyAlias=box -o StrictHostKeyChecking=yes -o UserKnownHostsFile={folder}/known_hosts",
            str(tool),
        )
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        """Lets clients in until the listener closes."""
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                transport = paramiko.Transport(connection)
                transport.add_server_key(self.host_key)
                with contextlib.suppress(paramiko.SSHException, EOFError):
                    transport.start_server(server=Door(self.user_key, self.running))
                self.transports.append(transport)

    def die(self) -> None:
        """Drops every connection, as a host that panics does."""
        for transport in self.transports:
            transport.close()
        for process in self.running:
            process.kill()
            process.wait()

    def end(self) -> None:
        """Closes the door."""
        self.listener.close()
        self.die()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A machine that can be reached by SSH."""
    box = Machine(tmp_path)
    yield box
    box.end()


@pytest.fixture
def run_dir(tmp_path: Path) -> Iterator[Path]:
    """A run directory; what still streams into it is stopped."""
    path = tmp_path / "run"
    yield path
    telemetry.stop(path, "box")


def test_facts_come_from_the_host(machine: Machine) -> None:
    """The fingerprint of a report is the host's, not the controller's guess."""
    kernel = telemetry.facts(machine.target)["kernel"]
    assert kernel["boot_id"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def test_samples_are_on_disk_while_it_runs(machine: Machine, run_dir: Path) -> None:
    """Started once, whole lines from the first moment, gone after stop."""
    samples, log, pid_file = telemetry.paths(run_dir, "box")
    assert telemetry.start(machine.target, 0.1, run_dir, 30)
    assert not telemetry.start(machine.target, 0.1, run_dir, 30)
    assert until(lambda: samples.read_bytes().count(b"\n") >= 3, 30)
    assert telemetry.stop(run_dir, "box")
    assert not telemetry.stop(run_dir, "box")
    assert not pid_file.exists()
    lines = [json.loads(line) for line in samples.read_text().splitlines()]
    assert all(line["meminfo"]["MemTotal"] > 0 for line in lines)
    assert [line["t"] for line in lines] == sorted(line["t"] for line in lines)
    assert "stopped as asked" in log.read_text()


def test_a_host_that_dies_is_noted_and_found_again(machine: Machine, run_dir: Path) -> None:
    """What had arrived stays, the loss has its time in the log, and a rebooted host is measured again."""
    samples, log, _ = telemetry.paths(run_dir, "box")
    telemetry.start(machine.target, 0.1, run_dir, 30)
    machine.die()
    assert until(lambda: log.read_text().count("connected") == 2, 30)
    before = samples.read_bytes()
    assert until(lambda: samples.stat().st_size > len(before), 30)
    assert samples.read_bytes().startswith(before)
    assert "lost" in log.read_text() or "ended" in log.read_text()


def test_a_stream_ends_with_the_run_that_owns_it(machine: Machine, tmp_path: Path) -> None:
    """A playbook that is interrupted must not leave processes behind."""
    owner = subprocess.Popen(["sleep", "600"])
    log = (tmp_path / "log").open("w")
    stream = telemetry.Stream(machine.target, 0.1, tmp_path / "samples", log, owner.pid)
    thread = threading.Thread(target=stream.run)
    thread.start()
    try:
        assert until(
            lambda: (tmp_path / "samples").exists() and (tmp_path / "samples").stat().st_size > 0, 30
        )
        owner.kill()
        owner.wait()
        thread.join(30)
        assert not thread.is_alive()
    finally:
        stream.stop()
        owner.kill()
        thread.join()
        log.close()
    assert "is gone" in (tmp_path / "log").read_text()


def test_a_changed_host_key_is_refused(machine: Machine, tmp_path: Path) -> None:
    """Another machine at the same address must not be measured in the host's name."""
    known = paramiko.HostKeys()
    known.add("box", "ecdsa-sha2-nistp256", paramiko.ECDSAKey.generate())
    known.save(str(tmp_path / "known_hosts"))
    with pytest.raises(MergelabError, match="host key of box"):
        telemetry.facts(machine.target)
    telemetry.facts(replace(machine.target, ssh_args="-o StrictHostKeyChecking=no"))


def test_an_unreachable_host_names_itself_and_the_fix(tmp_path: Path) -> None:
    """The person learns which host, where, and what to look at; nothing is left running."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    target = Target("box", "127.0.0.1", port, "root", str(tmp_path / "none"))
    with pytest.raises(MergelabError, match=rf"box \(root@127.0.0.1:{port}\) cannot be reached"):
        telemetry.facts(target)
    with pytest.raises(MergelabError, match="no telemetry from box"):
        telemetry.start(target, 1, tmp_path / "run", 3)
    assert telemetry.running(telemetry.paths(tmp_path / "run", "box")[2]) is None


def test_a_host_without_the_tool_says_so(machine: Machine) -> None:
    """The error is the host's own, with the role that installs the tool."""
    with pytest.raises(MergelabError, match="not found"):
        telemetry.facts(replace(machine.target, tool="/nonexistent/mergelab-host"))


def test_ssh_options_are_read_as_ssh_reads_them() -> None:
    """Both spellings of an option, without regard to case."""
    target = Target(
        "a", "b", ssh_args="-4 -o hostkeyalias=x -oUserKnownHostsFile=/k -o 'ProxyCommand=ssh -W a b'"
    )
    assert target.option("HostKeyAlias") == "x"
    assert target.option("UserKnownHostsFile") == "/k"
    assert target.option("ProxyCommand") == "ssh -W a b"
    assert target.option("Port") is None


def test_the_owner_is_the_playbook_above(tmp_path: Path) -> None:
    """Ansible runs commands through several processes; the one to watch is the outermost playbook."""
    code = "from mergelab.telemetry import owner; print(owner())"
    playbook = tmp_path / "ansible-playbook"
    playbook.write_text(f"#!/bin/sh\necho $$\nsh -c \"{sys.executable} -c '{code}'; true\"\ntrue\n")
    playbook.chmod(0o755)
    said = subprocess.run([playbook], capture_output=True, text=True, check=True).stdout.split()
    assert said[0] == said[1]
    alone = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert alone.strip() == str(telemetry.owner())
