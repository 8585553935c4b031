# SPDX-License-Identifier: GPL-2.0-only
"""The torture finds an engine that is broken: each patch of broken/ breaks it in one way.

A kernel is built for each patch, so that runs only when it is asked for: make test ARGS=--broken.
"""

from __future__ import annotations

import filecmp
import shutil
import subprocess
from pathlib import Path

import pytest

from mergelab import uml
from mergelab.torture import plan, run

PATCHES = sorted((Path(__file__).parent / "broken").glob("*.patch"))
SEED = 20080123
OPS = 40_000
BUT = ("fuzz", "fuzz-faults", "crowd")
"""Configurations that are not asked: which patch they would find depends on luck."""


def break_engine(root: Path, patch: Path, folder: Path) -> Path:
    """Return a copy of the folder with patches, module and profiles that a patch has been applied to."""
    broken = folder / "kernel"
    shutil.copytree(root / "kernel", broken)
    subprocess.run(["patch", "-s", "-F0", "-p2", "-d", str(broken), "-i", str(patch)], check=True)
    return broken


@pytest.mark.parametrize("patch", PATCHES, ids=lambda path: path.stem)
def test_patch_breaks_this_engine(patch: Path, root: Path, tmp_path: Path) -> None:
    """One that no longer applies would be noticed by nobody who does not ask for all of it."""
    engine, broken = root / "kernel/memmerge", break_engine(root, patch, tmp_path) / "memmerge"
    names = [path.name for path in engine.iterdir()]
    _, changed, missing = filecmp.cmpfiles(engine, broken, names, shallow=False)
    assert changed
    assert not missing


@pytest.mark.kernel
@pytest.mark.broken
@pytest.mark.parametrize("patch", PATCHES, ids=lambda path: path.stem)
def test_broken_engine_is_found(patch: Path, root: Path, tmp_path: Path) -> None:
    """A torture that finds nothing wrong with this engine would find nothing wrong with any."""
    kernel = uml.build_kernel(run.PROFILE, kernel=break_engine(root, patch, tmp_path))
    found: list[str] = []
    for configuration in plan.CONFIGURATIONS:
        if found or configuration.name in BUT:
            continue
        log = tmp_path / f"{configuration.name}.log"
        outcome = run.run(configuration, kernel, SEED, OPS, log=log, heard=lambda done, total: None)
        found = outcome.findings
        print(f"{patch.stem}: {configuration.name}: {found}")
    assert found
