"""A progress bar for one run: loss, steps per second, time left. Silent where nobody watches."""

from __future__ import annotations

import sys
import time
from typing import Any

REFRESH_SECONDS = 0.2


class Bar:
    """Shows a run's progress on standard error if that is a terminal (or if `show` says so)."""

    def __init__(self, run: Any, session: Any, show: bool | None) -> None:
        self._show = sys.stderr.isatty() if show is None else show
        self._total = session.total_steps
        self._title = f"{session.recipe.task['name']} {session.recipe.model['name']} seed {session.seed}"
        self._bar: Any = None
        self._task: Any = None
        self._next = 0.0

    def __enter__(self) -> Bar:
        if self._show:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed}/{task.total}"),
                TextColumn("loss {task.fields[loss]}"),
                TextColumn("{task.speed:.0f} steps/s", justify="right"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._bar.columns[4].render = _speed
            self._task = self._bar.add_task(self._title, total=self._total, loss="")
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, step: int, loss: float) -> None:
        """The run has finished `step` steps; the last loss was `loss`."""
        if self._bar is None:
            return
        now = time.monotonic()
        if now >= self._next or step == self._total:
            self._next = now + REFRESH_SECONDS
            self._bar.update(self._task, completed=step, loss=f"{loss:.3f}")


def _speed(task: Any) -> Any:
    from rich.text import Text

    return Text(f"{task.speed:.0f} steps/s" if task.speed else "")
