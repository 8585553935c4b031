# SPDX-License-Identifier: GPL-2.0-only
"""Telemetry by hand, one host of an inventory at a time: `fab --list`.

A run does the same by role `telemetry`; these are for looking at a host outside of a run.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from mergelab.errors import MergelabError
from mergelab.telemetry import Stream, Target, facts

INVENTORY = "inventory/virtual"


def find(inventory: str, host: str) -> Target:
    """Asks Ansible how to reach a host."""
    command = ["ansible-inventory", "--inventory", inventory, "--host", host]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Exit(f"no host '{host}' in {inventory}: {done.stderr.strip()}")
    said = json.loads(done.stdout)
    return Target(
        host,
        str(said.get("ansible_host", host)),
        int(said.get("ansible_port", 22)),
        str(said.get("ansible_user", "root")),
        str(said.get("ansible_ssh_private_key_file", "")),
        f"{said.get('ansible_ssh_common_args', '')} {said.get('ansible_ssh_extra_args', '')}",
    )


@task(help={"host": "name in the inventory", "inventory": "path of the inventory"}, name="facts")
def show_facts(_: Context, host: str, inventory: str = INVENTORY) -> None:
    """Print the fingerprint of a host as JSON."""
    try:
        print(json.dumps(facts(find(inventory, host)), indent=2))
    except MergelabError as error:
        raise Exit(str(error)) from None


@task(
    help={
        "host": "name in the inventory",
        "inventory": "path of the inventory",
        "interval": "seconds between samples",
        "output": "file to append to",
    }
)
def sample(
    _: Context, host: str, inventory: str = INVENTORY, interval: float = 2.0, output: str = "/dev/stdout"
) -> None:
    """Stream samples of a host, one JSON object a line, until Ctrl-C."""
    stream = Stream(find(inventory, host), interval, Path(output), sys.stderr)
    try:
        stream.run()
    except KeyboardInterrupt:
        stream.stop()
