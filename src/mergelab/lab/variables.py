# SPDX-License-Identifier: GPL-2.0-only
"""Misspelt variables: a name that no role knows would leave a default in force without a word."""

import difflib
from collections.abc import Iterable, Set
from pathlib import Path

import yaml

from mergelab.errors import MergelabError

SIMILAR = 0.9


def inputs(roles: Path) -> dict[str, set[str]]:
    """Return role to the names of its inputs, from every meta/argument_specs.yml under ``roles``.

    Raises:
        MergelabError: there is no role.
    """
    found = {}
    for path in sorted(roles.glob("*/meta/argument_specs.yml")):
        specs = yaml.safe_load(path.read_text())["argument_specs"]
        found[path.parts[-3]] = {name for spec in specs.values() for name in spec.get("options") or {}}
    if not found:
        raise MergelabError(
            f"no role with an argument specification under {roles}", "run from the project's directory"
        )
    return found


def unknown(names: Iterable[str], known: dict[str, set[str]], others: Set[str]) -> list[str]:
    """Find names that look like a role's input and are none.

    Args:
        names: the variables that are set.
        known: role to its inputs.
        others: further names that mean something.

    Returns:
        One sentence for each name that begins with a role's name, or is nearly an input.
    """
    meant = set().union(others, *known.values())
    found = []
    for name in sorted(set(names) - meant):
        similar = difflib.get_close_matches(name, meant, n=1, cutoff=SIMILAR)
        if similar or any(name.startswith(f"{role}_") for role in known):
            hint = difflib.get_close_matches(name, meant, n=1)
            found.append(f"Unknown variable {name}." + (f" Did you mean {hint[0]}?" if hint else ""))
    return found
