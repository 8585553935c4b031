# SPDX-License-Identifier: GPL-2.0-only
"""Telemetry: one JSON object per sample; what could not be read is absent, never zero."""

from __future__ import annotations

import json
import os
import select
import sys
import time
from pathlib import Path

from mergelab.host import HostError, engine, guests, memory

VMSTAT = ("cow_ksm", "pswpin", "pswpout", "pgmajfault", "oom_kill", "nr_free_pages", "nr_anon_pages")


def take() -> dict[str, object]:
    """Takes one sample now; see docs/architecture.md for its keys. Sizes are bytes, times seconds."""
    sample: dict[str, object] = {"t": time.time(), "host": os.uname().nodename}
    counters = engine.read_all()
    if counters:
        sample["engine"] = counters
    sample["meminfo"] = memory.meminfo()
    psi = memory.pressure()
    if psi:
        sample["psi"] = psi
    cpu = scanner_cpu(counters.get("scanner_pid", 0))
    if cpu is not None:
        sample["scanner_cpu_s"] = cpu
    sample["vmstat"] = memory.vmstat(VMSTAT)
    sample["guests"] = guest_sizes()
    return sample


def scanner_cpu(thread: int) -> float | None:
    """Returns the CPU seconds of the engine's scanner thread, or None when there is none."""
    if thread <= 0:
        return None
    try:
        fields = Path(f"/proc/{thread}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / float(os.sysconf("SC_CLK_TCK"))


def guest_sizes() -> dict[str, dict[str, int]]:
    """Returns resident and proportional size of every guest and plain process that still runs."""
    sizes = {}
    for name, pid in sorted(guests.running().items()):
        try:
            fields = memory.rollup(pid)
        except HostError:
            continue
        wanted = ("rss", "pss", "pss_anon")
        sizes[name] = {key: fields[key] for key in wanted if key in fields}
    return sizes


def stream(interval: float) -> None:
    """Prints a sample every `interval` seconds until standard input closes or nobody reads any more."""
    due = time.monotonic()
    try:
        while True:
            sys.stdout.write(json.dumps(take(), separators=(",", ":")) + "\n")
            sys.stdout.flush()
            due = max(due + interval, time.monotonic())
            if _input_closed(due):
                return
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _input_closed(until: float) -> bool:
    """Waits until the given monotonic time; True as soon as standard input ends."""
    while True:
        ready, _, _ = select.select([0], [], [], max(until - time.monotonic(), 0))
        if not ready:
            return False
        if not os.read(0, 4096):
            return True
