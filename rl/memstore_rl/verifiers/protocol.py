"""What a verifier is: it says whether an answer is right, or that it cannot say.

A verifier is handed many attempts at once and gives a verdict for each, in their order. It holds its own time limit,
works in any thread, and never raises because of what a policy wrote: an attempt that cannot be judged has the
verdict None with a sentence. What a policy wrote is hostile text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

_QUOTED = 60
"""Characters of a gold that a reason repeats."""


class Attempt(NamedTuple):
    """An answer and what it is held against."""

    query: str
    """The query's text: options of a choice, signature of a program."""
    gold: str
    """The reference answer or tests, not blank."""
    answer: str
    """As the one splitter read it out of the response; "" where it read none."""


class Verdict(NamedTuple):
    """What a verifier says of one attempt."""

    reward: float | None
    """0..1; None: it cannot say."""
    reason: str | None = None
    """Why it cannot say, as one sentence; None with a reward."""


class Verifier(Protocol):
    """Judges attempts of one domain. May be called from several threads at once."""

    def check(self, attempts: Sequence[Attempt]) -> list[Verdict]:
        """A verdict for each attempt, in their order."""
        ...

    def close(self) -> None:
        """Let go of processes; calling it again does nothing."""
        ...


def quoted(text: str) -> str:
    """A text as a reason repeats it."""
    return repr(text if len(text) <= _QUOTED else text[:_QUOTED] + "…")
