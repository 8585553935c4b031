# SPDX-License-Identifier: GPL-2.0-only
"""A file is either there completely or as it was."""

import os
from pathlib import Path

import pytest

from mergelab.files import write_atomically


def test_content_and_mode(tmp_path: Path) -> None:
    """Text and bytes arrive, folders are made, everybody may read."""
    path = tmp_path / "a" / "b.json"
    assert write_atomically(path, "zwölf\n")
    assert path.read_text(encoding="utf-8") == "zwölf\n"
    assert path.stat().st_mode & 0o777 == 0o644
    assert write_atomically(path, b"\x00")
    assert path.read_bytes() == b"\x00"


def test_same_content_leaves_the_file_alone(tmp_path: Path) -> None:
    """So that a second run can say that it changed nothing."""
    path = tmp_path / "file"
    write_atomically(path, "x")
    before = path.stat()
    assert not write_atomically(path, "x")
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_failure_leaves_the_old_file_and_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk or Ctrl-C before the rename costs nothing."""
    path = tmp_path / "file"
    write_atomically(path, "old")

    def interrupted(_descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, "new")
    assert path.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [path]
