"""`SharedLock`: many readers at once, or one writer."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class SharedLock:
    """A lock that readers share and a writer holds alone.

    A writer that waits goes before readers that come later, so that readers cannot keep it waiting for ever. A thread
    may take the lock again in the mode that it holds, and a writer may also read. A reader must not begin to write.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._readers: dict[int, int] = {}
        """How often each thread holds it for reading."""
        self._writer: int | None = None
        self._depth = 0
        """How often the writer holds it."""
        self._waiting = 0
        """Threads that wait for writing."""

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Hold the lock with other readers."""
        own = threading.get_ident()
        with self._changed:
            alone = self._writer == own
            while not (alone or own in self._readers) and (self._writer is not None or self._waiting):
                self._changed.wait()
            self._readers[own] = self._readers.get(own, 0) + 1
        try:
            yield
        finally:
            with self._changed:
                self._readers[own] -= 1
                if not self._readers[own]:
                    del self._readers[own]
                    self._changed.notify_all()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the lock alone.

        Raises:
            RuntimeError: this thread reads; it would wait for itself.
        """
        own = threading.get_ident()
        with self._changed:
            if self._writer != own:
                if own in self._readers:
                    raise RuntimeError("a thread that reads cannot begin to write; end the reading first")
                self._waiting += 1
                try:
                    while self._writer is not None or self._readers:
                        self._changed.wait()
                finally:
                    self._waiting -= 1
                self._writer = own
            self._depth += 1
        try:
            yield
        finally:
            with self._changed:
                self._depth -= 1
                if not self._depth:
                    self._writer = None
                    self._changed.notify_all()
