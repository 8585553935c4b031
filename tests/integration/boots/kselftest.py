# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's own tests of KSM, compiled from the source that the lab's kernel is built from."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from mergelab.kernel import build, source

PROGRAMS = {"ksm_tests": ("-lnuma",), "ksm_functional_tests": ()}
"""In tools/testing/selftests/mm, with the libraries of each."""

RUNS = {
    "merge": ("ksm_tests", "-M", "-p", "10"),
    "unmerge": ("ksm_tests", "-U"),
    "zero-kept": ("ksm_tests", "-Z", "-p", "10", "-z", "0"),
    "zero-page": ("ksm_tests", "-Z", "-p", "10", "-z", "1"),
    "across-nodes": ("ksm_tests", "-N", "-m", "1"),
    "within-nodes": ("ksm_tests", "-N", "-m", "0"),
    "huge-speed": ("ksm_tests", "-H", "-s", "100"),
    "speed": ("ksm_tests", "-P", "-s", "100"),
    "copy-on-write": ("ksm_tests", "-C"),
    "functional": ("ksm_functional_tests",),
}
"""What run_vmtests.sh of that folder runs of them, and the one that it leaves out."""

PATIENCE = {"ksm_tests": ("-l", "800")}
"""They give up after 120 s of scanning, which an emulated machine beside a compilation may need."""


def command(program: str, *arguments: str) -> str:
    """Return the command line of a run."""
    return " ".join([program, *arguments, *PATIENCE.get(program, ())])


def compile_programs(folder: Path) -> Path:
    """Compile them, with what has to be mended in them beside this file; returns where they are."""
    tree = source.unpack(source.find(source.DEBIAN), build.default_cache() / "src")
    headers = folder / "headers"
    _run(["make", "-s", "-C", str(tree), "ARCH=x86", f"O={headers}", "headers"])
    tests = tree / "tools/testing/selftests/mm"
    for name, libraries in PROGRAMS.items():
        file = folder / f"{name}.c"
        shutil.copy(tests / file.name, file)
        for patch in Path(__file__).parent.glob(f"{name}.patch"):
            _run(["patch", "--silent", str(file), str(patch)])
        _run(
            [
                *("gcc", "-O2", "-w", f"-I{tests}", f"-I{tree}", "-isystem", str(headers / "usr/include")),
                *("-o", str(folder / name), str(file)),
                *(str(tests / common) for common in ("vm_util.c", "thp_settings.c")),
                *libraries,
            ]
        )
    return folder


def _run(command: list[str]) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:]
