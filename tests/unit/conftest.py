# SPDX-License-Identifier: GPL-2.0-only
"""What several unit tests need: the payload, built from its source."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def payload_program(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The payload."""
    out = tmp_path_factory.mktemp("payload")
    subprocess.run(["make", "-s", "-C", root / "kernel/guest", f"O={out}"], check=True)
    return out / "payload"
