# SPDX-License-Identifier: GPL-2.0-only
"""An embedded lab of the tests' own, driven by the commands that a user types.

Its state, its ports and its machines' names differ from those of a user's lab and of the labs of the test
run's other processes, so all can run at once; the cache is shared, as nothing in it depends on who filled
it. The state is always in the same place: what a test run that was killed has left is found and removed by
the next one, or by this file as a program.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PORT_BASE = 2300
HOST = "vhost1"
MACHINES = "mergelab-test-"
STATES = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "mergelab-test"


@dataclass(frozen=True)
class Played:
    """What a verb did.

    Attributes:
        status: exit status of the command.
        output: everything it printed.
        run_dir: its run directory, when the verb has one.
    """

    status: int
    output: str
    run_dir: Path | None

    def changed(self) -> dict[str, int]:
        """Return how many tasks changed something, per host, summed over the plays' recaps."""
        counts: dict[str, int] = {}
        for host, count in re.findall(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)", self.output, re.MULTILINE):
            counts[host] = counts.get(host, 0) + int(count)
        return counts

    def record(self) -> dict[str, Any]:
        """Return the run's judged record, run.json."""
        assert self.run_dir is not None, self.output
        value: dict[str, Any] = json.loads((self.run_dir / "run.json").read_text())
        return value

    def deployed(self) -> dict[str, Any]:
        """Return what the run wrote about the deployment on the lab's host."""
        assert self.run_dir is not None, self.output[-3000:]
        value: dict[str, Any] = json.loads((self.run_dir / "deploy" / f"{HOST}.json").read_text())
        return value


@dataclass(frozen=True)
class Lab:
    """A lab of the tests.

    Attributes:
        number: tells it from the others.
        logs: where the output of each verb is kept.
    """

    number: int
    logs: Path

    @property
    def state(self) -> Path:
        """What the lab keeps: the XDG state directory of its commands."""
        return STATES / str(self.number)

    def environment(self) -> dict[str, str]:
        """Return the environment that selects this lab."""
        inherited = {name: value for name, value in os.environ.items() if name != "MERGELAB_RUN_DIR"}
        return {
            **inherited,
            "XDG_STATE_HOME": str(self.state),
            "MERGELAB_SSH_PORT_BASE": str(PORT_BASE + 10 * self.number),
        }

    def command(self, verb: str, *arguments: str) -> list[str]:
        """Return the command line of a verb."""
        machine = f"{MACHINES}{self.number}-{{{{ inventory_hostname }}}}"
        return ["tools/play", verb, "--extra-vars", json.dumps({"virtual_host_domain": machine}), *arguments]

    def play(self, verb: str, *arguments: str) -> Played:
        """Run a verb of the Makefile to its end.

        Args:
            verb: qualify, deploy, teardown and so on.
            arguments: for ansible-playbook.
        """
        number = len(list(self.logs.glob("*.log")))
        log = self.logs / f"{number:02}-{verb}.log"
        with log.open("w+") as output:
            status = subprocess.run(
                self.command(verb, *arguments),
                cwd=ROOT,
                env=self.environment(),
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                check=False,
            ).returncode
        text = log.read_text()
        named = re.search(r"^mergelab: run (\S+)$", text, re.MULTILINE)
        return Played(status, text, ROOT / "reports" / "runs" / named[1] if named else None)

    def on_host(self, command: str) -> str:
        """Run a shell's command on the lab's host, which has to end well, and return what it printed."""
        done = self.module("shell", command)
        assert done.get("rc") == 0, done
        stdout: str = done["stdout"]
        return stdout

    def module(self, name: str, arguments: str) -> dict[str, Any]:
        """Run a module of Ansible's own on the lab's host and return its result."""
        done = subprocess.run(
            ["ansible", HOST, "-m", f"ansible.builtin.{name}", "-a", arguments],
            cwd=ROOT,
            env={
                **self.environment(),
                "ANSIBLE_LOAD_CALLBACK_PLUGINS": "true",  # ad-hoc commands print for people otherwise
                "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert "{" in done.stdout, done.stdout + done.stderr
        # Other callbacks print around the document.
        document, _ = json.JSONDecoder().raw_decode(done.stdout[done.stdout.index("{") :])
        result: dict[str, Any] = document["plays"][0]["tasks"][0]["hosts"][HOST]
        return result

    def clear(self) -> None:
        """Remove the hosts of this lab, if there are any, whoever started them.

        Raises:
            RuntimeError: they cannot be removed; they are left as they are.
        """
        if not any((self.state / "mergelab" / "virtual").glob("*/*")):
            return
        gone = self.play("teardown")
        if gone.status:
            raise RuntimeError(f"the tests' lab in {self.state} cannot be removed:\n{gone.output[-3000:]}")

    def machines(self) -> set[str]:
        """Return the names of this lab's libvirt machines, running or not."""
        listed = subprocess.run(
            ["virsh", "--connect", "qemu:///session", "--quiet", "list", "--all", "--name"],
            capture_output=True,
            text=True,
            check=False,
        )
        return {name for name in listed.stdout.split() if name.startswith(f"{MACHINES}{self.number}-")}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="test-lab-") as folder:
        try:
            for state in STATES.glob("[0-9]*"):
                Lab(int(state.name), Path(folder)).clear()
        except RuntimeError as error:
            sys.exit(str(error))
