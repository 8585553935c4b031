# SPDX-License-Identifier: GPL-2.0-only
"""What a benchmark's figures have to be filed under: machine, build, tools."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from mergelab.host import facts

TOOLS = ("matplotlib", "rich")
"""Python packages that a reader of the page may ask for; the compiler is part of the build."""


def machine() -> dict[str, Any]:
    """This machine."""
    return trimmed(facts.gather())


def trimmed(fingerprint: Mapping[str, Any]) -> dict[str, Any]:
    """A fingerprint without what belongs to one boot of the machine."""
    found = dict(fingerprint)
    kernel = found.get("kernel", {})
    found["kernel"] = {key: kernel[key] for key in ("release", "version", "build_id") if key in kernel}
    found.pop("modules", None)
    return found


def build(kernel: Path, program: Iterable[Path]) -> dict[str, Any]:
    """The kernel under test, by its manifest, and the measuring program, by its sources."""
    manifest: dict[str, Any] = json.loads((kernel / "manifest.json").read_text(encoding="utf-8"))
    digest = hashlib.sha256()
    for path in sorted(program):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return {
        "digest": manifest["digest"],
        "profile": manifest["profile"],
        "kernel_release": manifest["kernel_release"],
        "srcversion": manifest["modules"]["memmerge"]["srcversion"],
        "config": manifest["config"]["sha256"],
        "patches": len(manifest["patches"]),
        "compiler": manifest["compiler"],
        "program": digest.hexdigest(),
    }


def tools() -> dict[str, str]:
    """Versions of what the benchmark was made with."""
    compiler = subprocess.run(["gcc", "--version"], capture_output=True, text=True, check=False).stdout
    return {
        "mergelab": metadata.version("mergelab"),
        "python": platform.python_version(),
        "gcc": (compiler.splitlines() or ["not known"])[0],
        **{name: metadata.version(name) for name in TOOLS},
    }
