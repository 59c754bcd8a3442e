"""Hands: which of a few styles a rollout is written in, and how much the votes of each are worth.

Where the rollouts of a query come from different policies, each of them was written by another one. That is enough
to tell hands apart without a name or a label: styles (words, marks and numbers about the text, less the query's
mean) are clustered so that rollouts of one query which different policies wrote lie in different clusters, and a
regression on style learns to recognise the clusters. A vote then weighs what its hand's votes are worth: first by how
often they agree with others, then, label by label, by how often they are right. A dozen numbers have to be learned for
that, where words would need thousands.

Where queries are sampled from one policy there are no hands, and votes weigh alike. A policy's name is never
looked at, only whether two rollouts of a query have the same.

Invariant: what a rollout's hand is, and what its vote is worth, come from models that no rollout and no label of its
query's fold has had a part in, except for the directions and centres of the clusters, which no label reaches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_matrix, hstack

from memstore.types import BoolVector, FloatVector, IntVector
from memstore_gnn.data.groups import Groups, Partition

Matrix = NDArray[np.float64]

FEWEST, MOST_HANDS = 3, 16
"""Hands that are told apart; with fewer policies to a query there are none."""
WORDS = 4096
"""Buckets that words are folded into."""
SKETCH, WIDTH = 256, 32
"""Random directions that texts are first seen along, and principal ones of those that are kept."""
WHITENING = 0.25
MOST = 20_000
"""Rollouts that are clustered, at most."""
ROUNDS, REFINEMENTS = 15, 5
"""Of the clustering by centres, and of the regression that takes it over."""
RIDGE = 1.0
SURENESS = 6.0
"""Sharpness of the softmax from scores to hands."""
LABEL = 4.0
"""Votes that a label counts for."""
SHRINKAGE = 100.0
"""Of what hands are worth, to nothing; 3 overfits where there are few rollouts of a hand."""
STRENGTH = 1.5
"""How much of what a hand is worth goes into the weight of its vote."""


@dataclass(frozen=True)
class StyleModel:
    """What recognises hands.

    Attributes:
        project: float32 [WORDS + bins, WIDTH], directions of style.
        scores: float32 [folds, WIDTH, K], fitted without each fold.
        gram, votes: float64 [folds, K, K] and [folds, K]: what the votes outside each fold say of hands.
    """

    project: NDArray[np.float32]
    scores: NDArray[np.float32]
    gram: Matrix
    votes: Matrix

    @property
    def hands(self) -> int:
        """K; 0 where no hands are told apart."""
        return self.scores.shape[2]

    def along(self, inputs: csr_matrix, words: int) -> Matrix:
        """Where texts lie along the directions of style, float64 [T, WIDTH].

        Args:
            inputs: sparse [T, words + bins].
        """
        return _along(_folded(inputs, words), self.project) if self.hands else np.zeros((inputs.shape[0], 0))

    def read(self, along: Matrix, groups: Groups, fold: IntVector) -> Matrix:
        """Hands of rollouts, float64 [T, K]: a probability for each, less 1 / K."""
        if not self.hands:
            return np.zeros((len(along), 0))
        style = along - groups.query.mean(along)
        score = np.empty((len(style), self.hands))
        for model in np.unique(fold):
            rows = fold == model
            # A sum in a fixed order: a matrix product rounds differently with another number of rows.
            score[rows] = np.einsum("td,dk->tk", style[rows], self.scores[model].astype(np.float64))
        return _softmax(score) - 1.0 / self.hands

    def worth(self, hands: Matrix, target: FloatVector, fold: IntVector) -> Matrix:
        """What each hand's votes are worth, float64 [folds, K], by the votes and by labels outside each fold.

        Args:
            hands: float64 [N, K], of labelled rollouts.
            target: float64 [N], their labels less the group's mean.
            fold: int64 [N].
        """
        out = np.zeros((len(self.gram), self.hands))
        for model in range(len(out)):
            rows = fold != model
            known = hands[rows]
            gram = self.gram[model] + LABEL * known.T @ known + SHRINKAGE * np.eye(self.hands)
            out[model] = np.linalg.solve(gram, self.votes[model] + LABEL * known.T @ target[rows])
        return out


class FittedStyle(NamedTuple):
    """A model, and the hands float64 [T, K] of the rollouts it was fitted to."""

    model: StyleModel
    hands: Matrix


def fit_style(
    inputs: csr_matrix, words: int, groups: Groups, fold: IntVector, folds: int, target: FloatVector
) -> FittedStyle:
    """Tell hands apart in a memory.

    Args:
        inputs: sparse [T, words + bins].
        fold: int64 [T], below `folds`.
        target: float64 [T]: share of the siblings that agree, less the group's mean.
    """
    count = _hands(groups)
    gram, votes = np.zeros((folds, count, count)), np.zeros((folds, count))
    if not count:
        bare = StyleModel(np.zeros((0, 0), np.float32), np.zeros((folds, 0, 0), np.float32), gram, votes)
        return FittedStyle(bare, np.zeros((len(fold), 0)))
    folded, rows = _folded(inputs, words), _sample(groups)
    query = Partition.of(groups.query.cell[rows])
    project = _directions(folded[rows], query)
    along = _along(folded, project)
    style = along[rows] - query.mean(along[rows])
    scores = _recognise(style, query, groups.own.size[rows] == 1, fold[rows], gram)
    hands = StyleModel(project, scores, gram, votes).read(along, groups, fold)
    for model in range(folds):
        others = fold != model
        gram[model] = hands[others].T @ hands[others]
        votes[model] = hands[others].T @ target[others]
    return FittedStyle(StyleModel(project, scores, gram, votes), hands)


def _recognise(
    style: Matrix, query: Partition, alone: BoolVector, fold: IntVector, like: Matrix
) -> NDArray[np.float32]:
    """Scores of hands without each fold, float32 [folds, WIDTH, K]; `like` has the shape [folds, K, K]."""
    folds, count = like.shape[:2]
    hand = _clusters(style, query, alone, count)
    scores = np.zeros((folds, style.shape[1], count), np.float32)
    for _ in range(REFINEMENTS):
        wanted = np.eye(count)[hand] - 1.0 / count
        score = np.zeros((len(style), count))
        for model in range(folds):
            others = fold != model
            gram = style[others].T @ style[others] + RIDGE * np.eye(style.shape[1])
            scores[model] = np.linalg.solve(gram, style[others].T @ wanted[others])
            score[~others] = style[~others] @ scores[model]
        hand = _assign(score, query, alone)
    return scores


def _hands(groups: Groups) -> int:
    """As many as the policies of the queries that have most; 0 where most queries have fewer than `FEWEST`."""
    if not len(groups.query.cell):
        return 0
    owner = np.unique(np.stack((groups.query.cell, groups.own.cell)), axis=1)[0]
    policies = np.bincount(owner)
    return min(int(policies.max()), MOST_HANDS) if np.median(policies) >= FEWEST else 0


def _sample(groups: Groups) -> IntVector:
    """Rollouts of whole groups, about `MOST` at most."""
    if len(groups.query.cell) <= MOST:
        return np.arange(len(groups.query.cell))
    kept = np.random.default_rng(0).random(len(groups.query.count)) < MOST / len(groups.query.cell)
    return np.flatnonzero(kept[groups.query.cell])


def _folded(inputs: csr_matrix, words: int) -> csr_matrix:
    """Words folded into `WORDS` buckets, bins as they are."""
    part = inputs[:, :words].tocoo()
    folded = csr_matrix((part.data, (part.row, part.col % WORDS)), shape=(inputs.shape[0], WORDS))
    return hstack([folded, inputs[:, words:]]).tocsr()


def _along(folded: csr_matrix, project: NDArray[np.float32]) -> Matrix:
    return np.asarray(folded @ project.astype(np.float64))


def _directions(folded: csr_matrix, query: Partition) -> NDArray[np.float32]:
    """Principal directions of style within queries, drawn towards equal variance."""
    sketch = np.random.default_rng(0).choice([-1.0, 1.0], (folded.shape[1], SKETCH)) / np.sqrt(SKETCH)
    seen = np.asarray(folded @ sketch)
    seen = seen - query.mean(seen)
    variance, direction = np.linalg.eigh(seen.T @ seen / len(seen))
    variance = np.maximum(variance[::-1][:WIDTH], 1e-12)
    made = sketch @ (direction[:, ::-1][:, :WIDTH] / variance**WHITENING)
    scale = np.sqrt(float((variance ** (1.0 - 2.0 * WHITENING)).sum()))
    return np.asarray(made / scale, np.float32)


def _clusters(style: Matrix, query: Partition, alone: BoolVector, count: int) -> IntVector:
    """Clusters by centres, rollouts of one query in different ones; begun from one of the largest queries."""
    largest = np.flatnonzero(query.size == query.count.max())
    begin = np.flatnonzero(query.cell == query.cell[np.random.default_rng(0).choice(largest)])[:count]
    centres = style[np.resize(begin, count)]
    hand = np.zeros(len(style), np.int64)
    for _ in range(ROUNDS):
        hand = _assign(2.0 * style @ centres.T - (centres**2).sum(axis=1), query, alone)
        sums = np.zeros_like(centres)
        np.add.at(sums, hand, style)
        size = np.bincount(hand, minlength=count)[:, None]
        centres = np.where(size > 0, sums / np.maximum(size, 1), centres)
    return hand


def _assign(score: Matrix, query: Partition, alone: BoolVector) -> IntVector:
    """The best hand of each rollout; those of one query that different policies wrote get different ones."""
    hand = np.asarray(score.argmax(axis=1), np.int64)
    order = np.argsort(query.cell, kind="stable")
    for members in np.split(order, np.cumsum(query.count)[:-1]):
        apart = members[alone[members]]
        chosen, column = linear_sum_assignment(score[apart], maximize=True)
        hand[apart[chosen]] = column
    return hand


def _softmax(score: Matrix) -> Matrix:
    raised = np.exp(SURENESS * (score - score.max(axis=1, keepdims=True)))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))
