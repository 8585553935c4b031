#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""The emulated hosts there can be, and how to reach them.

A run has the first ``virtual_host_count`` of them (default 1): 20-groups.yml puts
those into the groups that playbooks use. The values are computed here, and not
templates in group_vars, so that tools which read an inventory without Ansible's
templating (testinfra, fabric) see them too.
"""

import json
import os
from pathlib import Path

HOSTS = 2

state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "mergelab/virtual"


def variables(index: int) -> dict[str, object]:
    """The variables of host number ``index``, from 1."""
    # The controller makes the host's key before its first boot: it is known, and checked.
    trust = {
        "HostKeyAlias": f"vhost{index}",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": state / "known_hosts",
    }
    return {
        "virtual_host_index": index,
        "ansible_host": "127.0.0.1",
        "ansible_port": int(os.environ.get("MERGELAB_SSH_PORT_BASE") or 2200) + index,
        "ansible_user": "root",
        "ansible_python_interpreter": "/usr/bin/python3",
        "ansible_ssh_private_key_file": str(state / "id_ed25519"),
        "ansible_ssh_common_args": " ".join(f"-o {name}={value}" for name, value in trust.items()),
    }


hosts = {f"vhost{index}": variables(index) for index in range(1, HOSTS + 1)}
print(json.dumps({"emulated": {"hosts": list(hosts)}, "_meta": {"hostvars": hosts}}, indent=2))
