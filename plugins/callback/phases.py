# SPDX-License-Identifier: GPL-2.0-only
"""Say when each play begins and ends, and close the run with a table of times.

An addition to whichever callback prints the tasks. With MERGELAB_RUN_DIR set,
the times are also kept in logs/phases.json of the run directory.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: phases
type: aggregate
short_description: Time per play
description:
  - Prints the elapsed time at the start of each play and a table at the end.
"""


class CallbackModule(CallbackBase):  # type: ignore[misc] # its base class is untyped
    """Time per play."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "phases"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, display: Any = None, options: Any = None) -> None:
        """Start the clock."""
        super().__init__(display=display, options=options)
        self._began = time.monotonic()
        self._phases: list[tuple[str, float]] = []

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """Note the play and when it began, in seconds since the run's begin."""
        now = time.monotonic() - self._began
        self._phases.append((play.get_name().strip(), now))
        self._display.display(
            f"[{_clock(now)}] phase {len(self._phases)}: {self._phases[-1][0]}", color="bright blue"
        )

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Print the table; keep it beside the run."""
        del stats
        end = time.monotonic() - self._began
        ends = [begin for _, begin in self._phases[1:]] + [end]
        rows: list[dict[str, Any]] = [
            {"phase": name, "seconds": round(stop - begin, 1)}
            for (name, begin), stop in zip(self._phases, ends, strict=True)
        ]
        self._display.display("\nTime per phase", color="bright blue")
        for row in rows:
            self._display.display(f"  {_clock(row['seconds']):>8}  {row['phase']}")
        self._display.display(f"  {_clock(end):>8}  in all")
        run_dir = os.environ.get("MERGELAB_RUN_DIR")
        if run_dir:
            path = Path(run_dir, "logs", "phases.json")
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(".part")
            part.write_text(json.dumps({"seconds": round(end, 1), "phases": rows}, indent=1) + "\n")
            part.replace(path)


def _clock(seconds: float) -> str:
    """Minutes and seconds, as 3:07."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}"
