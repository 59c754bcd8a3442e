"""Flips of majorities: whether the most frequent answer to a query changes between the steps of a run."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Sequence

MAX_MAJORITIES = 100_000
"""Queries of a run whose latest majority is kept."""


class Majorities:
    """The latest majority on each query in each run. Not thread-safe."""

    def __init__(self) -> None:
        self._latest: OrderedDict[tuple[str | None, str], tuple[int, frozenset[str]]] = OrderedDict()

    def flips(self, run: str | None, step: int, query: str, answers: Sequence[str | None]) -> bool | None:
        """Take note of a group; return whether no most frequent answer of an earlier step of the run is one now.

        Args:
            query: its id.
            answers: canonical answer of each rollout; None: it has none, or its domain's answers are not compared.

        Returns:
            None if there is nothing to compare: the query's first step, a second group of its step, or no two answers
            that agree, since one vote is no majority.
        """
        votes = Counter(answer for answer in answers if answer is not None)
        most = max(votes.values(), default=0)
        if most < 2:
            return None
        now = frozenset(answer for answer, count in votes.items() if count == most)
        earlier, before = self._latest.get((run, query), (None, now))
        if earlier == step:
            return None
        self._latest[run, query] = (step, now)
        self._latest.move_to_end((run, query))
        if len(self._latest) > MAX_MAJORITIES:
            self._latest.popitem(last=False)
        return None if earlier is None else not now & before
