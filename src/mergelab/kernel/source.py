# SPDX-License-Identifier: GPL-2.0-only
"""Kernel sources: a tarball or a git tree, unpacked once per content."""

import hashlib
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from mergelab.errors import MergelabError

_PACKAGED = re.compile(r"/usr/src/(linux-source-[\d.]+)\.tar\.xz")


def debian(release: str) -> Path:
    """Give where Debian's package has the source of a kernel like ``6.12``."""
    return Path(f"/usr/src/linux-source-{release}.tar.xz")


DEBIAN = debian("6.12")
"""The source that is built unless another one is named."""


@dataclass(frozen=True)
class Source:
    """Where a kernel's source comes from.

    Attributes:
        path: the tarball, or the top of the git tree.
        kind: ``tarball`` or ``git``.
        digest: sha256 of the tarball, or the id of the tree object of HEAD.
    """

    path: Path
    kind: str
    digest: str


def file_digest(path: Path) -> str:
    """Give the sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _git(tree: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(tree), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise MergelabError(
            f"git cannot read the kernel source {tree}: {done.stderr.strip()}",
            "check the tree with git status",
        )
    return done.stdout.strip()


def find(path: Path) -> Source:
    """Identify a source by its content.

    Args:
        path: a tarball or the top of a git tree.

    Raises:
        MergelabError: it does not exist, is neither, or is a git tree with changes that are not committed.
    """
    if path.is_file():
        return Source(path, "tarball", file_digest(path))
    if (path / ".git").exists():
        if changes := _git(path, "status", "--porcelain", "--untracked-files=no"):
            raise MergelabError(
                f"the kernel source {path} has {len(changes.splitlines())} uncommitted file(s)",
                "commit them: a build is named by its inputs, and those would have no name",
            )
        return Source(path, "git", _git(path, "rev-parse", "HEAD^{tree}"))
    if path.is_dir():
        raise MergelabError(
            f"the kernel source {path} is a folder without .git", "give a git tree or a tarball of it"
        )
    fix = "give a tarball or a git tree by --source (kernel_build_source)"
    if packaged := _PACKAGED.fullmatch(str(path)):
        fix = f"apt-get install {packaged[1]}, or {fix}"
    raise MergelabError(f"the kernel source {path} does not exist", fix)


def unpack(source: Source, folder: Path) -> Path:
    """Unpack a source into folder/<digest>, unless it is there.

    Returns:
        the unpacked tree; it is shared by builds and must not be changed.

    Raises:
        MergelabError: the source cannot be unpacked, or is not a kernel.
    """
    target = folder / source.digest[:20]
    if target.is_dir():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder, prefix=".unpack-"))
    try:
        tar = ["tar", "--extract", "--directory", str(temporary), "--no-same-owner"]
        if source.kind == "tarball":
            done = subprocess.run(
                [*tar, "--strip-components=1", "--file", str(source.path)],
                capture_output=True,
                text=True,
                check=False,
            )
        else:
            with subprocess.Popen(
                ["git", "-C", str(source.path), "archive", "--format=tar", source.digest],
                stdout=subprocess.PIPE,
            ) as archive:
                done = subprocess.run(tar, stdin=archive.stdout, capture_output=True, text=True, check=False)
        if done.returncode:
            raise MergelabError(
                f"the kernel source {source.path} cannot be unpacked: {done.stderr.strip()}",
                "check the file (incomplete download?) and the disk's free space",
            )
        if not (temporary / "scripts/kconfig/merge_config.sh").is_file():
            raise MergelabError(f"{source.path} is not a kernel source", "give the source of a Linux kernel")
        temporary.chmod(0o755)
        try:
            temporary.replace(target)
        except OSError:
            if not target.is_dir():  # not a second run that was quicker
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def version(tree: Path) -> str:
    """Read the kernel's version, like ``6.12.117``, from its Makefile."""
    head = (tree / "Makefile").read_text(encoding="utf-8")[:400]
    parts = dict(re.findall(r"^(VERSION|PATCHLEVEL|SUBLEVEL|EXTRAVERSION) =[ ]?(.*)$", head, re.MULTILINE))
    return "{VERSION}.{PATCHLEVEL}.{SUBLEVEL}{EXTRAVERSION}".format(**parts)
