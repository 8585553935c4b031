# SPDX-License-Identifier: GPL-2.0-only
"""The module built outside of the kernel's tree, as DKMS does it, for every release that has patches."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mergelab import uml
from mergelab.kernel import source

pytestmark = pytest.mark.kernel

MODULE = uml.KERNEL / "memmerge"
PROFILES = {"6.1": "um-kasan", "6.12": "um"}
"""Which kernel of a release the module is built for: one that other tests have built already."""
PROGRAMS = ("abi_test", "merge_test")


@dataclass(frozen=True)
class Outside:
    """Where the module was built and for which kernel, and what make printed."""

    build: Path
    kernel: Path
    status: int
    output: str


def dkms(name: str, **variables: Path) -> str:
    """Return what dkms.conf gives a variable, read as DKMS reads it."""
    script = f'. "{MODULE}/dkms.conf" && printf %s "${{{name}}}"'
    done = subprocess.run(
        ["bash", "-ec", script],
        env={name: str(path) for name, path in variables.items()},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(release, marks=[pytest.mark.release_6_1] if release == "6.1" else [])
        for release in PROFILES
    ],
)
def outside(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    """The module, built by the command of dkms.conf against a tree in which nothing of it is left."""
    origin = source.debian(request.param)
    folder = tmp_path_factory.mktemp(request.param)
    tree = folder / "tree"
    try:
        kernel = uml.build_kernel(PROFILES[request.param], origin=origin)
        command = ["mergelab", "kernel", "tree", "--modules", "--profile", PROFILES[request.param]]
        made = subprocess.run(
            [*command, "--source", origin, "--to", tree], capture_output=True, text=True, check=False
        )
        assert made.returncode == 0, made.stderr
        (tree / "include/uapi/linux/memmerge.h").unlink()
        for path in (tree / "mm/memmerge").glob("*.[ch]"):
            path.unlink()

        paths = {"kernel_source_dir": tree / "build", "dkms_tree": folder}
        build = folder / dkms("PACKAGE_NAME") / dkms("PACKAGE_VERSION") / "build"
        shutil.copytree(MODULE, build)
        kept = {key: os.environ[key] for key in ("HOME", "PATH")}
        done = subprocess.run(
            dkms("MAKE[0]", **paths).split(),
            env={**kept, "ARCH": "um"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        yield Outside(build, kernel, done.returncode, done.stdout)
    finally:
        shutil.rmtree(tree, ignore_errors=True)


def test_every_release_is_tried() -> None:
    """A release that has patches is one that the module is kept for."""
    assert set(PROFILES) == {path.parent.name for path in (uml.KERNEL / "patches").glob("*/series")}


def test_version_is_the_projects(root: Path) -> None:
    """DKMS tells one state of the module from the next by its version."""
    version = re.search(r'^version = "(.*)"$', (root / "pyproject.toml").read_text(), re.MULTILINE)
    assert version
    assert dkms("PACKAGE_VERSION") == version[1]


def test_builds_without_a_word_of_modpost(outside: Outside) -> None:
    """A symbol that the kernel does not export is found when the module is built, not when it is loaded."""
    assert outside.status == 0, outside.output
    assert not re.search(r"warning|error|undefined", outside.output, re.IGNORECASE), outside.output


def test_it_is_the_module_for_that_kernel(outside: Outside) -> None:
    """Another version magic would keep the module from being loaded."""
    (inside,) = (outside.kernel / "modules").rglob("memmerge.ko")
    module = outside.build / f"{dkms('BUILT_MODULE_NAME[0]')}.ko"
    magic = [
        subprocess.run(
            ["/sbin/modinfo", "-F", "vermagic", path], capture_output=True, text=True, check=True
        ).stdout
        for path in (inside, module)
    ]
    assert magic[0] == magic[1] != ""


def test_loads_and_merges(outside: Outside, tmp_path: Path) -> None:
    """Headers that do not fit the kernel show when the module works, at the latest."""
    kernel = tmp_path / "kernel"
    kernel.mkdir()
    shutil.copy(outside.kernel / "linux", kernel)
    shutil.copytree(outside.kernel / "modules", kernel / "modules")
    (inside,) = (kernel / "modules").rglob("memmerge.ko")
    shutil.copy(outside.build / "memmerge.ko", inside)
    programs = tmp_path / "programs"
    programs.mkdir()
    uml.build_programs(uml.KERNEL / "selftests", programs)

    boot = uml.boot(kernel, [programs / name for name in PROGRAMS], swap_bytes=256 << 20)
    assert boot.finished, boot.console[-4000:]
    assert "memmerge: loading out-of-tree module taints kernel" in boot.console
    for step in ("load", *PROGRAMS, "unload"):
        assert boot.steps[step].status == 0, boot.steps[step].output
    assert boot.complaints == []
