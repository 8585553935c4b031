# SPDX-License-Identifier: GPL-2.0-only
"""What a payload guest boots from: its kernel, the payload, and an initial RAM disk with the payload in it.

The content decides the name, as everywhere in the cache: ``images/guest-<digest>/`` holds ``bzImage``,
``payload``, ``payload.cpio`` and ``host.tar``, the same as it is to lie below ``/var/lib`` of a host.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from mergelab.errors import MergelabError
from mergelab.kernel import build as kernel_build
from mergelab.kernel import source

PROJECT = Path(__file__).parents[2]
FILES = ("bzImage", "payload", "payload.cpio")
SUMS = "SHA256SUMS"
RECIPE = "2"
"""Changes when the same files would be packed differently."""


def build(kernel: Path, payload_source: Path, cache: Path) -> Path:
    """Builds the payload, puts the kernel beside it, and returns the image's folder.

    Args:
        kernel: the guest's kernel, a bzImage.
        payload_source: the project's ``kernel/guest``.
        cache: the cache's top folder.

    Raises:
        MergelabError: The kernel is missing, or the payload does not compile.
    """
    if not kernel.is_file():
        raise MergelabError(
            f"the guest's kernel {kernel} is not there", "name a bzImage, or leave it to be built"
        )
    images = cache / "images"
    images.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=images, prefix=".guest-"))
    try:
        done = subprocess.run(
            ["make", "--silent", "-C", str(payload_source), f"O={work}"],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise MergelabError(
                f"the payload does not build:\n{done.stdout}{done.stderr}".rstrip(),
                "make setup installs its compiler (Debian packages musl-tools and cpio)",
            )
        shutil.copyfile(kernel, work / "bzImage")
        sums = "".join(f"{source.file_digest(work / name)}  {name}\n" for name in FILES)
        image = images / f"guest-{hashlib.sha256((RECIPE + sums).encode()).hexdigest()[:16]}"
        if not image.is_dir():
            (work / SUMS).write_text(sums, encoding="ascii")
            _pack(work, image.name)
            _sync(work)
            work.chmod(0o755)
            try:
                work.rename(image)
            except OSError:
                if not image.is_dir():  # not a second run that was quicker
                    raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return image


def _pack(folder: Path, name: str) -> None:
    """Writes host.tar: the image below its name, its sums last, and the link that plain processes start."""

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = member.mtime = 0
        member.uname = member.gname = "root"
        return member

    with tarfile.open(folder / "host.tar", "w") as archive:
        for path in ("mergelab", "mergelab/images", f"mergelab/images/{name}"):
            member = tarfile.TarInfo(path)
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(plain(member))
        member = tarfile.TarInfo("mergelab/payload")
        member.type, member.linkname = tarfile.SYMTYPE, "images/current/payload"
        archive.addfile(plain(member))
        for file in (*FILES, SUMS):
            archive.add(folder / file, f"mergelab/images/{name}/{file}", filter=plain)


def _sync(folder: Path) -> None:
    for file in folder.iterdir():
        with file.open("rb") as written:
            os.fsync(written.fileno())


def _build(parsed: argparse.Namespace) -> int:
    kernel: Path | None = parsed.kernel
    if kernel is None:
        options = kernel_build.Options(
            kernel=PROJECT / "kernel",
            profile="guest",
            source=parsed.source,
            cache=parsed.cache,
            jobs=kernel_build.default_jobs(),
        )
        kernel = kernel_build.build(options, kernel_build.say_on_stderr) / "bzImage"
    print(build(kernel, PROJECT / "kernel/guest", parsed.cache))
    return 0


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds ``mergelab guest-image`` to the command."""
    verb = subparsers.add_parser(
        "guest-image", help="build what a payload guest boots from; prints its folder"
    )
    verb.add_argument("--kernel", type=Path, help="a bzImage; by default profile guest is built, or found")
    verb.add_argument(
        "--source", type=Path, default=source.DEBIAN, help="kernel tarball or git tree (%(default)s)"
    )
    verb.add_argument("--cache", type=Path, default=kernel_build.default_cache(), help="(%(default)s)")
    verb.set_defaults(run=_build)
