# SPDX-License-Identifier: GPL-2.0-only
"""What the engine does and what it saves, in one look; and every file with its meaning."""

from __future__ import annotations

from collections.abc import Sequence

from mergelab.ctl.files import FILES
from mergelab.ctl.module import Module, Value
from mergelab.host import memory
from mergelab.host.pages import PAGE

STATES = {0: "stopped", 1: "running", 2: "stopped, everything unshared"}


def gather(module: Module) -> dict[str, object]:
    """Returns the state of the engine; sizes are bytes, what this module does not have is None.

    Raises:
        NotLoadedError: The module is not there.
    """
    module.require()
    run = module.number("run")
    pages = module.numbers(
        "pages_shared", "pages_sharing", "pages_mapped_zero", "pages_unshared", "pages_volatile"
    )
    metadata = module.number("metadata_bytes")
    saved = saved_bytes(pages["pages_sharing"], pages["pages_mapped_zero"])
    return {
        "module": {"loaded": True, **module.facts()},
        "engine": module.read("engine") if "engine" in module.names() else None,
        "scanner": {
            "run": run,
            "state": None if run is None else STATES.get(run, str(run)),
            "thread": module.number("scanner_pid"),
        },
        **module.numbers("domains", "regions"),
        "saved_bytes": saved,
        "metadata_bytes": metadata,
        "net_bytes": None if saved is None or metadata is None else saved - metadata,
        "pages": pages,
        "scanning": _scanning(module),
        "unsharing": unsharing(module),
        "changed": changed(module),
    }


def saved_bytes(sharing: int | None, zero: int | None) -> int | None:
    """Returns what pages that share a merged page, or map the zero page, do not take."""
    return None if sharing is None else (sharing + (zero or 0)) * PAGE


def unsharing(module: Module) -> dict[str, int | bool | None]:
    """Returns what unsharing everything would take, what the host could give, and whether that is enough.

    What it could give is what the module says, or else memory that is available and free swap.
    """
    demand, supply = module.number("unshare_demand"), module.number("unshare_supply")
    if supply is None:
        free = memory.meminfo(str(module.proc / "meminfo"))
        supply = free["MemAvailable"] + free["SwapFree"]
    return {
        "demand_bytes": demand,
        "supply_bytes": supply,
        "covered": None if demand is None else demand <= supply,
    }


def changed(module: Module) -> dict[str, dict[str, Value]]:
    """Returns the tunables that differ from a fresh module's, without the states that status has anyway."""
    found: dict[str, dict[str, Value]] = {}
    for name in module.names():
        default = FILES[name].default if name in FILES else None
        if default is not None and name not in ("run", "engine") and (now := module.read(name)) != default:
            found[name] = {"value": now, "default": default}
    return found


def show(module: Module, names: Sequence[str] = ()) -> dict[str, dict[str, object]]:
    """Returns every file, or the named ones, with what is known of it.

    Raises:
        HostError: A named one is not there.
    """
    return {name: _described(module, name) for name in names or module.names()}


def _described(module: Module, name: str) -> dict[str, object]:
    value, file = module.read(name), FILES.get(name)
    choices = module.choices(name)
    if file is None:
        writable = bool((module.files / name).stat().st_mode & 0o222)
        return {
            "value": value,
            "access": "rw" if writable else "r",
            "default": None,
            "allowed": " ".join(choices) or None,
            "unit": "",
            "meaning": None,
        }
    return {
        "value": value,
        "access": "rw" if file.writable else "r",
        "default": file.default,
        "allowed": " ".join(choices) or (file.allowed if file.writable else None),
        "unit": file.unit,
        "meaning": file.meaning,
    }


def _scanning(module: Module) -> dict[str, float | int | None]:
    scanned, ns = module.number("pages_scanned"), module.number("scan_cpu_ns")
    return {
        "pages": scanned,
        "passes": module.number("full_scans"),
        "cpu_seconds": None if ns is None else ns / 1e9,
        "cpu_us_per_page": ns / 1e3 / scanned if ns is not None and scanned else None,
        "sleep_millisecs": module.number("sleep_millisecs"),
        "pages_to_scan": module.number("pages_to_scan"),
    }
