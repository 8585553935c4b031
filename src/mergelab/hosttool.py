# SPDX-License-Identifier: GPL-2.0-only
"""Packs `mergelab.host` into the one file that is installed on a host, `mergelab-host`.

The same sources give the same bytes, so that copying it twice changes nothing. Compiled modules lie beside
the sources, as an emulated host would spend longer on compiling than on working; another Python version
ignores them.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import marshal
import zipfile
from pathlib import Path

from mergelab.files import write_atomically

_SHEBANG = b"#!/usr/bin/python3 -IS\n"
_EPOCH = (1980, 1, 1, 0, 0, 0)
_UNCHECKED_HASH = 0b01


def build() -> bytes:
    """Returns the content of the zipapp."""
    package = Path(__file__).parent
    sources = {
        "mergelab/__init__.py": package / "__init__.py",
        "__main__.py": package / "host" / "__main__.py",
    }
    sources |= {f"mergelab/host/{path.name}": path for path in sorted((package / "host").glob("*.py"))}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, path in sources.items():
            source = path.read_bytes()
            _store(archive, name, source)
            _store(archive, name + "c", _compiled(name, source))
    return _SHEBANG + buffer.getvalue()


def _compiled(name: str, source: bytes) -> bytes:
    """Returns the .pyc of a source, marked as valid whatever the source's date."""
    code = compile(source, name, "exec", dont_inherit=True)
    header = importlib.util.MAGIC_NUMBER + _UNCHECKED_HASH.to_bytes(4, "little")
    return header + importlib.util.source_hash(source) + marshal.dumps(code)


def _store(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name, _EPOCH), data)


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds `mergelab host-tool`."""
    parser = subparsers.add_parser("host-tool", help="write mergelab-host, the tool that runs on a host")
    parser.add_argument("output", type=Path)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    data = build()
    if not options.output.exists() or options.output.read_bytes() != data:
        write_atomically(options.output, data)
        options.output.chmod(0o755)
    return 0
