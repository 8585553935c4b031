# SPDX-License-Identifier: GPL-2.0-only
"""One lab and one qualification run for all lab tests; it is gone when they end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.lab import Lab, Played


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The tests' own lab, removed at the end whatever happened."""
    kept = os.environ.get("MERGELAB_TEST_LOGS")
    logs = Path(kept, "lab") if kept else tmp_path_factory.mktemp("lab-logs")
    logs.mkdir(parents=True, exist_ok=True)
    it = Lab(tmp_path_factory.mktemp("lab-state"), logs)
    yield it
    it.play("teardown")


@pytest.fixture(scope="session")
def qualified(lab: Lab) -> Played:
    """What make qualify did on a lab that did not exist before."""
    return lab.play("qualify")
