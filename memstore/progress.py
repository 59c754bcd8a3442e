"""Progress-reporting protocol: a stage has a name and optionally a total, and advances.

The library calls these methods. The caller decides how progress is shown.
"""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives the progress of a long operation. Calls come from one thread, and stages do not overlap."""

    def stage(self, name: str, total: int | None = None) -> None:
        """Begin a stage. `total` is in the unit that `advance` counts; None if it is unknown.

        A stage with the name and total of an earlier one continues it; with another total it starts again from zero.
        """
        ...

    def advance(self, done: int) -> None:
        """Report that `done` more units of the current stage are complete."""
        ...


class AnnotatedProgress(Progress, Protocol):
    """Progress that also shows a note beside the current stage, such as its speed."""

    def note(self, text: str) -> None:
        """Replace the note."""
        ...


class Silent:
    """Progress that is not shown."""

    def stage(self, name: str, total: int | None = None) -> None:
        """Do nothing."""

    def advance(self, done: int) -> None:
        """Do nothing."""

    def note(self, text: str) -> None:
        """Do nothing."""
