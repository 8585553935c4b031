# SPDX-License-Identifier: GPL-2.0-only
"""Telemetry by hand, one host of an inventory at a time: `fab --list`.

A run does the same by role `telemetry`; these are for looking at a host outside of a run.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from mergelab.errors import MergelabError
from mergelab.inventory import find
from mergelab.telemetry import Stream, facts

INVENTORY = "inventory/virtual"


@task(help={"host": "name in the inventory", "inventory": "path of the inventory"}, name="facts")
def show_facts(_: Context, host: str, inventory: str = INVENTORY) -> None:
    """Print the fingerprint of a host as JSON."""
    try:
        print(json.dumps(facts(find(inventory, host)), indent=2))
    except MergelabError as error:
        raise Exit(str(error)) from None


@task(
    help={
        "host": "name in the inventory",
        "inventory": "path of the inventory",
        "interval": "seconds between samples",
        "output": "file to append to",
    }
)
def sample(
    _: Context, host: str, inventory: str = INVENTORY, interval: float = 2.0, output: str = "/dev/stdout"
) -> None:
    """Stream samples of a host, one JSON object a line, until Ctrl-C."""
    try:
        stream = Stream(find(inventory, host), interval, Path(output), sys.stderr)
    except MergelabError as error:
        raise Exit(str(error)) from None
    try:
        stream.run()
    except KeyboardInterrupt:
        stream.stop()
