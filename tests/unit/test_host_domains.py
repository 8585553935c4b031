# SPDX-License-Identifier: GPL-2.0-only
"""What the agent tells of its domains; a stand-in answers for the device."""

from __future__ import annotations

import errno
import fcntl
import os

import pytest

from mergelab.host import HostError, domains, engine


class Device:
    """Answers MEMMERGE_ADD_REGION and MEMMERGE_STAT; the regions in `gone` have gone."""

    def __init__(self) -> None:
        """Has no regions."""
        self.regions = 0
        self.gone: dict[int, int] = {}

    def ioctl(self, _: int, request: int, argument: bytearray) -> int:
        """Fills the argument as the module would: a region has ten times its number of pages unshared."""
        if request == engine.ADD_REGION:
            self.regions += 1
            *fields, _id = engine.REGION_STRUCT.unpack(argument)
            argument[:] = engine.REGION_STRUCT.pack(*fields, self.regions)
            return 0
        assert request == engine.STAT
        size, flags, number, *fields = engine.STAT_STRUCT.unpack(argument)
        assert (size, flags) == (engine.STAT_STRUCT.size, 0)
        if number in self.gone:
            raise OSError(self.gone[number], os.strerror(self.gone[number]))
        fields[engine.STAT_FIELDS.index("pages_unshared") - 3] = number * 10
        argument[:] = engine.STAT_STRUCT.pack(size, flags, number, *fields)
        return 0


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    """The device, which every domain opens."""
    stand_in = Device()
    monkeypatch.setattr(engine, "DEVICE", os.devnull)
    monkeypatch.setattr(fcntl, "ioctl", stand_in.ioctl)
    return stand_in


@pytest.fixture
def registry(device: Device) -> domains.Registry:
    """An agent's domains: two, one with two regions."""
    assert device.regions == 0
    held = domains.Registry()
    for name in ("b", "a"):
        held.handle({"verb": "create", "name": name})
    region = {"verb": "add", "name": "a", "pid": os.getpid(), "length": 8192}
    held.handle(region | {"start": 0x1000, "guest": "web1"})
    held.handle(region | {"start": 0x9000})
    return held


def test_describe_has_each_region_s_own_figures(registry: domains.Registry) -> None:
    """Figures of the whole domain beside a region would blame it for the others' pages."""
    answer = registry.handle({"verb": "describe"})
    assert isinstance(answer, list)
    assert [item["domain"] for item in answer] == ["a", "b"]
    regions = answer[0]["regions"]
    assert [(each["region"], each["start"], each.get("guest")) for each in regions] == [
        (1, 0x1000, "web1"),
        (2, 0x9000, None),
    ]
    assert [item["stat"]["pages_unshared"] for item in (answer[0], *regions)] == [0, 10, 20]
    assert answer[1]["regions"] == []


def test_describe_tells_a_region_that_has_gone(registry: domains.Registry, device: Device) -> None:
    """Its process has exited; the others are described all the same."""
    device.gone[1] = errno.ENOENT
    answer = registry.handle({"verb": "describe"})
    assert isinstance(answer, list)
    assert [region["stat"] is None for region in answer[0]["regions"]] == [True, False]


def test_describe_does_not_take_another_error_for_that(registry: domains.Registry, device: Device) -> None:
    """A request that the module does not know is no region that has gone."""
    device.gone[1] = errno.ENOTTY
    with pytest.raises(HostError, match="ENOTTY: the loaded module does not know this request"):
        registry.handle({"verb": "describe"})


def test_list_is_as_it_was(registry: domains.Registry) -> None:
    """Describing leaves nothing in what is remembered of a region."""
    registry.handle({"verb": "describe"})
    listed = registry.handle({"verb": "list"})
    assert isinstance(listed, list)
    assert set(listed[0]["regions"][0]) == {"region", "pid", "start", "length", "guest"}
