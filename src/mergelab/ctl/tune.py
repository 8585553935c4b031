# SPDX-License-Identifier: GPL-2.0-only
"""Sets tunables all or none, starts and stops the scanner, unmerges, and chooses the machine's engine."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping, Sequence

from mergelab.ctl import status
from mergelab.ctl.files import FILES
from mergelab.ctl.module import Module, Value
from mergelab.figures import size
from mergelab.host import HostError, memory

Changes = dict[str, dict[str, Value]]
"""For each file its `old` and `new` value."""

Progress = Callable[[int, int], None]
"""Is told how many pages have been given their own copy, and of how many."""

STOP, RUN, UNMERGE = 0, 1, 2
_FACTORS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def parse(module: Module, assignments: Sequence[str]) -> dict[str, Value]:
    """Turns `FILE=VALUE` words into values that the module will take, as far as that can be known.

    Raises:
        HostError: One is no assignment, names no tunable, is given twice, or its value is not allowed.
    """
    values: dict[str, Value] = {}
    for word in assignments:
        name, equals, text = word.partition("=")
        if not equals or not name or not text:
            raise HostError(f"'{word}' is not FILE=VALUE, such as sleep_millisecs=20")
        if name in values:
            raise HostError(f"{name} is given twice")
        values[name] = _checked(module, name, text)
    return values


def apply(module: Module, values: Mapping[str, Value]) -> Changes:
    """Writes all values, `run` last, or none: what was written before a failure is put back.

    Raises:
        HostError: A value was refused; says what, if anything, could not be put back.
    """
    names = sorted(values, key=lambda name: name == "run")
    changes = {name: {"old": module.read(name), "new": values[name]} for name in names}
    touched: list[str] = []
    try:
        for name in names:
            touched.append(name)
            module.write(name, values[name])
            shown = module.read(name)
            if shown != values[name] and _stays(module, name):
                raise HostError(
                    f"{name} was set to {values[name]} but shows {shown}: someone else changes it"
                )
            changes[name]["new"] = shown
    except BaseException as error:
        lost = _put_back(module, {name: changes[name]["old"] for name in reversed(touched)})
        if isinstance(error, HostError):
            rest = f"; could not be put back: {' '.join(lost)}" if lost else "; all have their old values"
            raise HostError(f"{error}{rest}") from None
        raise
    return changes


def unmerge(
    module: Module, progress: Progress, force: bool = False, interval: float = 0.5
) -> dict[str, object]:
    """Stops the scanner and gives every merged page its own copy.

    The write to `run` lasts until that is done, and ends early when this process does. The engine's own
    counters may have to wait for a domain that is being unmerged, so progress is what the kernel counts:
    copies of merged pages, whoever asked for them.

    Args:
        module: the module.
        progress: is told every `interval` seconds.
        force: even if the host does not seem to have the memory.
        interval: seconds.

    Raises:
        HostError: Not enough memory, not without `force`; or it failed half-way, then the scanner is stopped.
    """
    before = module.numbers("pages_shared", "pages_sharing", "pages_mapped_zero")
    demand = status.unsharing(module)
    needed = max(
        demand["demand_bytes"] or 0,
        status.saved_bytes(before["pages_sharing"], before["pages_mapped_zero"]) or 0,
    )
    supply = demand["supply_bytes"] or 0
    if needed > supply and not force:
        raise HostError(
            f"unsharing everything takes {size(needed)} and the host can give {size(supply)} of memory and"
            " swap: add swap, move or stop guests, or risk it with --force"
        )
    failures: list[HostError] = []
    writer = threading.Thread(target=_write_run, args=(module, failures), daemon=True)
    start, total = _copies(module), sum(count or 0 for count in before.values())
    writer.start()
    while True:
        writer.join(interval)
        progress(min(_copies(module) - start, total), total)
        if not writer.is_alive():
            break
    left = module.number("pages_sharing") or 0
    if failures:
        raise HostError(f"{failures[0]}; {left} pages still share, the scanner is stopped")
    if left:
        raise HostError(
            f"{left} pages still share: processes forked from merged ones hold them, or a program scans its"
            " own domain; they are copied when they are written, or repeat once that has ended"
        )
    return {
        "run": module.number("run"),
        "pages_sharing": {"old": before["pages_sharing"], "new": left},
        "pages_mapped_zero": {"old": before["pages_mapped_zero"], "new": module.number("pages_mapped_zero")},
    }


def engine(module: Module, wanted: str | None) -> dict[str, object]:
    """Returns the machine's engine and the others there are; chooses one if it is named.

    Raises:
        HostError: This module has no such file, or there is no such engine.
    """
    if "engine" not in module.names():
        raise HostError(
            "this version of the module has no file 'engine': madvise() and prctl() reach KSM alone, and"
            " memmerge is reached through /dev/memmerge"
        )
    now, choices = module.read("engine"), module.choices("engine")
    if wanted is None:
        return {"engine": now, "choices": choices}
    change = apply(module, parse(module, [f"engine={wanted}"]))["engine"]
    return {"engine": change["new"], "old": change["old"], "choices": choices}


def _checked(module: Module, name: str, text: str) -> Value:
    """Returns the value to write; that of a file that is not known is left to the module."""
    module.read(name)  # names what there is when it is not there
    file, choices = FILES.get(name), module.choices(name)
    if choices:
        if text not in choices:
            raise HostError(f"{name} cannot be '{text}'; allowed: {' '.join(choices)}")
        return text
    if file is None:
        return int(text) if text.isascii() and text.isdigit() else text
    if not file.writable:
        tunables = " ".join(each for each in module.names() if each in FILES and FILES[each].writable)
        raise HostError(f"{name} is a counter, only to be read; can be set: {tunables}")
    factor = _FACTORS.get(text[-1].upper(), 1) if file.unit == "bytes" else 1
    digits = text[:-1] if factor > 1 else text
    if not re.fullmatch("-?[0-9]+", digits) or not file.permits(int(digits) * factor):
        unit = f" {file.unit}" if file.unit and not file.resets else ""
        raise HostError(f"{name} cannot be '{text}'; allowed: {file.allowed}{unit}")
    return int(digits) * factor


def _stays(module: Module, name: str) -> bool:
    """Whether a file shows what was written to it, until another is written."""
    return not FILES[name].resets if name in FILES else bool(module.choices(name))


def _put_back(module: Module, values: Mapping[str, Value]) -> list[str]:
    """Writes old values; returns the names of the files that do not take theirs."""
    lost = []
    for name, old in values.items():
        try:
            if module.read(name) != old:
                module.write(name, old)
        except HostError:
            lost.append(name)
    return lost


def _write_run(module: Module, failures: list[HostError]) -> None:
    try:
        module.write("run", UNMERGE)
    except HostError as error:
        failures.append(error)


def _copies(module: Module) -> int:
    """Returns how many copies of merged pages the kernel has made for writers and for unsharing."""
    return memory.vmstat(("cow_ksm",), str(module.proc / "vmstat")).get("cow_ksm", 0)
