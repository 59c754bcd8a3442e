"""Values that take seconds to compute: made in a background thread, and shown with their age.

A page must not wait for them, and must not compute them again at every visit: a value is computed at most once at a
time, and again only when someone asks and the last one is older than a multiple of the time that it took.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from memstore_rl.inspector.failures import sentence_of

Value = TypeVar("Value")

FRESH_S = 5.0
"""Seconds that a value stays at least."""
SHARE = 20.0
"""A value stays this many times as long as it took, so that it takes at most a twentieth of a core."""


@dataclass(frozen=True)
class Computed(Generic[Value]):
    """A value and its age; None as long as there is none."""

    value: Value | None
    age_s: float
    running: bool
    failure: str | None
    """Why the latest attempt failed, in one sentence."""


class Recurring(Generic[Value]):
    """A value that is computed in the background when somebody asks for it. Thread-safe."""

    def __init__(self, compute: Callable[[], Value], name: str) -> None:
        self._compute, self._name = compute, name
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._value: Value | None = None
        self._failure: str | None = None
        self._running = False
        self._at = self._took = 0.0

    def get(self, wait_s: float) -> Computed[Value]:
        """The value; waits for the first one, but no longer than `wait_s` seconds."""
        with self._lock:
            now = time.monotonic()
            stale = self._value is None or now - self._at > max(FRESH_S, SHARE * self._took)
            if stale and not self._running:
                self._running = True
                self._done.clear()
                threading.Thread(target=self._run, name=f"memstore-{self._name}", daemon=True).start()
            has_value = self._value is not None
        if not has_value:
            self._done.wait(wait_s)
        with self._lock:
            return Computed(self._value, time.monotonic() - self._at, self._running, self._failure)

    def _run(self) -> None:
        started, value, failure = time.monotonic(), None, None
        try:
            value = self._compute()
        except Exception as error:
            shown = "it could not be computed because of a bug; the log has the details"
            failure = sentence_of(error, logged=f"{self._name} could not be computed because of a bug", shown=shown)
        with self._lock:
            if value is not None:
                self._value, self._at = value, time.monotonic()
            self._failure, self._running, self._took = failure, False, time.monotonic() - started
        self._done.set()
