"""Who labels which query: a lease for each, so that people who label at the same time do not meet the same query.

A lease ends when its holder takes another query, or after a time without action. It is kept in the process: after a
restart nobody holds one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

LEASE_S = 600.0
"""Seconds without action after which another person may take the query."""


@dataclass
class _Lease:
    person: str
    since: float
    until: float


class Leases:
    """Leases of queries. Thread-safe."""

    def __init__(self, seconds: float = LEASE_S, now: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._now = seconds, now
        self._lock = threading.Lock()
        self._of: dict[str, _Lease] = {}

    def take(self, person: str, query: str) -> bool:
        """Take or renew the lease of a query, and end the person's others; False if another person holds it."""
        with self._lock:
            now, held = self._now(), self._of.get(query)
            if held is not None and held.person != person and held.until > now:
                return False
            since = held.since if held is not None and held.person == person else now
            self._of = {name: one for name, one in self._of.items() if one.person != person}
            self._of[query] = _Lease(person, since, now + self._seconds)
            return True

    def release(self, person: str) -> None:
        """End the lease of a person."""
        with self._lock:
            self._of = {name: one for name, one in self._of.items() if one.person != person}

    def query_of(self, person: str) -> str | None:
        """The query that a person holds."""
        with self._lock:
            return next((name for name, one in self._of.items() if one.person == person), None)

    def take_seconds(self, person: str, query: str) -> float | None:
        """Seconds since a person took the query, or since the last call; None without a lease."""
        with self._lock:
            held = self._of.get(query)
            if held is None or held.person != person:
                return None
            now, since = self._now(), held.since
            held.since = now
            return now - since
