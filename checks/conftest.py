# SPDX-License-Identifier: GPL-2.0-only
"""Fixtures of the checks: the bench of each host, its guests, and claims that are written down."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host  # type: ignore[import-untyped]  # testinfra ships no types

from checks import Guests, Proving, Record
from mergelab.bench import Bench, Claim, Group, Skipped, proving
from mergelab.errors import MergelabError

ORDER = ("test_host", "test_control", "test_merge", "test_unshare", "test_overcommit")
"""A host that is not the one expected, and a bench that cannot fail, are found before anything is proved."""

CHECK_SECONDS = 1800
"""Bound of one check, far above what an emulated host needs; a hang is found sooner, by its call."""


def pytest_configure() -> None:
    """Lets testinfra find ansible-inventory beside this Python, however pytest was started."""
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the sizes of the scenarios."""
    group = parser.getgroup("mergelab")
    group.addoption("--plain", action="store_true", help="plain processes that run stand in for guests")
    group.addoption("--merge-guests", type=int, default=4, help="guests in a merge check (default: 4)")
    group.addoption("--merge-pages", type=int, default=4096, help="pages of each guest in a merge check")
    group.addoption(
        "--density-contents", type=int, default=2, help="different guests' contents in the density check"
    )
    group.addoption(
        "--guests-end", action="store_true", help="guests end behind the checks: do not clear their memory"
    )
    group.addoption(
        "--host-tool", default="/usr/local/sbin/mergelab-host", help="path of mergelab-host on a host"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Orders the checks as ORDER says, and bounds each."""
    items.sort(key=lambda item: ORDER.index(item.path.stem) if item.path.stem in ORDER else -1)
    for item in items:
        item.add_marker(pytest.mark.timeout(CHECK_SECONDS))


@pytest.fixture(scope="session")
def run_dir() -> Path | None:
    """The run directory (MERGELAB_RUN_DIR), or None when checks run on their own and leave no record."""
    path = os.environ.get("MERGELAB_RUN_DIR")
    return Path(path) if path else None


@pytest.fixture(scope="module")
def bench(host: Host, request: pytest.FixtureRequest) -> Bench:
    """The bench of one host."""

    def execute(command: str) -> tuple[int, str, str]:
        done = host.run(f'[ "$(id -u)" = 0 ] || as_root="sudo -n"; $as_root {command}')
        return done.rc, done.stdout, done.stderr

    name = getattr(host.backend, "host", None) or host.backend.get_hostname()
    return Bench(str(name), execute, request.config.getoption("--host-tool"))


@pytest.fixture
def claim(bench: Bench, run_dir: Path | None) -> Proving:
    """Opens claims that are judged and written down when their block ends."""

    @contextmanager
    def opened(check: str, title: str) -> Iterator[Claim]:
        try:
            with proving(bench, check, title, run_dir) as it:
                yield it
        except Skipped as reason:
            pytest.skip(str(reason))

    return opened


@pytest.fixture
def guests(bench: Bench, request: pytest.FixtureRequest) -> Guests:
    """Finds the guests whose payload answers; called inside a claim, to be part of its record."""

    def find() -> Group:
        plain = request.config.getoption("--plain")
        running = bench.do("guest list")[0]
        listed = [entry["name"] for entry in running if entry["payload"] and entry["plain"] == plain]
        if not listed:
            raise MergelabError(
                f"no guest with a payload runs on {bench.name}", "start a batch: playbooks/qualify.yml"
            )
        answers = bench.do(f"guest call {','.join(listed)} info")[0]
        places = {(0 if plain else answer["gpa"], answer["pages"]) for answer in answers}
        if len(places) != 1:
            raise MergelabError(
                f"the guests on {bench.name} have areas of different places or sizes: {sorted(places)}",
                "use guests of one description",
            )
        gpa, pages = places.pop()
        return Group(tuple(listed), gpa, pages)

    return find


@pytest.fixture
def merge_guests(request: pytest.FixtureRequest) -> int:
    """Guests in a merge check."""
    return int(request.config.getoption("--merge-guests"))


@pytest.fixture
def merge_pages(request: pytest.FixtureRequest) -> int:
    """Pages of each guest in a merge check."""
    return int(request.config.getoption("--merge-pages"))


@pytest.fixture
def density_contents(request: pytest.FixtureRequest) -> int:
    """How many different contents the guests of the density check hold."""
    return int(request.config.getoption("--density-contents"))


@pytest.fixture
def guests_end(request: pytest.FixtureRequest) -> bool:
    """Whether the guests are ended behind the checks, so that nobody needs their memory given back."""
    return bool(request.config.getoption("--guests-end"))


@pytest.fixture
def record(run_dir: Path | None) -> Record:
    """Reads a file of the run directory that an earlier phase wrote.

    Raises:
        Skipped: There is no run directory, or the phase did not write it.
    """

    def read(name: str) -> dict[str, Any]:
        if run_dir is None or not (run_dir / name).is_file():
            raise Skipped(f"the run has no {name} to compare with: deploy first, or set MERGELAB_RUN_DIR")
        value: dict[str, Any] = json.loads((run_dir / name).read_text(encoding="utf-8"))
        return value

    return read
