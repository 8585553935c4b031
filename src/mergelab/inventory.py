# SPDX-License-Identifier: GPL-2.0-only
"""How to reach a host of an inventory: asks Ansible, which alone knows all that one can say."""

from __future__ import annotations

import json
import subprocess

from mergelab.errors import MergelabError
from mergelab.telemetry import Target


def find(inventory: str, host: str) -> Target:
    """Ask Ansible how to reach a host.

    Raises:
        MergelabError: the inventory has no such host, or cannot be read.
    """
    command = ["ansible-inventory", "--inventory", inventory, "--host", host]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise MergelabError(
            f"no host '{host}' in {inventory}: {done.stderr.strip()}",
            f"ansible-inventory --inventory {inventory} --list shows the hosts",
        )
    said = json.loads(done.stdout)
    return Target(
        host,
        str(said.get("ansible_host", host)),
        int(said.get("ansible_port", 22)),
        str(said.get("ansible_user", "root")),
        str(said.get("ansible_ssh_private_key_file", "")),
        f"{said.get('ansible_ssh_common_args', '')} {said.get('ansible_ssh_extra_args', '')}",
    )
