"""Values that take seconds to compute: made in a background thread, and shown with their age.

A page must not wait for them, and must not compute them again at every visit: a value is computed at most once at a
time, and again only when someone asks, what it was made from has changed, and it is older than a multiple of the time
that it took.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Generic, TypeVar

from memstore_rl.inspector.failures import sentence_of

Value = TypeVar("Value")

FRESH_S = 5.0
"""Seconds that a value stays at least."""
MINUTE_S = 60
SHARE = 20.0
"""A value stays this many times as long as it took, so that it takes at most a twentieth of a core."""


def unknown() -> None:
    """The version of what may change unnoticed."""


@dataclass(frozen=True)
class Computed(Generic[Value]):
    """A value and its age; None as long as there is none."""

    value: Value | None
    age_s: float
    running: bool
    failure: str | None
    """Why the latest attempt failed, in one sentence."""
    current: bool
    """Nothing has changed since, as far as is known."""

    @property
    def as_of(self) -> str:
        """How old the value is, in words."""
        seconds = round(self.age_s)
        age = f"{seconds:,} s" if seconds < 2 * MINUTE_S else f"{seconds // MINUTE_S:,} min"
        return f"{age} ago" + ("; nothing was written since" if self.current else "")


class Recurring(Generic[Value]):
    """A value that is computed in the background when somebody asks for it. Thread-safe. Close it before its source."""

    def __init__(
        self,
        compute: Callable[[], Value],
        name: str,
        version: Callable[[], int | None] = unknown,
        turn: AbstractContextManager[object] | None = None,
    ) -> None:
        """Nothing is computed yet.

        Args:
            compute: makes the value.
            name: what it is called in the log.
            version: a number that changes with what the value is made from; None if that may change unnoticed.
            turn: a lock that is held while the value is computed, so that values which share it take turns.
        """
        self._compute, self._name, self._version_now = compute, name, version
        self._turn = turn or nullcontext()
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._value: Value | None = None
        self._failure: str | None = None
        self._thread: threading.Thread | None = None
        self._running = self._closed = False
        self._at = self._took = 0.0
        self._version: int | None = None

    def get(self, wait_s: float) -> Computed[Value]:
        """The value; waits for the first one, but no longer than `wait_s` seconds."""
        with self._lock:
            if self._is_stale() and not self._running and not self._closed:
                self._running = True
                self._done.clear()
                self._thread = threading.Thread(target=self._run, name=f"memstore-{self._name}", daemon=True)
                self._thread.start()
            has_value = self._value is not None
        if not has_value:
            self._done.wait(wait_s)
        with self._lock:
            age = time.monotonic() - self._at
            return Computed(self._value, age, self._running, self._failure, self._is_current())

    def close(self) -> None:
        """Compute nothing any more, and wait for what is being computed."""
        with self._lock:
            self._closed, thread = True, self._thread
        if thread is not None:
            thread.join()

    def _is_stale(self) -> bool:
        if self._value is None:
            return True
        old = time.monotonic() - self._at > max(FRESH_S, SHARE * self._took)
        return old and (self._failure is not None or not self._is_current())

    def _is_current(self) -> bool:
        """Whether the value is that of what is there now."""
        return self._value is not None and self._version is not None and self._version == self._version_now()

    def _run(self) -> None:
        value, failure, version, started = None, None, None, time.monotonic()
        try:
            with self._turn:
                started, version = time.monotonic(), self._version_now()
                value = self._compute()
        except Exception as error:
            shown = "it could not be computed because of a bug; the log has the details"
            failure = sentence_of(error, logged=f"{self._name} could not be computed because of a bug", shown=shown)
        with self._lock:
            if value is not None:
                self._value, self._at, self._version = value, time.monotonic(), version
            self._failure, self._running, self._took = failure, False, time.monotonic() - started
        self._done.set()
