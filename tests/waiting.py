# SPDX-License-Identifier: GPL-2.0-only
"""Waiting for what another process is about to do, for as long as a slow machine may need."""

from __future__ import annotations

import time
from collections.abc import Callable

LIMIT = 120.0
"""Seconds; a bound for what never comes, not a timing."""


def until(met: Callable[[], bool], limit: float = LIMIT) -> bool:
    """Wait until a condition is met; return whether it was, within the limit in seconds."""
    deadline = time.monotonic() + limit
    while not met():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
