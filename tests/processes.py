# SPDX-License-Identifier: GPL-2.0-only
"""What runs on this machine, for tests that nothing is left running."""

from __future__ import annotations

from pathlib import Path


def processes(text: str) -> list[str]:
    """Return the command lines of running processes that name the text."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in line:
            found.append(line)
    return found
