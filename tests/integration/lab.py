# SPDX-License-Identifier: GPL-2.0-only
"""An embedded lab of the tests' own, driven by the commands that a user types.

Its state, its ports and its machines' names differ from those of a user's lab, so both can run
at once; the cache is shared, as nothing in it depends on who filled it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PORT_BASE = "2300"
DOMAINS = "mergelab-test-{{ inventory_hostname }}"


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


@dataclass(frozen=True)
class Lab:
    """The tests' lab.

    Attributes:
        state: what the lab keeps, the XDG state directory of its commands.
        logs: where the output of each verb is kept.
    """

    state: Path
    logs: Path

    def environment(self) -> dict[str, str]:
        """Return the environment that selects this lab."""
        inherited = {name: value for name, value in os.environ.items() if name != "MERGELAB_RUN_DIR"}
        return {**inherited, "XDG_STATE_HOME": str(self.state), "MERGELAB_SSH_PORT_BASE": PORT_BASE}

    def command(self, verb: str, *arguments: str) -> list[str]:
        """Return the command line of a verb."""
        return ["tools/play", verb, "--extra-vars", json.dumps({"virtual_host_domain": DOMAINS}), *arguments]

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

    def machines(self) -> set[str]:
        """Return the names of this lab's libvirt machines, running or not."""
        listed = subprocess.run(
            ["virsh", "--connect", "qemu:///session", "--quiet", "list", "--all", "--name"],
            capture_output=True,
            text=True,
            check=False,
        )
        return {name for name in listed.stdout.split() if name.startswith("mergelab-test-")}
