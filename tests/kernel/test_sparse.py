# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's semantic checker finds nothing in the module and in what the patches change."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.kernel

# Every exception has its reason.
IGNORED = {
    r"context imbalance in '\w+' - unexpected unlock$": (
        "pte_offset_map_lock() takes its lock out of sparse's sight; upstream mm/ksm.c shows the same"
    ),
}


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """What the build of the module and of mm/ksm.c prints under sparse, in the lab's configuration."""
    tree = tmp_path_factory.mktemp("sparse") / "tree"
    make = ["make", "-C", str(tree), f"O={tree / 'build'}", "-j2", "C=2", "CF=-fdiagnostic-prefix"]
    steps = [
        ["mergelab", "kernel", "tree", "--profile", "lab", "--to", str(tree)],
        [*make, "prepare"],
        [*make, "mm/memmerge/", "mm/ksm.o"],
    ]
    try:
        for step in steps:
            done = subprocess.run(
                step, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
            )
            assert done.returncode == 0, done.stdout[-4000:]
        yield done.stdout
    finally:
        shutil.rmtree(tree, ignore_errors=True)


def test_sparse_knows_user_pointers(tmp_path: Path) -> None:
    """A checker that finds nothing anywhere proves nothing about the module."""
    bad = tmp_path / "bad.c"
    bad.write_text(
        "extern int __attribute__((noderef, address_space(1))) *user;\n"
        "int f(void);\nint f(void) { return *user; }\n"
    )
    done = subprocess.run(["sparse", bad], capture_output=True, text=True, check=False)
    assert "dereference of noderef expression" in done.stderr


def test_every_file_was_checked(output: str, root: Path) -> None:
    """A file that the build left out was not looked at."""
    sources = {path.name for path in (root / "kernel/memmerge").glob("*.c") if "kunit" not in path.name}
    checked = set(re.findall(r"^\s*CHECK\s+\.\./mm/memmerge/(\S+)$", output, re.MULTILINE))
    assert checked == sources
    assert re.search(r"^\s*CHECK\s+\.\./mm/ksm\.c$", output, re.MULTILINE)


def test_sparse_finds_nothing(output: str) -> None:
    """No mixed address spaces, no unbalanced locks, no wrong byte order."""
    found = [line for line in output.splitlines() if "sparse:" in line and "note:" not in line]
    assert [line for line in found if not any(re.search(pattern, line) for pattern in IGNORED)] == []
