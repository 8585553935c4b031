# SPDX-License-Identifier: GPL-2.0-only
"""The patch series of a release: which patches, and how they are applied."""

import re
import subprocess
from pathlib import Path

from mergelab.errors import MergelabError

_HUNK = re.compile(r"Hunk #(\d+) FAILED at (\d+)")


def series(folder: Path) -> list[Path]:
    """List the patches of a release in their order.

    Args:
        folder: kernel/patches/<release>, which holds ``series``.

    Raises:
        MergelabError: there is no series for the release, or it names a missing patch.
    """
    path = folder / "series"
    if not path.is_file():
        have = sorted(other.parent.name for other in folder.parent.glob("*/series"))
        raise MergelabError(
            f"there is no patch series for Linux {folder.name} ({path} is missing)",
            f"use a source of one of: {', '.join(have) or 'none'}, or write the series",
        )
    lines = (line.split("#", 1)[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    patches = [folder / line for line in lines if line]
    for patch in patches:
        if not patch.is_file():
            raise MergelabError(
                f"{path} names {patch.name}, which does not exist", "add the patch or drop the line"
            )
    return patches


def failures(output: str) -> list[str]:
    """Say which hunks of which files ``patch`` could not apply, from what it printed."""
    failed = []
    file = "?"
    for line in output.splitlines():
        if match := re.match(r"(?:checking|patching) file '?([^']+?)'?(?: \(.*\))?$", line):
            file = match[1]
        elif match := _HUNK.search(line):
            failed.append(f"hunk {match[1]} of {file}, at line {match[2]}")
        elif "can't find file to patch" in line or "No file to patch" in line:
            failed.append("a file that it changes does not exist in this source")
        elif "Reversed (or previously applied)" in line:
            failed.append(f"{file}: the source seems to have the change already")
    return failed


def apply(tree: Path, patches: list[Path]) -> None:
    """Apply patches to a source tree, each completely or not at all.

    Files are replaced, not written in place, so a tree of hard links leaves the original untouched.

    Args:
        tree: the source tree.
        patches: in their order.

    Raises:
        MergelabError: names the patch, the hunk and the file that do not fit.
    """
    command = ["patch", "-p1", "--forward", "--batch", "--no-backup-if-mismatch", "--fuzz=0", "-d", str(tree)]
    for patch in patches:
        for step in (["--dry-run"], []):
            done = subprocess.run(
                [*command, *step, "-i", str(patch.resolve())], capture_output=True, text=True, check=False
            )
            if done.returncode:
                what = failures(done.stdout) or [
                    (done.stdout + done.stderr).strip() or "patch gave no reason"
                ]
                raise MergelabError(
                    f"patch {patch.name} does not apply: {'; '.join(what)}",
                    f"refresh {patch} against this source, or use the source that the series was made for",
                )
