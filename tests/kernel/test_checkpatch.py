# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's own style checker finds nothing in the patches, the module and the payload."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERIES = sorted((ROOT / "kernel/patches").glob("*/series"))
PATCHES = sorted((ROOT / "kernel/patches").glob("*/*.patch"))
FILES = sorted(
    path
    for folder in ("memmerge", "guest", "selftests", "bench")
    for path in (ROOT / "kernel" / folder).glob("**/*.[ch]")
    if not path.name.endswith(".mod.c")
)

# Every exception has its reason.
IGNORED_IN_PATCHES = {
    "MISSING_SIGN_OFF": "the series is not offered to the kernel's lists; git knows its author",
}
IGNORED_IN_MODULE = {
    "BIT_MACRO": "BIT() does not exist for user space, which includes memmerge.h",
    "MACRO_ARG_REUSE": "macros that declare a sysfs file paste the name, they do not evaluate it",
    "UNCOMMENTED_DEFINITION": "a local pointer to a lock counts as one; internal.h explains the locks",
}
IGNORED_IN_TRACEPOINTS = {
    "COMPLEX_MACRO": "a list of names is no expression",
    "PARENTHESIS_ALIGNMENT": "the form that every header of tracepoints has",
    "OPEN_ENDED_LINE": "the form that every header of tracepoints has",
}
IGNORED_IN_COMPAT = IGNORED_IN_MODULE | {
    "CONSTANT_COMPARISON": "LINUX_VERSION_CODE counts as a constant",
    "LINUX_VERSION_CODE": "the one file that is there for another release",
}
IGNORED_IN_PROGRAMS = {
    "ARRAY_SIZE": "a macro of the kernel's own headers",
    "PREFER_DEFINED_ATTRIBUTE_MACRO": "a macro of the kernel's own headers",
    "PREFER_KERNEL_TYPES": "types of the kernel's own headers",
}


@pytest.fixture(scope="module")
def checkpatch() -> Path:
    """checkpatch.pl of the source that the kernel is built from; unpacked once into the cache."""
    run = subprocess.run(["mergelab", "kernel", "source"], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return Path(run.stdout.strip()) / "scripts" / "checkpatch.pl"


def findings(checkpatch: Path, ignored: dict[str, str], *arguments: str | Path) -> str:
    """Return what checkpatch prints; nothing is a clean bill.

    Run beside the script: inside a git checkout it takes every tracked file,
    a patch too, for a source.
    """
    run = subprocess.run(
        [
            "perl", checkpatch, "--strict", "--no-tree", "--terse", "--show-types", "--no-summary",
            "--ignore", ",".join(ignored) or "NONE", *arguments,
        ],
        cwd=checkpatch.parent,
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip # the options belong on one line
    return run.stdout + run.stderr


def test_something_is_checked() -> None:
    """Globs that match nothing would make the tests below pass."""
    assert PATCHES
    assert [path for path in FILES if path.parent.name == "memmerge"]


def test_the_checker_finds_a_fault(checkpatch: Path, tmp_path: Path) -> None:
    """A checker that finds nothing anywhere proves nothing about our files."""
    bad = tmp_path / "bad.c"
    bad.write_text("// SPDX-License-Identifier: GPL-2.0\nint f( int a ){\n    return a;\n}\n")
    assert "ERROR:SPACING" in findings(checkpatch, {}, "-f", bad)


@pytest.mark.parametrize("patch", PATCHES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_patch(checkpatch: Path, patch: Path) -> None:
    """A patch follows the kernel's style."""
    assert findings(checkpatch, IGNORED_IN_PATCHES, patch) == ""


@pytest.mark.parametrize("source", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_source(checkpatch: Path, source: Path) -> None:
    """A source file follows the kernel's style."""
    ignored = IGNORED_IN_MODULE if source.parent.name == "memmerge" else IGNORED_IN_PROGRAMS
    if source.name == "trace.h":
        ignored = ignored | IGNORED_IN_TRACEPOINTS
    if source.name == "compat.h":
        ignored = IGNORED_IN_COMPAT
    assert findings(checkpatch, ignored, "-f", source) == ""


def named(series: Path) -> list[str]:
    """Return the patches that a series names."""
    return [line for line in series.read_text().splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize("series", SERIES, ids=lambda path: path.parent.name)
def test_every_patch_is_in_the_series(series: Path) -> None:
    """A patch that the series does not name is never applied, and nobody notices."""
    assert sorted(named(series)) == sorted(path.name for path in series.parent.glob("*.patch"))


@pytest.mark.parametrize("series", SERIES, ids=lambda path: path.parent.name)
def test_releases_have_the_same_patches(series: Path) -> None:
    """What one release gets and another one does not is a difference that nobody has decided on.

    In front of them a release may have backports of what mainline has learnt since. What it can do without
    its series names in a line "# without NAME.patch: reason".
    """
    patches = [name for name in named(series) if not name.startswith("backport-")]
    without = re.findall(r"^# without (\S+\.patch): \S", series.read_text(), re.MULTILINE)
    assert patches == sorted(patches)
    assert sorted(patches + without) == named(ROOT / "kernel/patches/6.12/series")
