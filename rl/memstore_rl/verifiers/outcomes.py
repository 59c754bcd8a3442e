"""Keeps outcomes by digest, so that copies of an answer or a program are judged once."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from typing import Generic, TypeVar

Outcome = TypeVar("Outcome")

MAX_OUTCOMES = 65_536
"""Outcomes that are kept at most."""


class OutcomeCache(Generic[Outcome]):
    """The most recently used outcomes, by the digest of what was judged. Thread-safe."""

    def __init__(self, max_outcomes: int = MAX_OUTCOMES) -> None:
        self._outcomes: OrderedDict[bytes, Outcome] = OrderedDict()
        self._max_outcomes = max_outcomes
        self._lock = threading.Lock()

    def get(self, key: bytes) -> Outcome | None:
        """Return the outcome of a digest; None if there is none."""
        with self._lock:
            if key in self._outcomes:
                self._outcomes.move_to_end(key)
            return self._outcomes.get(key)

    def put(self, key: bytes, outcome: Outcome) -> None:
        """Keep an outcome, dropping the least recently used ones beyond the maximum."""
        with self._lock:
            self._outcomes[key] = outcome
            while len(self._outcomes) > self._max_outcomes:
                self._outcomes.popitem(last=False)


def digest(*parts: str) -> bytes:
    """Return the digest of texts, each with its length."""
    hashed = hashlib.blake2b(digest_size=16)
    for part in parts:
        encoded = part.encode("utf-8", "surrogatepass")
        hashed.update(b"%d:" % len(encoded) + encoded)
    return hashed.digest()
