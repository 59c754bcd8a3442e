"""Regression on everything that is known of a group, shrunk to what the votes (and a prior) say by themselves.

Without a label the prediction is the log odds of the skilled votes, moved by the prior of other sets if there is
one. Labels move the coefficients away from that as far as held-out queries bear it out: several strengths of
shrinkage are cross-validated over queries, and their logits averaged with weights exp(-loss). With few labelled
queries weak shrinkage is not even tried: a cross-validation over eight queries can say anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from memstore.snapshot import Snapshot
from memstore.types import BoolVector, FloatVector, IntVector
from memstore_gnn.features.assemble import LabelFree, label_free
from memstore_gnn.features.labels import label_features
from memstore_gnn.predictors.design import Matrix, Scale, offset, penalties, query_weights
from memstore_gnn.predictors.newton import log_loss, solve
from memstore_gnn.predictors.prior import FIXED, SharedPrior
from memstore_gnn.predictors.protocol import labelled_rollouts

STRENGTHS = (1000.0, 300.0, 100.0, 30.0, 10.0, 3.0)
LEAST = 600.0
"""Times one over the number of labelled queries: the weakest shrinkage that is tried."""
QUERY_WEIGHT = 2.0
"""Independent examples that the rollouts of a query count for."""
INTERCEPT_SHRINKAGE = 3.0
FOLDS = 5


class Fitted(NamedTuple):
    """Logits float64 [T] of all rollouts, and of the labelled ones when fitted without their query; NaN elsewhere."""

    logit: FloatVector
    held_out: FloatVector


class _Problem(NamedTuple):
    """Inputs of all rollouts: offset, intercept, features; and the labelled rollouts' rows."""

    x: Matrix
    centre: FloatVector
    penalty: FloatVector
    rows: IntVector
    label: FloatVector
    weight: FloatVector
    fold: IntVector
    queries: int


@dataclass(frozen=True)
class Shrunken:
    """The predictor. `prior` None: shrink to the votes alone."""

    prior: SharedPrior | None = None
    name: str = "shrunken"

    def fit_predict(
        self, snapshot: Snapshot, reward: FloatVector, train: BoolVector, select: BoolVector, seed: int
    ) -> FloatVector:
        known = labelled_rollouts(snapshot, reward, train | select)
        fitted = self.fit(snapshot, np.where(known, reward, np.nan), seed)
        return np.asarray(1.0 / (1.0 + np.exp(-fitted.logit)))

    def fit(self, snapshot: Snapshot, reward: FloatVector, seed: int) -> Fitted:
        """Fit to the labels in `reward` (float64 [T], NaN elsewhere)."""
        free = label_free(snapshot)
        problem = self._problem(snapshot, free, reward, seed)
        held_out = np.full(len(reward), np.nan)
        if not problem.queries:
            return Fitted(problem.x @ problem.centre, held_out)
        logits, held, losses = [], [], []
        for strength in [s for s in STRENGTHS if s >= LEAST / problem.queries] or [STRENGTHS[0]]:
            penalty = _scaled(problem.penalty, strength)
            held.append(_cross_validated(problem, penalty))
            losses.append(log_loss(held[-1], problem.label, problem.weight) * problem.queries)
            rows = problem.rows
            solution = solve(problem.x[rows], problem.label, problem.weight, penalty, problem.centre)
            logits.append(problem.x @ solution)
        share = np.exp(-(np.array(losses) - min(losses)))
        share /= share.sum()
        held_out[problem.rows] = share @ np.array(held)
        return Fitted(share @ np.array(logits), held_out)

    def _problem(self, snapshot: Snapshot, free: LabelFree, reward: FloatVector, seed: int) -> _Problem:
        near = label_features(snapshot, reward, free.groups)
        scale = Scale.of([free.table]) if self.prior is None else self.prior.scale
        x = scale.apply(free.table, free.groups)
        x_near = Scale.of([near]).apply(near, free.groups)
        learned = np.zeros(1 + x.shape[1]) if self.prior is None else self.prior.weights
        rows = np.flatnonzero(np.isfinite(reward))
        query = free.groups.query_of[rows]
        labelled = np.unique(query)
        order = np.random.default_rng(seed).permutation(len(labelled)) % FOLDS
        return _Problem(
            x=np.column_stack([offset(free), np.ones(len(x)), x, x_near]),
            centre=np.concatenate([[1.0], learned, np.zeros(x_near.shape[1])]),
            penalty=np.concatenate([[FIXED, INTERCEPT_SHRINKAGE], penalties(scale.names), penalties(near.names)]),
            rows=rows,
            label=reward[rows],
            weight=QUERY_WEIGHT * query_weights(free.groups)[rows],
            fold=order[np.searchsorted(labelled, query)],
            queries=len(labelled),
        )


def _scaled(penalty: FloatVector, strength: float) -> FloatVector:
    """The features' penalties times `strength`; those of offset and intercept stay."""
    return np.concatenate([penalty[:2], penalty[2:] * strength])


def _cross_validated(problem: _Problem, penalty: FloatVector) -> FloatVector:
    """Logits of the labelled rollouts, each from a fit without its query's fold."""
    x = problem.x[problem.rows]
    out = np.empty(len(x))
    for fold in np.unique(problem.fold):
        inside = problem.fold == fold
        solution = solve(x[~inside], problem.label[~inside], problem.weight[~inside], penalty, problem.centre)
        out[inside] = x[inside] @ solution
    return out
