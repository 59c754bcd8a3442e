"""Does a policy agree with itself as those did whose rollouts a model learnt from, and does it find answers as often?

Both are distributions over queries, and a query is one observation. Of its rollouts that were sampled together (one
run, policy and step; all of them, where no `DRAWN` were) `DRAWN` are drawn: how many of them give the commonest answer,
none where no answer was found? The chance of each outcome over all draws does not depend, on average, on how many
rollouts there are; queries with fewer than `DRAWN` are left out. The other distribution is the share of rollouts with
an answer.

Two sets of queries are compared by the population stability index, sum (p - q) ln(p / q) over the outcomes, where 0.1
is by custom little and 0.25 much. A move is an index that lies by `MUCH` above every one of `SHUFFLES` that come of
dealing the same queries out at random: so it is beyond chance, at less than 1 in `SHUFFLES` + 1, however few they are
and whatever their distribution. A set is at most `KEPT` queries, so a comparison costs the same for any memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memstore.snapshots.snapshot import Snapshot
from memstore.types import BoolVector, FloatVector
from memstore_gnn.data.groups import Groups, Partition
from memstore_gnn.features.assemble import group_features

DRAWN = 4
MUCH = 0.25
SHUFFLES = 999
KEPT = 256
WIDTH = DRAWN + 2
"""Numbers of a query: the chance of 4, 3, 2, 1 and 0 votes for the commonest answer, and the share with an answer."""
AGREEMENT, ANSWERS = "agreement", "answers"

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Move:
    """A distribution that has moved.

    Attributes:
        what: `agreement`: the mean share of `DRAWN` rollouts that give the commonest answer; `answers`: of rollouts
            with an answer.
        index: the population stability index.
        learnt, scored: the mean share, 0 to 1, of the queries that were learnt from and of those that are scored.
    """

    what: str
    index: float
    learnt: float
    scored: float

    def said(self) -> str:
        """What has moved, as a part of a sentence."""
        if self.what == ANSWERS:
            return f"{self.scored:.0%} of the rollouts have an answer, {self.learnt:.0%} had"
        return f"of {DRAWN} rollouts {DRAWN * self.scored:.1f} agree, {DRAWN * self.learnt:.1f} did"


def observed(snapshot: Snapshot) -> Matrix:
    """What each query shows, float64 [Q, WIDTH]; NaN where it has fewer than `DRAWN` rollouts."""
    groups, queries = group_features(snapshot).groups, snapshot.queries.num_rows
    together = _of_queries(groups, groups.own, groups.own_answer, queries)
    if np.isfinite(together).all():
        return together
    return np.where(np.isfinite(together), together, _of_queries(groups, groups.query, groups.answer, queries))


def sample(rows: Matrix) -> Matrix:
    """At most `KEPT` of the observed queries, without those that show nothing; float64 [K, WIDTH]."""
    whole = rows[np.isfinite(rows).all(axis=1)]
    if len(whole) <= KEPT:
        return whole
    return whole[np.sort(np.random.default_rng(0).permutation(len(whole))[:KEPT])]


def moves(learnt: Matrix, scored: Matrix) -> tuple[Move, ...]:
    """What has moved between two samples; between nothing and anything, nothing has."""
    if not len(learnt) or not len(scored):
        return ()
    both, votes = np.concatenate([learnt, scored]), np.arange(DRAWN, -1, -1) / DRAWN
    found = []
    for what, outcomes, share in (
        (AGREEMENT, both[:, :-1], both[:, :-1] @ votes),
        (ANSWERS, np.column_stack([both[:, -1], 1.0 - both[:, -1]]), both[:, -1]),
    ):
        index = _index(outcomes, len(learnt))
        if index > MUCH and index > MUCH + _by_chance(outcomes, len(learnt)):
            found.append(Move(what, index, float(share[: len(learnt)].mean()), float(share[len(learnt) :].mean())))
    return tuple(found)


def stability_index(first: Matrix, of_first: int, second: Matrix, of_second: int) -> Matrix:
    """The population stability index of sums of outcomes, [..., outcomes], over so many queries each: [...].

    Half a query more is taken for each outcome, so that one which never came does not make it infinite.
    """
    outcomes = first.shape[-1]
    p, q = ((sums + 0.5) / (count + 0.5 * outcomes) for sums, count in ((first, of_first), (second, of_second)))
    return np.asarray(((p - q) * np.log(p / q)).sum(axis=-1))


def _index(outcomes: Matrix, learnt: int) -> float:
    """The index between the first `learnt` queries and the others."""
    first, second = outcomes[:learnt], outcomes[learnt:]
    return float(stability_index(first.sum(axis=0), len(first), second.sum(axis=0), len(second)))


def _by_chance(outcomes: Matrix, learnt: int) -> float:
    """The largest index where the same queries are dealt out at random."""
    total, rng = outcomes.sum(axis=0), np.random.default_rng(0)
    dealt = rng.permuted(np.tile(np.arange(len(outcomes)), (SHUFFLES, 1)), axis=1)[:, :learnt]
    first = np.stack([outcomes[rows].sum(axis=0) for rows in dealt])
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
    """The numbers of each cell, [C, WIDTH]; of one with fewer than `DRAWN` rollouts they mean nothing."""
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
    nothing = _choose(size - answered, DRAWN)
    outcomes += [draws - sum(outcomes) - nothing, nothing]
    shares = [np.clip(one, 0.0, None) / np.maximum(draws, 1.0) for one in outcomes]
    return np.column_stack([*shares, answered / np.maximum(size, 1.0)])


def _choose(count: FloatVector, drawn: int) -> FloatVector:
    """How many ways there are to draw so many of each count, float64; 0 where there are fewer."""
    ways = np.ones_like(count)
    for taken in range(drawn):
        ways *= np.maximum(count - taken, 0.0) / (taken + 1)
    return ways
