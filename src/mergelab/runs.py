# SPDX-License-Identifier: GPL-2.0-only
"""The life of a run directory: begun before anything is measured, ended when every phase was reached.

A host's serial console is one long log; the run keeps what was written to it between begin and end.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mergelab.errors import MergelabError
from mergelab.files import write_atomically

SCHEMA = 1
STAMP = "%Y%m%dT%H%M%SZ"
_RUN_ID = re.compile(r"(\d{8}T\d{6}Z)-.+")


def begin(run_dir: Path, inventory: str, consoles: Mapping[str, Path] | None = None) -> bool:
    """Makes a run directory with its meta.json, and points `latest` at it.

    Beginning again only adds consoles that were not known before.

    Args:
        run_dir: `<runs>/<YYYYMMDDTHHMMSSZ>-<inventory name>`; the time in its name is when the run started.
        inventory: path or name of the inventory.
        consoles: log of the serial console of each host; one that does not exist yet is kept from its start.

    Returns:
        False when the run had begun already.

    Raises:
        MergelabError: The directory's name is not that of a run.
    """
    match = _RUN_ID.fullmatch(run_dir.name)
    if match is None:
        raise MergelabError(
            f"'{run_dir.name}' is not the name of a run",
            "name it YYYYMMDDTHHMMSSZ-<inventory>, or let make choose it",
        )
    fresh = not (run_dir / "meta.json").exists()
    if fresh:
        started = datetime.strptime(match[1], STAMP).replace(tzinfo=UTC)
        meta = {
            "schema": SCHEMA,
            "run": run_dir.name,
            "started": f"{started:%Y-%m-%dT%H:%M:%SZ}",
            "inventory": inventory,
            "commit": commit(Path(__file__).parent),
        }
        _write(run_dir, {key: value for key, value in meta.items() if value is not None})
    if consoles:
        noted = _read(run_dir)
        known: dict[str, Any] = noted.setdefault("consoles", {})
        for host, log in consoles.items():
            known.setdefault(host, {"log": str(log), "from": log.stat().st_size if log.exists() else 0})
        _write(run_dir, noted)
    point = run_dir.parent / "latest"
    if not point.is_symlink() or point.readlink() != Path(run_dir.name):
        temporary = run_dir.parent / f".latest.{os.getpid()}"
        temporary.symlink_to(run_dir.name)
        temporary.replace(point)
    return fresh


def end(run_dir: Path) -> None:
    """Keeps the consoles, and notes that the run reached its end.

    Raises:
        MergelabError: It never began.
    """
    keep_consoles(run_dir)
    _write(run_dir, {**_read(run_dir), "ended": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"})


def keep_consoles(run_dir: Path) -> list[Path]:
    """Copies what the hosts wrote to their serial consoles since the run began; returns the files.

    Raises:
        MergelabError: The run never began.
    """
    kept = []
    for host, console in _read(run_dir).get("consoles", {}).items():
        log = Path(console["log"])
        if not log.is_file():
            continue
        with log.open("rb") as stream:
            # A host that was made anew meanwhile began a new log.
            stream.seek(console["from"] if console["from"] <= log.stat().st_size else 0)
            written = stream.read()
        path = run_dir / "console" / f"{host}.log"
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, written)
        kept.append(path)
    return kept


def commit(folder: Path) -> str | None:
    """Returns the commit of a checkout, with `-dirty` when files differ from it; None outside of one."""
    describe = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(describe, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _read(run_dir: Path) -> dict[str, Any]:
    path = run_dir / "meta.json"
    if not path.is_file():
        raise MergelabError(f"{path} does not exist: the run never began", "run 'mergelab run begin' first")
    meta: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return meta


def _write(run_dir: Path, meta: dict[str, Any]) -> None:
    write_atomically(run_dir / "meta.json", json.dumps(meta, indent=2) + "\n")


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds `mergelab run begin|consoles|end`."""
    room = subparsers.add_parser("run", help="begin or end a run directory")
    actions = room.add_subparsers(required=True, metavar="ACTION")
    for action, text, run in (
        ("begin", "make it, with meta.json, as the latest", _begin),
        ("consoles", "keep what the hosts' consoles have said since it began", _consoles),
        ("end", "the same, and note that it is complete", _end),
    ):
        parser = actions.add_parser(action, help=text)
        parser.add_argument("run_dir", type=Path)
        if action == "begin":
            parser.add_argument("--inventory", required=True)
            parser.add_argument(
                "--consoles",
                default={},
                type=_logs,
                metavar="JSON",
                help="object with the log of each host's serial console on this machine; empty for none",
            )
        parser.set_defaults(run=run)


def _logs(text: str) -> dict[str, Path]:
    try:
        logs = json.loads(text)
        return {host: Path(log).absolute() for host, log in logs.items() if log}
    except (ValueError, AttributeError, TypeError) as error:
        raise argparse.ArgumentTypeError(f"'{text}' is not an object of paths: {error}") from None


def _begin(options: argparse.Namespace) -> int:
    fresh = begin(options.run_dir.absolute(), options.inventory, options.consoles)
    print("begun" if fresh else "had begun already")
    return 0


def _consoles(options: argparse.Namespace) -> int:
    for path in keep_consoles(options.run_dir.absolute()):
        print(path)
    return 0


def _end(options: argparse.Namespace) -> int:
    end(options.run_dir.absolute())
    print("ended")
    return 0
