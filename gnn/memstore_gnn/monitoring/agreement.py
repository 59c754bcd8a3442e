"""Detect a change in how often rollouts agree and how often they have an answer.

Both are distributions over queries, and a query is one observation:

* Agreement: draw `DRAWN` rollouts of those sampled together (one run, policy and step; all rollouts of the query if
  no such set has `DRAWN`). How many give the most common answer? Queries with fewer rollouts are left out. The
  expected probability of each outcome over all draws does not depend on the number of rollouts.
* Answers: the share of rollouts with an answer.

Two sets of queries are compared by the population stability index, sum (p - q) ln(p / q) over the outcomes; by
convention 0.1 is a small and 0.25 a large change. A change is reported if the index exceeds each index of
`random_splits` random splits of the same queries by more than `min_index`. So the chance of a false alarm is below 1 /
(`random_splits` + 1), for any number of queries and any distribution. At most `max_queries` queries of a set are
compared, so the cost does not grow with the memory. The names are those of `AgreementSettings`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memstore.snapshots.snapshot import Snapshot
from memstore.types import BoolVector, FloatVector
from memstore_gnn.data.groups import Groups, Partition
from memstore_gnn.features.assemble import group_features
from memstore_gnn.monitoring.settings import AgreementSettings

VOTES = AgreementSettings()
DRAWN = VOTES.drawn
"""Rollouts of one draw."""
WIDTH = DRAWN + 2
"""Numbers per query: probability of 4, 3, 2, 1 and 0 votes for the most common answer, and the share with an answer."""
AGREEMENT, ANSWERS = "agreement", "answers"

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Move:
    """A distribution that has changed.

    Attributes:
        what: `agreement`, the mean share of `DRAWN` rollouts that give the most common answer, or `answers`, the share
            of rollouts with an answer.
        index: the population stability index.
        learnt, scored: the mean share, 0 to 1, over the training queries and over the queries to score.
    """

    what: str
    index: float
    learnt: float
    scored: float

    def description(self) -> str:
        """Describe the change, as a part of a sentence."""
        if self.what == ANSWERS:
            return f"{self.scored:.0%} of the rollouts have an answer, and {self.learnt:.0%} in training"
        return f"of {DRAWN} rollouts {DRAWN * self.scored:.1f} agree, and {DRAWN * self.learnt:.1f} in training"


def observed(snapshot: Snapshot) -> Matrix:
    """Outcome probabilities of each query, float64 [Q, WIDTH]; NaN with fewer than `DRAWN` rollouts."""
    groups, queries = group_features(snapshot).groups, snapshot.queries.num_rows
    together = _of_queries(groups, groups.policy_group, groups.policy_answer, queries)
    if np.isfinite(together).all():
        return together
    return np.where(np.isfinite(together), together, _of_queries(groups, groups.query, groups.answer, queries))


def sample(rows: Matrix) -> Matrix:
    """Sample at most `max_queries` of the observed queries, without NaN rows; float64 [K, WIDTH]."""
    whole = rows[np.isfinite(rows).all(axis=1)]
    if len(whole) <= VOTES.max_queries:
        return whole
    return whole[np.sort(np.random.default_rng(0).permutation(len(whole))[: VOTES.max_queries])]


def moves(learnt: Matrix, scored: Matrix) -> tuple[Move, ...]:
    """Changes between two samples; none if one of them is empty."""
    if not len(learnt) or not len(scored):
        return ()
    both, votes = np.concatenate([learnt, scored]), np.arange(DRAWN, -1, -1) / DRAWN
    found = []
    for what, outcomes, share in (
        (AGREEMENT, both[:, :-1], both[:, :-1] @ votes),
        (ANSWERS, np.column_stack([both[:, -1], 1.0 - both[:, -1]]), both[:, -1]),
    ):
        index = _index(outcomes, len(learnt))
        if index > VOTES.min_index and index > VOTES.min_index + _by_chance(outcomes, len(learnt)):
            found.append(Move(what, index, float(share[: len(learnt)].mean()), float(share[len(learnt) :].mean())))
    return tuple(found)


def stability_index(first: Matrix, of_first: int, second: Matrix, of_second: int) -> Matrix:
    """Population stability index between two sums of outcomes, [..., outcomes], over a number of queries each: [...].

    Half a query is added to each outcome, so that an outcome that never occurs does not make it infinite.
    """
    outcomes = first.shape[-1]
    p, q = ((sums + 0.5) / (count + 0.5 * outcomes) for sums, count in ((first, of_first), (second, of_second)))
    return np.asarray(((p - q) * np.log(p / q)).sum(axis=-1))


def _index(outcomes: Matrix, learnt: int) -> float:
    """The index between the first `learnt` queries and the others."""
    first, second = outcomes[:learnt], outcomes[learnt:]
    return float(stability_index(first.sum(axis=0), len(first), second.sum(axis=0), len(second)))


def _by_chance(outcomes: Matrix, learnt: int) -> float:
    """Largest index over random splits of the same queries."""
    total, rng = outcomes.sum(axis=0), np.random.default_rng(0)
    splits = rng.permuted(np.tile(np.arange(len(outcomes)), (VOTES.random_splits, 1)), axis=1)[:, :learnt]
    first = np.stack([outcomes[rows].sum(axis=0) for rows in splits])
    return float(stability_index(first, learnt, total - first, len(outcomes) - learnt).max())


def _of_queries(groups: Groups, cells: Partition, answers: Partition, queries: int) -> Matrix:
    """Means over each query's cells of `DRAWN` or more, [Q, WIDTH]; NaN for a query without one."""
    query = np.zeros(len(cells.count), np.int64)
    query[cells.cell] = groups.query_of
    enough = cells.count >= DRAWN
    sums, count = np.zeros((queries, WIDTH)), np.bincount(query[enough], minlength=queries)
    np.add.at(sums, query[enough], _of_cells(cells, answers, groups.answered)[enough])
    sums[count == 0] = np.nan
    return np.asarray(sums / np.maximum(count, 1)[:, None])


def _of_cells(cells: Partition, answers: Partition, has_answer: BoolVector) -> Matrix:
    """The numbers of each cell, [C, WIDTH]; undefined for a cell with fewer than `DRAWN` rollouts."""
    size = cells.count.astype(np.float64)
    holder, voted = np.zeros(len(answers.count), np.int64), np.zeros(len(answers.count), bool)
    holder[answers.cell] = cells.cell
    voted[answers.cell[has_answer]] = True
    votes, holder = answers.count[voted].astype(np.float64), holder[voted]

    def total(values: FloatVector) -> FloatVector:
        return np.bincount(holder, values, len(size)).astype(np.float64)

    others, pairs = size[holder] - votes, _choose(votes, 2)
    answered = total(votes)
    two_pairs = (total(pairs) ** 2 - total(pairs**2)) / 2
    draws = _choose(size, DRAWN)
    outcomes = [total(_choose(votes, 4)), total(_choose(votes, 3) * others)]
    outcomes.append(total(pairs * _choose(others, 2)) - two_pairs)
    unanswered = _choose(size - answered, DRAWN)
    outcomes += [draws - sum(outcomes) - unanswered, unanswered]
    shares = [np.clip(one, 0.0, None) / np.maximum(draws, 1.0) for one in outcomes]
    return np.column_stack([*shares, answered / np.maximum(size, 1.0)])


def _choose(count: FloatVector, drawn: int) -> FloatVector:
    """Binomial coefficient of each count over `drawn`, float64; 0 for a smaller count."""
    ways = np.ones_like(count)
    for taken in range(drawn):
        ways *= np.maximum(count - taken, 0.0) / (taken + 1)
    return ways
