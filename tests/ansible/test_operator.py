# SPDX-License-Identifier: GPL-2.0-only
"""Role memmerge's part for the operator, played on this machine with folders of its own below /usr/local."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from mergelab.hosttool import build

ROOT = Path(__file__).parents[2]
ROLE = ROOT / "roles" / "memmerge"
INSTALLED = {
    "/usr/local/sbin/memmergectl": (0o755, build("memmergectl")),
    "/usr/local/share/bash-completion/completions/memmergectl": (
        0o644,
        (ROLE / "files/completions/memmergectl").read_bytes(),
    ),
    "/usr/local/share/man/man8/memmergectl.8": (0o644, (ROLE / "files/memmergectl.8").read_bytes()),
}
STEPS = ("check", "first", "second", "check again")
LOOK = """
import json, os, sys
files = {path: [os.stat(path).st_mode & 0o777, open(path, "rb").read().hex()]
         for path in sys.argv[1:] if os.path.exists(path)}
print("looked " + json.dumps(files))
"""


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, dict[str, Any]]]:
    """For each step how many tasks changed something, and the files that were there after it."""
    folder = tmp_path_factory.mktemp("operator")
    # Not built again: marshal writes the same code differently as other code comes to share its constants.
    (folder / "memmergectl").write_bytes(INSTALLED["/usr/local/sbin/memmergectl"][1])
    (folder / "look.py").write_text(LOOK)
    include = {"ansible.builtin.include_role": {"name": "memmerge", "tasks_from": "operator.yml"}}
    play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": [include]}
    (folder / "play.yml").write_text(yaml.safe_dump([play]))
    playbook = f"ansible-playbook -i localhost, -e memmerge_cache_dir={folder} {folder}/play.yml"
    look = f"{sys.executable} {folder}/look.py {' '.join(INSTALLED)}"
    script = "for folder in sbin share; do mount -t tmpfs -o mode=755 tmpfs /usr/local/$folder; done\n"
    for step in STEPS:
        script += f"{playbook} {'--check' if 'check' in step else ''}; {look}\n"
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-euc", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    changed = [
        int(line.split("changed=")[1].split()[0]) for line in done.stdout.splitlines() if "changed=" in line
    ]
    looked = [json.loads(line[7:]) for line in done.stdout.splitlines() if line.startswith("looked ")]
    return dict(zip(STEPS, zip(changed, looked, strict=True), strict=True))


def test_check_mode_tells_what_would_change(played: dict[str, tuple[int, dict[str, Any]]]) -> None:
    """On a host that has none of the folders either; and it changes nothing."""
    assert played["check"] == (2, {})


def test_all_is_installed(played: dict[str, tuple[int, dict[str, Any]]]) -> None:
    """With its content, for everybody to read."""
    changed, files = played["first"]
    assert changed == 2
    assert files == {path: [mode, data.hex()] for path, (mode, data) in INSTALLED.items()}


@pytest.mark.parametrize("step", ["second", "check again"])
def test_the_second_run_changes_nothing(played: dict[str, tuple[int, dict[str, Any]]], step: str) -> None:
    """What is there is left alone."""
    assert played[step] == (0, played["first"][1])


def test_what_is_installed_is_removed() -> None:
    """State absent names each file."""
    tasks = yaml.safe_load((ROLE / "tasks" / "absent.yml").read_text())
    removed = next(task["loop"] for task in tasks if task["name"] == "Remove what was installed")
    assert set(INSTALLED) <= set(removed)
