"""Progress on stderr: bars on a terminal, a line every ten seconds in a log, a line a minute with --json in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from memstore.progress import AnnotatedProgress

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

LINE_INTERVAL_S = 10.0
"""Seconds between two lines if stderr is not a terminal."""
JSON_LINE_INTERVAL_S = 60.0
"""The same with --json, whose caller rarely reads stderr."""


@contextmanager
def show_progress(as_json: bool = False) -> Iterator[AnnotatedProgress]:
    """Show the progress of the enclosed work; with `as_json`, less often if stderr is not a terminal."""
    if sys.stderr.isatty():
        with _bars() as bars:
            yield Bars(bars)
    else:
        yield Lines(JSON_LINE_INTERVAL_S if as_json else LINE_INTERVAL_S)


def _bars() -> RichProgress:
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    return RichProgress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=Console(stderr=True),
        transient=True,
    )


class Bars:
    """One progress bar per stage name."""

    def __init__(self, bars: RichProgress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}
        self._current: TaskID | None = None

    def stage(self, name: str, total: int | None = None) -> None:
        """Continue the bar of this stage; start a new one if its total has changed."""
        task = self._tasks.get(name)
        if task is None:
            task = self._tasks[name] = self._bars.add_task(name, total=total, note="")
        elif self._bars.tasks[task].total != total:
            self._bars.reset(task, total=total)
        self._current = task

    def advance(self, done: int) -> None:
        """Move the bar."""
        if self._current is not None:
            self._bars.advance(self._current, done)

    def note(self, text: str) -> None:
        """Show the text after the bar."""
        if self._current is not None:
            self._bars.update(self._current, note=text)


class Lines:
    """Prints a line every `every` seconds; work that takes less prints nothing."""

    def __init__(self, every: float = LINE_INTERVAL_S) -> None:
        self._every = every
        self._last_print = time.monotonic()
        self._name = ""
        self._note = ""
        self._state: dict[str, tuple[int, int | None]] = {}
        self._stage_start = self._last_print

    def stage(self, name: str, total: int | None = None) -> None:
        """Set the current stage."""
        done, before = self._state.get(name, (0, total))
        if name != self._name:
            self._note, self._stage_start = "", time.monotonic()
        self._name = name
        self._state[name] = (done if before == total else 0, total)

    def advance(self, done: int) -> None:
        """Count, and print a line if one is due."""
        before, total = self._state[self._name]
        now = before + done
        self._state[self._name] = (now, total)
        if time.monotonic() - self._last_print < self._every:
            return
        self._last_print = time.monotonic()
        parts = [f"{now / total:.0%}" if total else f"{now:,}"]
        if self._note:
            parts.append(self._note)
            if total and now:
                parts.append(f"{_duration((self._last_print - self._stage_start) * (total / now - 1))} left")
        print(f"{self._name}: {', '.join(parts)}", file=sys.stderr)

    def note(self, text: str) -> None:
        """Show the text in the next line, with the remaining time."""
        self._note = text


def _duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3.5 h`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"
