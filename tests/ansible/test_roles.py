# SPDX-License-Identifier: GPL-2.0-only
"""Every role keeps its contract: inputs declared once, named after the role, explained."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROLES = sorted(path for path in (Path(__file__).parents[2] / "roles").iterdir() if path.is_dir())

each_role = pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)


def options(role: Path) -> dict[str, dict[str, Any]]:
    """Return the inputs that the role's main entry point declares."""
    spec = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text())
    declared: dict[str, dict[str, Any]] = spec["argument_specs"]["main"].get("options", {})
    return declared


def defaults(role: Path) -> dict[str, Any]:
    """Return the inputs that the role gives a value."""
    values: dict[str, Any] | None = yaml.safe_load((role / "defaults" / "main.yml").read_text())
    return values or {}


def tasks(node: Any) -> Iterator[dict[str, Any]]:
    """Yield every task in a parsed task file, those inside blocks included."""
    for task in node or []:
        yield task
        for part in ("block", "rescue", "always"):
            yield from tasks(task.get(part))


def task_files(role: Path) -> Iterator[tuple[Path, Any]]:
    """Yield each file of tasks and handlers with its parsed content."""
    for folder in ("tasks", "handlers"):
        for path in sorted((role / folder).glob("**/*.yml")):
            yield path, yaml.safe_load(path.read_text())


def test_roles_exist() -> None:
    """Without roles the tests below would pass by testing nothing."""
    assert ROLES


@each_role
def test_inputs_are_declared_and_have_defaults(role: Path) -> None:
    """An input missing on one side is either unchecked or undocumented."""
    assert set(options(role)) == set(defaults(role))


@each_role
def test_inputs_carry_the_name_of_the_role(role: Path) -> None:
    """A variable without its role's prefix can be set by accident."""
    assert [name for name in options(role) if not name.startswith(f"{role.name}_")] == []


@each_role
def test_inputs_are_explained_and_typed(role: Path) -> None:
    """An input that nobody explained cannot be set with confidence."""
    incomplete = [
        name
        for name, option in options(role).items()
        if not option.get("description") or not option.get("type")
    ]
    assert incomplete == []


@each_role
def test_documented_defaults_are_the_defaults(role: Path) -> None:
    """A plain default in the specification is the one that applies; a computed one is put in words there."""
    values = defaults(role)
    stated = {
        name: option["default"]
        for name, option in options(role).items()
        if "default" in option and not isinstance(values[name], list | dict) and "{{" not in str(values[name])
    }
    assert stated == {name: values[name] for name in stated}


@each_role
def test_readme_is_one_page_and_names_every_input(role: Path) -> None:
    """The README is where a reader looks for an input first."""
    text = (role / "README.md").read_text()
    assert len(text.splitlines()) <= 100
    assert [name for name in options(role) if name not in text] == []


@each_role
def test_results_are_internal(role: Path) -> None:
    """A registered result or a fact without "__" would look like an input."""
    public = []
    for path, content in task_files(role):
        for task in tasks(content):
            names = [task["register"]] if "register" in task else []
            names += [name for name in task.get("ansible.builtin.set_fact", {}) if name != "cacheable"]
            public += [f"{path.name}: {name}" for name in names if not name.startswith("__")]
    assert public == []


@each_role
def test_no_error_is_ignored(role: Path) -> None:
    """An ignored error is a host in an unknown state."""
    ignoring = [
        f"{path.name}: {task.get('name')}"
        for path, content in task_files(role)
        for task in tasks(content)
        if task.get("ignore_errors") or task.get("ignore_unreachable")
    ]
    assert ignoring == []


@each_role
def test_no_hostname_decides(role: Path) -> None:
    """Groups and variables say what a host is; its name says nothing."""
    deciding = [
        f"{path.name}: {task.get('name')}"
        for path, content in task_files(role)
        for task in tasks(content)
        if "inventory_hostname" in str(task.get("when", ""))
        and "groups" not in str(task["when"])
        and "ansible_play_hosts" not in str(task["when"])
    ]
    assert deciding == []
