# SPDX-License-Identifier: GPL-2.0-only
"""What every test may use, and how long a test may take."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).resolve().parents[1]

# Seconds. A marked test may build a kernel or an image into a cold cache first.
LIMITS = {"kernel": 7200, "lab": 14400}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Know the option that asks for what nobody waits for."""
    parser.addoption(
        "--broken", action="store_true", help="also run what breaks the engine on purpose (hours)"
    )


def pytest_configure() -> None:
    """Let tests find mergelab, ansible-playbook and the like, however pytest was started."""
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout that is tested."""
    return ROOT


class ByMachine(LoadScopeScheduling):  # type: ignore[misc] # xdist ships no types
    """Keeps together what shares machines.

    Each folder of the lab's tests is a group, which has a lab, and every other file is one: a process runs a
    group, in its order. (xdist's own groups by mark are lost on pytest 9.)
    """

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.split("::", maxsplit=1)[0]
        return str(Path(path).parent) if path.startswith("tests/integration/") else path


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByMachine:
    """Run the tests in two processes as tools/test means it."""
    return ByMachine(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what has to be asked for, and bound every test.

    The bound is a mark of its own, then the limit of its kind, then pyproject's.
    """
    if not config.getoption("--broken"):
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("broken")])
        items[:] = [item for item in items if not item.get_closest_marker("broken")]
    for item in items:
        if item.get_closest_marker("timeout"):
            continue
        for marker, seconds in LIMITS.items():
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.timeout(seconds))
