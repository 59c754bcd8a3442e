"""Measures the influences on a score when a person asks for them, as `memstore explain ID --write` does.

Each explanation reads the memory, of a large one the votes and the labelled queries, so that a service takes
`AT_ONCE` of them at most; one runs and the others wait.
"""

from __future__ import annotations

import threading
import time
from functools import partial

from memstore.errors import MemstoreError
from memstore.memory import Memory
from memstore_rl.inspector.jobs import Jobs, JobState

AT_ONCE = 4
"""Scores that are being explained, or wait for it, at most."""
_PREFIX = "explain "


class TooMany(MemstoreError):
    """Too many scores are being explained; the page has status 503."""


class Explainer:
    """Explains rollouts of a memory in the background. Thread-safe."""

    def __init__(self, memory: Memory, jobs: Jobs) -> None:
        self._memory, self._jobs = memory, jobs
        self._lock = threading.Lock()
        self.took_s: float | None = None
        """Seconds that the last explanation took; None before the first."""

    def start(self, rollout: str) -> None:
        """Begin to explain the score of a rollout, unless it is being explained.

        Raises:
            TooMany: `AT_ONCE` others are being explained.
        """
        with self._lock:
            state = self.state(rollout)
            if state is not None and state.running:
                return
            if self._jobs.running(_PREFIX) >= AT_ONCE:
                raise TooMany(
                    f"{AT_ONCE} scores are being explained already, which is the most at once; go back and try again "
                    f"in a minute, or run: memstore explain {rollout} --write"
                )
            self._jobs.submit(_name(rollout), partial(self._measure, rollout))

    def state(self, rollout: str) -> JobState | None:
        """Whether a rollout is being explained, and what came of it; None if nobody has asked."""
        return self._jobs.state(_name(rollout))

    def _measure(self, rollout: str) -> str:
        started = time.monotonic()
        done = self._explain(rollout)
        self.took_s = time.monotonic() - started
        return done

    def _explain(self, rollout: str) -> str:
        from memstore_gnn.explain.explain import explain_rollout  # loads torch
        from memstore_gnn.models.device import one_core
        from memstore_rl.verifiers.stored_golds import standard_judge

        with standard_judge() as judge, one_core():
            device = self._memory.settings.device
            done = explain_rollout(self._memory, rollout, write=True, judge=judge, device=device)
        return "" if done.written else "nothing moved this score, so there is no evidence to show"


def _name(rollout: str) -> str:
    return f"{_PREFIX}{rollout}"
