# SPDX-License-Identifier: GPL-2.0-only
"""What somebody who waits for a benchmark sees: a bar on a terminal, a line per run elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from mergelab.benchmark.lines import Line
from mergelab.benchmark.plan import CASES, Plan


class Progress:
    """Shows each run as it begins, and what it costs."""

    def __init__(self, console: Console, plan: Plan) -> None:
        """Know how many runs there are."""
        self._console = console
        self._plan = plan
        self._runs = 0
        self._total = sum(CASES[item.case].runs for item in plan.items) * plan.pairs
        self._bar = Bar(
            TextColumn("[progress.description]{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f} of {task.total:.0f} runs"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Progress:
        """Show the bar."""
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bar away."""
        self._bar.stop()

    @property
    def say(self) -> Callable[[str], None]:
        """Shows a line and leaves it there."""
        return lambda text: self._console.print(f"bench: {text}", markup=False, highlight=False)

    def heard(self, line: Line) -> None:
        """Show what a line says about the state of the work."""
        if line.kind == "run":
            self._runs += 1
            text = f"{line.case} {line.pages * 4 // 1024} MiB, pair {line.pair}, {line.engine}"
            if self._console.is_terminal:
                if self._task is None:
                    self._task = self._bar.add_task("", total=self._total)
                self._bar.update(self._task, completed=self._runs - 1, description=text)
            else:
                self.say(f"run {self._runs} of {self._total}: {text}")
        elif line.kind == "pass" and self._task is not None:
            cost = line.data["cpu_ns"] / line.pages
            self._bar.update(
                self._task,
                description=f"{line.case} {line.pages * 4 // 1024} MiB, pair {line.pair}, {line.engine}: "
                f"pass {line.data['pass']}, {cost:.0f} ns a page",
            )
