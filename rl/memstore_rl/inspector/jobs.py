"""Work of the reward model that a page asks for: one job at a time in a thread, so that no page waits."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from memstore_rl.inspector.failures import sentence_of

KEPT = 1_000
"""Jobs whose outcome is kept."""
BUG = "it failed because of a bug; the log of the service has the details"


class JobState(NamedTuple):
    """Whether a job has ended, and how."""

    running: bool
    """It waits or runs."""
    sentence: str = ""
    """What came of the last time that it ran; "" if it has not yet."""
    failed: bool = False


class Jobs:
    """Jobs by name. Thread-safe. Close it before the memory."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="memstore-model")
        self._lock = threading.Lock()
        self._states: dict[str, JobState] = {}
        self._waiting: set[str] = set()

    def submit(self, name: str, work: Callable[[], str]) -> None:
        """Run a job after those that wait, unless it waits already.

        Args:
            work: returns a sentence for the page.
        """
        with self._lock:
            if name in self._waiting:
                return
            self._waiting.add(name)
            self._states[name] = self._states.pop(name, JobState(True))._replace(running=True)
            for old in [key for key, state in self._states.items() if not state.running][: len(self._states) - KEPT]:
                del self._states[old]
        self._thread.submit(self._run, name, work)

    def state(self, name: str) -> JobState | None:
        """The state of a job; None if it was never asked for."""
        with self._lock:
            return self._states.get(name)

    def running(self, prefix: str) -> int:
        """Number of jobs that wait or run, and whose name begins so."""
        with self._lock:
            return sum(state.running and name.startswith(prefix) for name, state in self._states.items())

    def close(self) -> None:
        """Drop the jobs that wait, and wait for the one that runs."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _run(self, name: str, work: Callable[[], str]) -> None:
        with self._lock:
            self._waiting.discard(name)
        failed = True
        try:
            sentence, failed = work(), False
        except ModuleNotFoundError as error:
            sentence = f"{error.name} is not installed; run: pip install 'memstore[gnn]'"
        except Exception as error:
            sentence = sentence_of(error, logged="a job of the pages failed because of a bug", shown=BUG)
        with self._lock:
            self._states[name] = JobState(name in self._waiting, sentence, failed)
