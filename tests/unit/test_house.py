# SPDX-License-Identifier: GPL-2.0-only
"""The house is in order: documents point at what exists, and no file is bound to one machine."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = [
    ROOT / name
    for name in subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    if name and (ROOT / name).is_file()
]
DOCUMENTS = [path for path in FILES if path.suffix == ".md"]
SOURCES = {".py", ".c", ".h", ".yml", ".sh"}

each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


def verbs() -> set[str]:
    """Return the targets of the Makefile that "make help" lists."""
    return set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))


@each_document
def test_links_resolve(document: Path) -> None:
    """A link that leads nowhere sends its reader away."""
    links = re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", document.read_text())
    broken = [
        link
        for link in links
        if not re.match(r"[a-z]+:|#", link) and not (document.parent / link.split("#")[0]).exists()
    ]
    assert broken == []


@each_document
def test_make_commands_exist(document: Path) -> None:
    """A command in a document must run as it is written."""
    used = set(re.findall(r"(?:^|`)make ([a-z][a-z-]*)", document.read_text(), re.MULTILINE))
    assert used - verbs() == set()


def test_readme_names_every_verb_of_a_run() -> None:
    """The two commands of the README are the two that must always work."""
    text = (ROOT / "README.md").read_text()
    assert "make qualify" in text
    assert "make test" in text


def test_help_lists_every_target() -> None:
    """A verb that help does not list is a verb that nobody finds."""
    phony = set(re.findall(r"^\.PHONY: ([a-z-]+)", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert phony == verbs()


@pytest.mark.parametrize(
    "pattern",
    [
        r"/wor[k]/",
        r"tmp/m[l]\b",
        r"(?<![\w.~$})/])/roo[t]/(?!\.ssh)",  # a host's own root may have keys
        r"/home/[a-z]+/",
        r"/op[t]/(?:pypi|wheels)",
        r"https?://[^/\s@]+:[^/\s@]+@",
        r"(?i)\bBEGIN (?:RSA |OPENSSH |EC )?PRIVATE KEY\b",
    ],
)
def test_no_file_is_bound_to_a_machine(pattern: str) -> None:
    """A path, an address or a secret of one machine has no meaning on another."""
    found = []
    for path in FILES:
        try:
            lines = path.read_text().splitlines()
        except UnicodeDecodeError:
            continue
        found += [
            f"{path.relative_to(ROOT)}:{number}"
            for number, line in enumerate(lines, 1)
            if re.search(pattern, line)
        ]
    assert found == []


def test_lock_file_names_the_public_index_only() -> None:
    """A lock made behind a mirror would install nowhere else."""
    hosts = set(re.findall(r"https?://([^/\"]+)", (ROOT / "uv.lock").read_text()))
    assert hosts == {"pypi.org", "files.pythonhosted.org"}


def test_sources_name_their_licence() -> None:
    """Kernel and tools are GPL-2.0-only; each source says so in its first lines."""
    without = [
        str(path.relative_to(ROOT))
        for path in FILES
        if (path.suffix in SOURCES or path.parent.name in {"tools", ".ci"})
        and path.name != "packages.txt"
        and path.stat().st_size
        and "SPDX-License-Identifier: GPL-2.0" not in "\n".join(path.read_text().splitlines()[:5])
    ]
    assert without == []
