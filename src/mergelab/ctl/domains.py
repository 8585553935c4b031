# SPDX-License-Identifier: GPL-2.0-only
"""The domains that the agent of this host holds, and why memory in them is not merged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mergelab.ctl import status
from mergelab.host import HostError
from mergelab.host.domains import ask
from mergelab.host.engine import REASONS


def gather(names: Sequence[str] = (), ask: Callable[[dict[str, Any]], object] = ask) -> list[dict[str, Any]]:
    """Returns the agent's domains, or the named ones, with their regions and reasons.

    Raises:
        HostError: No agent, or it has no such domain.
    """
    answer = ask({"verb": "describe"})
    if not isinstance(answer, list):
        raise HostError("the agent's answer is not one: restart it after an update (mergelab-agent.service)")
    found = {item["domain"]: item for item in answer}
    for name in names:
        if name not in found:
            known = " ".join(found) or "none"
            raise HostError(f"the agent holds no domain '{name}'; it holds: {known}")
    return [_domain(found[name]) for name in names or found]


def why_not(stat: Mapping[str, int]) -> list[dict[str, str | int]]:
    """Returns what holds pages back, most pages first; an unknown reason keeps its field's name."""
    counts = {
        name: stat[name] for name in stat if (name in REASONS or name.startswith("skip_")) and stat[name]
    }
    return [
        {"field": name, "reason": REASONS.get(name, name), "pages": pages}
        for name, pages in sorted(counts.items(), key=lambda item: -item[1])
    ]


def _domain(item: dict[str, Any]) -> dict[str, Any]:
    stat = item["stat"]
    return {
        "domain": item["domain"],
        "pages_registered": stat["pages_registered"],
        "pages_shared": stat["pages_shared"],
        "pages_sharing": stat["pages_sharing"],
        "pages_mapped_zero": stat["pages_mapped_zero"],
        "saved_bytes": status.saved_bytes(stat["pages_sharing"], stat["pages_mapped_zero"]),
        "metadata_bytes": stat["metadata_bytes"],
        "unshare_demand": stat["unshare_demand"],
        "passes": stat["passes"],
        "why_not": why_not(stat),
        "regions": [_region(region) for region in item["regions"]],
    }


def _region(item: dict[str, Any]) -> dict[str, Any]:
    stat = item["stat"]
    region = {key: item.get(key) for key in ("region", "pid", "guest", "start", "length")}
    if stat is None:
        return region | {"gone": True}
    return region | {
        "gone": False,
        "pages_registered": stat["pages_registered"],
        "pages_mapped_shared": stat["pages_mapped_shared"],
        "pages_mapped_zero": stat["pages_mapped_zero"],
        "passes": stat["passes"],
        "why_not": why_not(stat),
    }
