# SPDX-License-Identifier: GPL-2.0-only
"""What the programs of kernel/selftests print: the Test Anything Protocol."""

from __future__ import annotations

import re


def failed(output: str) -> list[str]:
    """Return the tests that failed, or what is wrong with a plan that was not run to its end.

    Args:
        output: of one program; other lines, of the kernel for example, may stand between its own.
    """
    planned = re.search(r"^1\.\.(\d+)$", output, re.MULTILINE)
    results = re.findall(r"^(ok|not ok) \d+ (.*)$", output, re.MULTILINE)
    if not planned:
        return ["there is no plan"]
    if len(results) != int(planned[1]):
        return [f"{len(results)} of {planned[1]} tests ended"]
    return [name for result, name in results if result != "ok"]


def skipped(output: str) -> set[str]:
    """Return the reasons for which tests were skipped."""
    return set(re.findall(r"^ok \d+.* # SKIP (.*)$", output, re.MULTILINE))
