# SPDX-License-Identifier: GPL-2.0-only
"""Where the machines of these tests leave their consoles."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def console_log(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Gives the file for the console of a module's machine; continuous integration says where."""
    kept = os.environ.get("MERGELAB_TEST_LOGS")
    logs = Path(kept) if kept else tmp_path_factory.mktemp("logs")
    logs.mkdir(parents=True, exist_ok=True)
    path = logs / f"{request.path.stem.removeprefix('test_')}.console.log"
    print(f"console: {path}")
    return path
