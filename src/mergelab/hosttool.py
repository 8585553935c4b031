# SPDX-License-Identifier: GPL-2.0-only
"""Packs what runs on a host into one file a command: `mergelab-host`, and `memmergectl` for its operator.

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

COMMANDS = {
    "mergelab-host": ("host/*.py",),
    "memmergectl": ("ctl/*.py", "host/*.py", "figures.py", "scales.py"),
}
"""What each command consists of below this package; it starts with the `__main__` of the first part."""

_SHEBANG = b"#!/usr/bin/python3 -IS\n"
_EPOCH = (1980, 1, 1, 0, 0, 0)
_UNCHECKED_HASH = 0b01


def build(command: str = "mergelab-host") -> bytes:
    """Returns the content of a command's zipapp."""
    package = Path(__file__).parent
    parts = COMMANDS[command]
    files = [path for part in parts for path in sorted(package.glob(part))]
    sources = {
        "mergelab/__init__.py": package / "__init__.py",
        "__main__.py": files[0].parent / "__main__.py",
    }
    sources |= {f"mergelab/{path.relative_to(package)}": path for path in files}
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
    parser = subparsers.add_parser("host-tool", help="write a command that runs on a host, as one file")
    parser.add_argument("--command", choices=COMMANDS, default="mergelab-host", help="default %(default)s")
    parser.add_argument("output", type=Path)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    data = build(options.command)
    if not options.output.exists() or options.output.read_bytes() != data:
        write_atomically(options.output, data)
        options.output.chmod(0o755)
    return 0
