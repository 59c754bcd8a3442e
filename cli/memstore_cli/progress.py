"""How long work shows: bars on a terminal, now and then a line in a log, nothing where nobody reads.

Everything goes to stderr. All three are a `memstore.progress.AnnotatedProgress`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from memstore.progress import AnnotatedProgress, Silent

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

LINE_EVERY = 10.0
"""Seconds between two lines where no bar can be drawn."""


@contextmanager
def watched(as_json: bool = False) -> Iterator[AnnotatedProgress]:
    """Show the progress of what runs inside; with JSON wanted, only to a person at a terminal."""
    if sys.stderr.isatty():
        with _bars() as bars:
            yield Bars(bars)
    elif as_json:
        yield Silent()
    else:
        yield Lines()


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
    """One bar a stage name."""

    def __init__(self, bars: RichProgress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}
        self._current: TaskID | None = None

    def stage(self, name: str, total: int | None = None) -> None:
        """Show the bar of this stage: where it stood, or from the start where that was something else."""
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
        """Write it behind the bar."""
        if self._current is not None:
            self._bars.update(self._current, note=text)


class Lines:
    """A line every ten seconds; work that is shorter says nothing."""

    def __init__(self, every: float = LINE_EVERY) -> None:
        self._every = every
        self._said = time.monotonic()
        self._name = ""
        self._note = ""
        self._state: dict[str, tuple[int, int | None]] = {}
        self._began = self._said

    def stage(self, name: str, total: int | None = None) -> None:
        """Note what is being done."""
        done, before = self._state.get(name, (0, total))
        if name != self._name:
            self._note, self._began = "", time.monotonic()
        self._name = name
        self._state[name] = (done if before == total else 0, total)

    def advance(self, done: int) -> None:
        """Count, and say so when it is time."""
        before, total = self._state[self._name]
        now = before + done
        self._state[self._name] = (now, total)
        if time.monotonic() - self._said < self._every:
            return
        self._said = time.monotonic()
        parts = [f"{now / total:.0%}" if total else f"{now:,}"]
        if self._note:
            parts.append(self._note)
            if total and now:
                parts.append(f"{_duration((self._said - self._began) * (total / now - 1))} left")
        print(f"{self._name}: {', '.join(parts)}", file=sys.stderr)

    def note(self, text: str) -> None:
        """Say it in the next line, and how long it will take."""
        self._note = text


def _duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3.5 h`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"
