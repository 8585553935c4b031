# SPDX-License-Identifier: GPL-2.0-only
"""The checks: what a host must show to qualify. They judge a host; tests judge this project."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from mergelab.bench import Claim, Group

Proving = Callable[[str, str], AbstractContextManager[Claim]]
"""Opens a claim by its id and its sentence."""

Guests = Callable[[], Group]
"""Finds the guests of the host."""

Record = Callable[[str], dict[str, Any]]
"""Reads a file of the run directory."""
