# SPDX-License-Identifier: GPL-2.0-only
"""One lab and one qualification run for all lab tests; it is gone when they end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.lab import STATE, Lab, Played


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The tests' own lab: nothing of an earlier one is in it, and it is gone at the end whatever happened."""
    kept = os.environ.get("MERGELAB_TEST_LOGS")
    logs = Path(kept, "lab") if kept else tmp_path_factory.mktemp("lab-logs")
    logs.mkdir(parents=True, exist_ok=True)
    it = Lab(STATE, logs)
    it.clear()
    yield it
    it.clear()


@pytest.fixture(scope="session")
def qualified(lab: Lab) -> Played:
    """What make qualify did on hosts that run Debian's kernel, new ones or those of an earlier test."""
    return lab.play("qualify")
