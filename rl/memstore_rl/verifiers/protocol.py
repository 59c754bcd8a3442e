"""The `Verifier` protocol: decides whether an answer is right, or reports why it cannot.

A verifier takes a batch of attempts and returns a verdict for each, in order. It enforces its own time limit, works in
any thread, and never raises because of what a policy wrote. An attempt that cannot be judged because of its gold answer
gets the reward None with a one-sentence reason; one that cannot be judged because of the answer gets 0 with a reason.
Treat everything that a policy wrote as hostile input.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from memstore.errors import MemstoreError

_QUOTED = 60
"""Characters of a gold answer that a reason quotes."""


class VerifierError(MemstoreError):
    """A verifier does not keep its contract: an invalid reward, or the end of its thread."""


class Attempt(NamedTuple):
    """An answer to verify, with its gold answer."""

    query: str
    """The query's text, which holds the options of a choice or the signature of a program."""
    gold: str
    """The reference answer or tests, not blank."""
    answer: str
    """The answer that the splitter extracted from the response; "" if it found none."""


class Verdict(NamedTuple):
    """The result of verifying one attempt."""

    reward: float | None
    """0..1; None if the attempt could not be judged."""
    reason: str | None = None
    """Why it could not be judged, or why an answer that could not be judged is wrong; one sentence."""


class Verifier(Protocol):
    """Verifies attempts of one domain. Thread-safe."""

    def check(self, attempts: Sequence[Attempt]) -> list[Verdict]:
        """Return a verdict for each attempt, in order."""
        ...

    def close(self) -> None:
        """Release processes; calling it again does nothing."""
        ...


def quoted(text: str) -> str:
    """Quote a text for a reason, shortened if it is long."""
    return repr(text if len(text) <= _QUOTED else text[:_QUOTED] + "…")
