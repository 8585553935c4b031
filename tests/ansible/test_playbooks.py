# SPDX-License-Identifier: GPL-2.0-only
"""Playbooks list: they name hosts and roles, and decide nothing."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PLAYBOOKS = sorted((ROOT / "playbooks").glob("*.yml"))
INVENTORIES = sorted(path for path in (ROOT / "inventory").iterdir() if path.is_dir())
PARTS = {"begin", "variables"}  # what the playbooks of several verbs begin with
VERBS = {"validate", "deploy", "qualify", "report", "rollback", "teardown", "lab", "site"}

each_playbook = pytest.mark.parametrize("playbook", PLAYBOOKS, ids=lambda path: path.stem)

ROLE_ACTIONS = {"ansible.builtin.include_role", "ansible.builtin.import_role"}
KEYWORDS = {"name", "tags", "block", "always", "rescue", "vars", "run_once", "delegate_to", "become"}


def steps(node: Any) -> Iterator[dict[str, Any]]:
    """Yield every task of a play, those inside blocks included."""
    for task in node or []:
        yield task
        for part in ("block", "rescue", "always"):
            yield from steps(task.get(part))


def test_every_verb_has_its_playbook() -> None:
    """The verbs of the Makefile and of the documentation are these files."""
    assert {path.stem for path in PLAYBOOKS} == VERBS | PARTS


@pytest.mark.parametrize("inventory", INVENTORIES, ids=lambda path: path.name)
def test_syntax(inventory: Path) -> None:
    """A playbook that does not parse fails on a user's first run."""
    run = subprocess.run(
        ["ansible-playbook", "--syntax-check", "--inventory", inventory, *PLAYBOOKS],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr


@each_playbook
def test_playbook_only_lists(playbook: Path) -> None:
    """A condition or a task in a playbook is logic that no role's contract covers."""
    logic = []
    for play in yaml.safe_load(playbook.read_text()):
        if "when" in play:
            logic.append(f"{play.get('name')}: when")
        for section in ("pre_tasks", "tasks", "post_tasks", "handlers"):
            for step in steps(play.get(section)):
                surplus = set(step) - KEYWORDS - ROLE_ACTIONS
                if surplus:
                    logic.append(f"{step.get('name')}: {', '.join(sorted(surplus))}")
    assert logic == []


@each_playbook
def test_every_play_has_a_name(playbook: Path) -> None:
    """The table of times at the end of a run consists of these names."""
    assert [play for play in yaml.safe_load(playbook.read_text()) if not play.get("name")] == []
