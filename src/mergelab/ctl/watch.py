# SPDX-License-Identifier: GPL-2.0-only
"""What the engine does per second: differences of its counters between two looks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from mergelab.ctl import status
from mergelab.ctl.module import Module

RATES = {
    "scanned_per_s": "pages_scanned",
    "merged_per_s": "pages_merged",
    "zeroed_per_s": "pages_zeroed",
    "unshared_per_s": "pages_unshared_total",
}

Row = dict[str, float | int | None]


def rows(
    module: Module,
    interval: float,
    count: int | None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Row]:
    """Yields a row every `interval` seconds, `count` of them or without end.

    A rate is None where the module lacks the counter, or was loaded anew in between.

    Raises:
        NotLoadedError: The module is not there, or was removed meanwhile.
    """
    before, then = _look(module), clock()
    due = then
    while count is None or count > 0:
        due = max(due + interval, clock())
        sleep(max(due - clock(), 0))
        after, now = _look(module), clock()
        yield _row(before, after, now - then)
        before, then = after, now
        count = None if count is None else count - 1


def _look(module: Module) -> dict[str, int | None]:
    return module.numbers(
        *RATES.values(), "scan_cpu_ns", "pages_sharing", "pages_mapped_zero", "pages_shared"
    )


def _row(before: dict[str, int | None], after: dict[str, int | None], seconds: float) -> Row:
    def rate(name: str) -> float | None:
        old, new = before[name], after[name]
        return None if old is None or new is None or new < old else (new - old) / seconds

    cpu = rate("scan_cpu_ns")
    saved = status.saved_bytes(after["pages_sharing"], after["pages_mapped_zero"])
    old = status.saved_bytes(before["pages_sharing"], before["pages_mapped_zero"])
    return {
        "time": time.time(),
        "seconds": seconds,
        **{key: rate(name) for key, name in RATES.items()},
        "saved_bytes": saved,
        "saved_change_bytes": None if saved is None or old is None else saved - old,
        "pages_shared": after["pages_shared"],
        "cpu_percent": None if cpu is None else cpu / 1e7,
    }
