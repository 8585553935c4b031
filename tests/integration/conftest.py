# SPDX-License-Identifier: GPL-2.0-only
"""One lab for all lab tests of a process, and one qualification run; they are gone when the tests end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.lab import Lab, Played


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The tests' own lab: nothing of an earlier one is in it, and it is gone at the end whatever happened."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    kept = os.environ.get("MERGELAB_TEST_LOGS")
    logs = Path(kept, f"lab-{number}") if kept else tmp_path_factory.mktemp("lab-logs")
    logs.mkdir(parents=True, exist_ok=True)
    it = Lab(number, logs)
    it.clear()
    yield it
    it.clear()


@pytest.fixture(scope="session")
def qualified(lab: Lab) -> Played:
    """What make qualify did on hosts that run Debian's kernel, new ones or those of an earlier test."""
    return lab.play("qualify")
