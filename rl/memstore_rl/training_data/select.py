"""Select training data among the rewarded rollouts of a query: the best ones, or pairs of a better and a worse one.

Rollouts are ranked by whether they are known to be right, then by reward. Equal ones keep the order of their ids, which
are hashes: a draw that does not depend on the order of the input. Duplicates are left out before anything is selected.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal, NamedTuple, TypeAlias

from memstore.errors import InputError
from memstore.graph.verdicts import RIGHT
from memstore_gnn.scoring.score import PREDICTED
from memstore_rl.training_data.candidates import Candidate

Distinct: TypeAlias = Literal["text", "answer"]
DISTINCT: tuple[Distinct, ...] = ("text", "answer")
_DIGITS = 9
"""Decimals of a gap that count: 0.7 - 0.4 is a gap of 0.3."""


@dataclass(frozen=True)
class BestRule:
    """Which rollouts of a query are its best."""

    n: int | None = None
    """How many at most, at least 1; None: all."""
    min_reward: float = 0.5
    """Their lowest reward, 0..1."""
    distinct: Distinct = "text"
    """Which rollouts are duplicates: with equal thinkings and equal answers, or with equal answers."""

    def check(self) -> None:
        """Raise `InputError` if a number is out of range."""
        if self.n is not None and self.n < 1:
            raise InputError(f"the {self.n} best rollouts are none; ask for at least 1")
        _check_share("lowest reward", self.min_reward)


@dataclass(frozen=True)
class PairRule:
    """Which pairs of a query's rollouts are selected."""

    per_query: int = 1
    """How many at most, at least 1."""
    min_gap: float = 0.3
    """Lowest difference between the rewards of the two, above 0 and at most 1."""
    min_reward: float = 0.5
    """Lowest reward of the chosen one, 0..1."""
    distinct: Distinct = "text"
    """See `BestRule`."""

    def check(self) -> None:
        """Raise `InputError` if a number is out of range."""
        if self.per_query < 1:
            raise InputError(f"{self.per_query} pairs a query are none; ask for at least 1")
        if not 0.0 < self.min_gap <= 1.0:
            raise InputError(f"a gap of {self.min_gap:g} is not possible; use one above 0 and at most 1")
        _check_share("lowest reward", self.min_reward)


class Pair(NamedTuple):
    """Two rollouts with different answers, the first of the higher reward."""

    chosen: Candidate
    rejected: Candidate

    @property
    def gap(self) -> float:
        """Difference between their rewards."""
        return round(self.chosen.reward - self.rejected.reward, _DIGITS)


def best_of_n(group: Iterable[Candidate], rule: BestRule) -> list[Candidate]:
    """The best rollouts of a query, best first."""
    good = (one for one in _distinct(ranked(group), rule.distinct) if one.reward >= rule.min_reward)
    return list(islice(good, rule.n))


def preference_pairs(group: Iterable[Candidate], rule: PairRule) -> list[Pair]:
    """Pairs of a query's rollouts, those of different rollouts first.

    The best is paired with the worst, the second best with the worst that has been used least, and so on; when every
    chosen one has a pair, each gets another one.
    """
    order = _distinct(ranked(group), rule.distinct)
    # The ranking of the worst first; `min` takes the first of equals.
    open_ = {one: _rejectable(one, order[::-1], rule) for one in order if one.reward >= rule.min_reward}
    used: Counter[Candidate] = Counter()
    found: list[Pair] = []
    while any(open_.values()):
        for chosen, rejectable in open_.items():
            if not rejectable:
                continue
            rejected = min(rejectable, key=lambda one: used[one])
            rejectable.remove(rejected)
            used[rejected] += 1
            found.append(Pair(chosen, rejected))
            if len(found) == rule.per_query:
                return found
    return found


def ranked(group: Iterable[Candidate]) -> list[Candidate]:
    """Rollouts, the best first."""
    return sorted(group, key=lambda one: (not _is_known_right(one), -one.reward, one.id))


def _is_known_right(one: Candidate) -> bool:
    return one.source != PREDICTED and one.reward > RIGHT


def _distinct(order: Iterable[Candidate], distinct: Distinct) -> list[Candidate]:
    """The first of all rollouts that are duplicates of each other."""
    first: dict[tuple[str | None, ...], Candidate] = {}
    for one in order:
        first.setdefault((one.answer,) if distinct == "answer" else (one.answer, one.text_key), one)
    return list(first.values())


def _rejectable(chosen: Candidate, worst_first: Sequence[Candidate], rule: PairRule) -> list[Candidate]:
    """What can be rejected for a rollout, as many as a query has pairs."""
    fitting = (one for one in worst_first if one.answer != chosen.answer and Pair(chosen, one).gap >= rule.min_gap)
    return list(islice(fitting, rule.per_query))


def _check_share(what: str, value: float) -> None:
    if not 0.0 <= value <= 1.0:
        raise InputError(f"a {what} of {value:g} is not possible; use a number from 0 to 1")
