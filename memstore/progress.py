"""How long work tells of itself: a stage has a name and, where it is known, a total; then it advances.

The library only calls; what is drawn, and where, is the caller's affair.
"""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives the progress of long work. Calls come from one thread, stages one after the other."""

    def stage(self, name: str, total: int | None = None) -> None:
        """A new stage begins; `total` is in the unit that `advance` counts, None where it is not known.

        A name that was there before continues where it stood if its total is the same, and starts anew if not.
        """
        ...

    def advance(self, done: int) -> None:
        """`done` more of the current stage."""
        ...


class AnnotatedProgress(Progress, Protocol):
    """A progress that also shows a word beside the current stage: how fast it goes, say."""

    def note(self, text: str) -> None:
        """Show this in place of what was noted before."""
        ...


class Silent:
    """Progress that nobody watches."""

    def stage(self, name: str, total: int | None = None) -> None:
        """Do nothing."""

    def advance(self, done: int) -> None:
        """Do nothing."""

    def note(self, text: str) -> None:
        """Do nothing."""
