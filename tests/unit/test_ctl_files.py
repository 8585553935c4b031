# SPDX-License-Identifier: GPL-2.0-only
"""What memmergectl knows of the module's files, against the document that describes them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from mergelab.ctl.files import FILES

ABI = Path(__file__).parents[2] / "kernel" / "Documentation" / "abi.md"


@dataclass(frozen=True)
class Row:
    """What a line of the document's table says of one of its files."""

    access: str
    default: int | str | None


def defaults(meaning: str, names: list[str]) -> dict[str, int | str]:
    """Reads `default 20`, `1 (default)`, `defaults 5 and 30` for several files, or the word in brackets."""
    one = re.search(r"\bdefault (-?\d+)|(-?\d+) \(default\)", meaning)
    if one:
        return dict.fromkeys(names, int(one[1] or one[2]))
    several = re.search(r"\bdefaults (-?\d+(?:(?:, | and )-?\d+)+)", meaning)
    if several:
        return dict(zip(names, map(int, re.findall(r"-?\d+", several[1])), strict=True))
    word = re.search(r"`[^`]*\[([\w-]+)\][^`]*`", meaning)
    return dict.fromkeys(names, word[1]) if word else {}


def documented() -> dict[str, Row]:
    """Reads every table of the document's section on the files."""
    section = re.split(r"^## ", ABI.read_text(), flags=re.MULTILINE)
    body = next(part for part in section if part.startswith("/sys/kernel/mm/memmerge"))
    rows: dict[str, Row] = {}
    for line in body.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and len(cells) >= 3 and cells[0] != "file" and set(cells[0]) != {"-"}:
            names = re.findall(r"\w+", cells[0])
            stated = defaults(cells[2], names)
            rows |= {name: Row(cells[1], stated.get(name)) for name in names}
    return rows


ROWS = documented()


def test_the_document_is_read() -> None:
    """A table that is not found would make the tests below pass by comparing nothing."""
    assert {"run", "pages_shared", "pages_sharing", "scanner_pid"} <= set(ROWS)


def test_the_same_files_are_known_and_documented() -> None:
    """A file that one side has alone is either unexplained or does not exist."""
    assert set(FILES) == set(ROWS)


@pytest.mark.parametrize("name", ROWS)
def test_access_is_the_documented_one(name: str) -> None:
    """A counter that is offered for setting, or a tunable that is not, misleads."""
    assert FILES[name].writable == (ROWS[name].access == "rw")


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.default is not None])
def test_default_is_the_documented_one(name: str) -> None:
    """Status lists what differs from a default: a wrong one hides a change or invents one."""
    assert FILES[name].default == ROWS[name].default


def test_defaults_are_allowed() -> None:
    """A tunable could otherwise not be set back."""
    for file in FILES.values():
        if isinstance(file.default, int):
            assert file.permits(file.default)
        assert not isinstance(file.default, str) or file.default in file.words


def test_the_document_s_ways_to_state_a_default() -> None:
    """A default that is not understood would be compared with nothing."""
    assert defaults("sleep between rounds, default 20", ["a"]) == {"a": 20}
    assert defaults("-1 (default): no limit, 0: nothing", ["a"]) == {"a": -1}
    assert defaults("limits, defaults 500 and 30000", ["a", "b"]) == {"a": 500, "b": 30000}
    assert defaults("`[none] scan-time`; written by name", ["a"]) == {"a": "none"}
    assert defaults("in existence", ["a"]) == {}
