# SPDX-License-Identifier: GPL-2.0-only
"""The agent's answers, with a domain that needs no kernel."""

from __future__ import annotations

import errno

import pytest

from mergelab.host import cli, domains, engine


class Fake:
    """A domain whose regions hold what a test says; region 2's process has exited."""

    def __init__(self) -> None:
        """Starts without regions and limits."""
        self.limits: list[int] = []
        self.added = 0

    def add(self, _pid: int, _start: int, _length: int) -> int:
        """Numbers regions as the engine does."""
        self.added += 1
        return self.added

    def stat(self, region: int = 0) -> dict[str, int]:
        """Region 1 is locked memory."""
        if region == 2:
            raise engine.RefusedError(errno.ENOENT, "no such region in the domain")
        stat = dict.fromkeys(engine.STAT_FIELDS[3:], 0)
        return stat | {"pages_registered": 16, "pages_sharing": 3, "skip_locked": 4 if region == 1 else 0}

    def limit(self, unshare_bytes: int) -> None:
        """Remembers what was asked for."""
        self.limits.append(unshare_bytes)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> domains.Registry:
    """An agent's registry with a domain that has three regions."""
    monkeypatch.setattr(domains, "Domain", Fake)
    registry = domains.Registry()
    registry.handle({"verb": "create", "name": "d"})
    for start in (0x1000, 0x2000, 0x3000):
        registry.handle({"verb": "add", "name": "d", "pid": 7, "start": start, "length": 0x1000})
    return registry


def test_stat_says_why_for_each_region(registry: domains.Registry) -> None:
    """Without it nobody can tell which part of a guest keeps the whole from being merged."""
    answer = registry.handle({"verb": "stat", "name": "d"})
    assert isinstance(answer, dict)
    assert answer["not_merged"] == [
        {
            "region": 1,
            "pid": 7,
            "start": 0x1000,
            "length": 0x1000,
            "pages": 16,
            "reasons": {engine.REASONS["skip_locked"]: 4},
        },
        {"region": 3, "pid": 7, "start": 0x3000, "length": 0x1000, "pages": 16, "reasons": {}},
    ]


def test_stat_keeps_its_counters(registry: domains.Registry) -> None:
    """The checks read the counters of the domain by name beside the reasons."""
    answer = registry.handle({"verb": "stat", "name": "d"})
    assert isinstance(answer, dict)
    assert set(answer) == {*engine.STAT_FIELDS[3:], "not_merged"}
    assert answer["pages_sharing"] == 3


def test_limit_reaches_the_domain(registry: domains.Registry) -> None:
    """A limit that is lost on its way lets the host overcommit."""
    registry.handle({"verb": "limit", "name": "d", "unshare_bytes": 4096})
    domain = registry._domains["d"]
    assert isinstance(domain, Fake)
    assert domain.limits == [4096]


@pytest.mark.parametrize(
    ("text", "value"), [("none", 2**64 - 1), ("0", 0), ("0x1000", 4096), ("18446744073709551615", 2**64 - 1)]
)
def test_limit_on_the_command_line(monkeypatch: pytest.MonkeyPatch, text: str, value: int) -> None:
    """0 lets nothing be merged and is not the same as no limit."""
    asked: list[object] = []
    monkeypatch.setattr(domains, "ask", asked.append)
    cli.run(["domain", "limit", "d", text])
    assert asked == [{"verb": "limit", "name": "d", "unshare_bytes": value}]


@pytest.mark.parametrize("text", ["-1", "18446744073709551616", "much"])
def test_bad_limit_is_refused(text: str) -> None:
    """A negative number would become a huge one on its way to the kernel."""
    with pytest.raises(SystemExit):
        cli.run(["domain", "limit", "d", text])
