# SPDX-License-Identifier: GPL-2.0-only
"""The torture finds an engine that is broken: each patch of broken/ breaks it in one way.

A kernel is built for each patch, so these tests run only when they are asked for: make test ARGS=--broken.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from mergelab import uml
from mergelab.torture import plan, run

pytestmark = [pytest.mark.kernel, pytest.mark.broken]

PATCHES = sorted((Path(__file__).parent / "broken").glob("*.patch"))
SEED = 20080123
OPS = 40_000
BUT = ("fuzz", "fuzz-faults", "crowd")
"""Configurations that are not asked: which patch they would find depends on luck."""


@pytest.mark.parametrize("patch", PATCHES, ids=lambda path: path.stem)
def test_broken_engine_is_found(patch: Path, root: Path, tmp_path: Path) -> None:
    """A torture that finds nothing wrong with this engine would find nothing wrong with any."""
    broken = tmp_path / "kernel"
    shutil.copytree(root / "kernel", broken)
    subprocess.run(["patch", "-s", "-p2", "-d", str(broken), "-i", str(patch)], check=True)
    kernel = uml.build_kernel(run.PROFILE, kernel=broken)
    found: list[str] = []
    for configuration in plan.CONFIGURATIONS:
        if found or configuration.name in BUT:
            continue
        log = tmp_path / f"{configuration.name}.log"
        outcome = run.run(configuration, kernel, SEED, OPS, log=log, heard=lambda done, total: None)
        found = outcome.findings
        print(f"{patch.stem}: {configuration.name}: {found}")
    assert found
