"""Scores the rollouts near a verdict again, in the background, and says what has changed.

Verdicts that come while rollouts are scored are taken together afterwards.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from memstore.memory import Memory
from memstore_rl.inspector.jobs import Jobs
from memstore_rl.inspector.label_effects import calibration_of

if TYPE_CHECKING:
    from memstore_gnn.verbs.rescore import Rescored

JOB = "rescore"
Pairs: TypeAlias = Mapping[str, tuple[float, float]]
"""Probability and label by rollout."""


class Rescorer:
    """Scores again what the verdicts of a desk move. Thread-safe."""

    def __init__(self, memory: Memory, jobs: Jobs) -> None:
        self._memory, self._jobs = memory, jobs
        self._lock = threading.Lock()
        self._changed: list[str] = []

    def note(self, query: str, labelled: Callable[[], Pairs]) -> None:
        """A verdict on a query was written or undone.

        Args:
            labelled: returns the rollouts that were labelled on the page, with their probability at that time.
        """
        with self._lock:
            self._changed.append(query)
        self._jobs.submit(JOB, lambda: self._rescore(labelled()))

    def in_words(self) -> tuple[bool, str] | None:
        """Whether rollouts are scored now, and a sentence; None before the first verdict."""
        state = self._jobs.state(JOB)
        if state is None:
            return None
        if state.running:
            return True, "Rollouts near it are being scored again."
        if state.failed:
            return False, f"Other rollouts were not scored again: {state.sentence}."
        return False, state.sentence

    def _rescore(self, pairs: Pairs) -> str:
        with self._lock:
            changed, self._changed = sorted(set(self._changed)), []
        from memstore_gnn.verbs.rescore import rescore_near  # loads torch
        from memstore_rl.verifiers.stored_golds import standard_judge

        with standard_judge() as judge:
            device = self._memory.settings.device
            done = rescore_near(self._memory, changed, labelled=list(pairs), judge=judge, device=device)
        return " ".join(filter(None, (_what_moved(done), _calibration(done, pairs))))


def _what_moved(done: Rescored) -> str:
    """What was scored, and by how much it moved."""
    if not done.rollouts:
        return "No rollout of the query or of those nearest to it is without a label, so none was scored again."
    rollouts, queries = _counted(done.rollouts, "rollout", "rollouts"), _counted(done.queries, "query", "queries")
    found = f"Scored again: {rollouts} of {queries}, the labelled one and those nearest to it"
    if done.mean_change is None:
        return f"{found}. They had no score before."
    return f"{found}. Probabilities moved by {done.mean_change:.3f} on average, {done.crossed:,} across one half."


def _calibration(done: Rescored, pairs: Pairs) -> str:
    """The calibration of what was labelled on the page, at the time and as scored now."""
    known = [name for name in done.labelled if name in pairs]
    then = calibration_of({name: pairs[name] for name in known})
    now = calibration_of({name: (done.labelled[name], pairs[name][1]) for name in known})
    if then is None or now is None:
        return ""
    return (
        f"Of the {_counted(now.rollouts, 'rollout', 'rollouts')} labelled here: Brier score {now.brier:.3f} as scored "
        f"now, {then.brier:.3f} when labelled; predicted {now.predicted:.2f}, then {then.predicted:.2f}, right "
        f"{now.right:.2f}."
    )


def _counted(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"
