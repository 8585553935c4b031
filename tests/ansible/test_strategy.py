# SPDX-License-Identifier: GPL-2.0-only
"""The strategy of ansible.cfg: what tasks start must not notice it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
SHOW = "grep Cpus_allowed_list /proc/self/status"
PLAY = [
    {
        "hosts": "localhost",
        "connection": "local",
        "gather_facts": False,
        "tasks": [
            {"ansible.builtin.command": SHOW},
            {"ansible.builtin.debug": {"msg": f"{{{{ lookup('ansible.builtin.pipe', '{SHOW}') }}}}"}},
        ],
    }
]


def test_tasks_may_use_every_processor(tmp_path: Path) -> None:
    """Or a kernel would be compiled on one of them: by modules here, and by what runs in Ansible itself."""
    playbook = tmp_path / "play.yml"
    playbook.write_text(json.dumps(PLAY))
    done = subprocess.run(
        ["ansible-playbook", "--inventory", "localhost,", playbook],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    document, _ = json.JSONDecoder().raw_decode(done.stdout[done.stdout.index("{") :])
    module, within = (task["hosts"]["localhost"] for task in document["plays"][0]["tasks"])
    own = subprocess.run(SHOW.split(), capture_output=True, text=True, check=True).stdout.strip()
    assert module["stdout"] == own
    assert within["msg"] == own
