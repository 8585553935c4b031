# SPDX-License-Identifier: GPL-2.0-only
"""The kernel log as numbered records, so that a check can look at its own window of it."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path

from mergelab.host import HostError

ERROR_LEVEL = 3


@dataclass(frozen=True)
class Record:
    """One message: its sequence number, level (0 emergency … 7 debug), microseconds since boot, text."""

    sequence: int
    level: int
    microseconds: int
    text: str


def window(after: int | None = None) -> dict[str, object]:
    """Reads the kernel log.

    Args:
        after: sequence number of the last message already seen; None takes only the position.

    Returns:
        `last`: sequence number of the newest message; `lost`: whether messages after `after` were
        overwritten; `errors`: messages since then of level "error" or worse, or that announce a defect;
        `taint`: the kernel's.
    """
    records = _read()
    last = records[-1].sequence if records else -1
    fresh = [record for record in records if after is not None and record.sequence > after]
    lost = after is not None and after < last and (not records or records[0].sequence > after + 1)
    return {
        "last": last,
        "lost": lost,
        "errors": [asdict(record) for record in fresh if serious(record)],
        "taint": int(Path("/proc/sys/kernel/tainted").read_text(encoding="ascii")),
    }


def serious(record: Record) -> bool:
    """Whether a message is an error or announces a defect of the kernel at a lower level."""
    marks = ("WARNING:", "BUG:", "INFO: task ", "Oops", "Call Trace:", "invoked oom-killer", "Out of memory")
    return record.level <= ERROR_LEVEL or any(mark in record.text for mark in marks)


def parse(message: str) -> Record:
    """Reads one message of /dev/kmsg: `priority,sequence,microseconds,flags[,…];text`."""
    head, _, text = message.partition(";")
    priority, sequence, microseconds = head.split(",")[:3]
    return Record(int(sequence), int(priority) & 7, int(microseconds), text.splitlines()[0] if text else "")


def _read() -> list[Record]:
    records = []
    try:
        log = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise HostError(f"/dev/kmsg may not be read ({error.strerror}): run as root") from None
    try:
        while True:
            try:
                records.append(parse(os.read(log, 8192).decode(errors="replace")))
            except BlockingIOError:
                return records
            except BrokenPipeError:  # overwritten while reading; the next read continues with the oldest left
                records.clear()
    finally:
        os.close(log)
