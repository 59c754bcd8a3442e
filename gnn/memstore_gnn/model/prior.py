"""The prior: a logistic regression that starts as vote share and moves where labels make it.

Maximum a posteriori with a Gaussian prior. Its mean is not zero but a plain reading of the votes (`VOTE_SLOPE`
on the smoothed vote share), so that with few labels, or none that tell, the model is vote share. How much the vote
share counts is learnt freely; everything else is shrunk by one strength. Each domain has deviations of its own,
shrunk four times as hard as what domains share; a domain that was never seen has none.

Rollouts of one query are no independent examples: all of a query together weigh `QUERY_WEIGHT` examples. The
strength is chosen by cross-validation over queries: the hardest whose loss is within one standard error, over
queries, of the best. Few queries have a large standard error, and are shrunk hard.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from memstore.types import DOMAINS, FloatVector, IntVector
from memstore_gnn.features.groups import Partition
from memstore_gnn.features.table import FeatureTable

VOTE_FEATURES = ("share", "others_share", "smoothed_share", "log_votes", "majority", "answered")
VOTE_CENTRE = "smoothed_share"
VOTE_SLOPE = 5.0
CENTRE_PENALTY = 3.0
VOTE_PENALTY = 0.3
"""Times the strength, for what votes say besides the share."""
INTERCEPT_PENALTY = 0.01
QUERY_WEIGHT = 0.7
DOMAIN_PENALTY = 4.0
"""Times the penalty of what domains share."""
STRENGTHS = (3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)
CLIP = 5.0
"""Standard deviations beyond which a feature counts no further: an unseen set may lie far out."""

Matrix = NDArray[np.float64]


class FittedPrior(NamedTuple):
    """A prior, and what it says of each labelled rollout when fitted without that rollout's fold."""

    prior: Prior
    held_out: FloatVector


@dataclass(frozen=True)
class Prior:
    """Logit of a rollout from its features.

    Attributes:
        names: feature names, [F].
        mean, scale: float64 [F], of the labelled rollouts.
        weights: float64 [1 + len(DOMAINS), 1 + F]: intercept and coefficients, shared first, then each domain's own.
    """

    names: tuple[str, ...]
    mean: FloatVector
    scale: FloatVector
    weights: Matrix

    def standardise(self, features: FeatureTable) -> NDArray[np.float32]:
        """float32 [T, F]: standard deviations from the labelled rollouts' mean, clipped."""
        values = (features.select(self.names).values - self.mean) / self.scale
        return np.clip(values, -CLIP, CLIP).astype(np.float32)

    def logit(self, features: FeatureTable, domain: IntVector) -> FloatVector:
        """float64 [T]. `domain` is int64 [T], positions in `DOMAINS`."""
        x = _with_intercept(self.standardise(features))
        own = self.weights[1 + domain]
        return np.asarray(x @ self.weights[0] + np.einsum("tf,tf->t", x, own))


def fit_prior(
    features: FeatureTable, label: FloatVector, query: IntVector, domain: IntVector, fold: IntVector
) -> FittedPrior:
    """Fit to labelled rollouts, one row each.

    Args:
        label: float64 [N] in 0..1.
        fold: int64 [N], the same for all rollouts of a query.
    """
    values = features.values.astype(np.float64)
    mean, scale = values.mean(axis=0), np.maximum(values.std(axis=0), 1e-3)
    seen = sorted(set(domain.tolist()))
    empty = Prior(features.names, mean, scale, np.zeros((1 + len(DOMAINS), 1 + len(features.names))))
    x = _design(_with_intercept(empty.standardise(features)), domain, seen)
    centre = np.zeros(x.shape[1])
    at = features.names.index(VOTE_CENTRE)
    centre[1 + at], centre[0] = VOTE_SLOPE * scale[at], VOTE_SLOPE * (mean[at] - 0.5)
    weight = query_weights(query)
    penalty, held_out = _strength(x, label, query, fold, centre, features.names)
    solution = solve(x, label, weight, penalty, centre)
    weights = np.zeros_like(empty.weights)
    for row, part in zip([0, *(1 + d for d in seen)], np.split(solution, x.shape[1] // weights.shape[1]), strict=False):
        weights[row] = part
    return FittedPrior(Prior(features.names, mean, scale, weights), held_out)


def query_weights(query: IntVector) -> FloatVector:
    """float64 [N]: `QUERY_WEIGHT` over the number of rows of the row's query."""
    _, cell, count = np.unique(query, return_inverse=True, return_counts=True)
    return np.asarray(QUERY_WEIGHT / count[cell])


def solve(x: Matrix, label: FloatVector, weight: FloatVector, penalty: FloatVector, centre: FloatVector) -> FloatVector:
    """Coefficients that minimise weighted cross-entropy plus penalty / 2 * (coefficient - centre)^2, by Newton."""
    solution = centre.copy()
    for _ in range(30):
        probability = 1.0 / (1.0 + np.exp(-np.clip(x @ solution, -30.0, 30.0)))
        gradient = x.T @ (weight * (probability - label)) + penalty * (solution - centre)
        curvature = weight * probability * (1.0 - probability)
        step = np.linalg.solve((x * curvature[:, None]).T @ x + np.diag(penalty), gradient)
        solution -= step * min(1.0, 3.0 / max(float(np.abs(step).max()), 1e-9))
        if np.abs(step).max() < 1e-6:
            break
    return solution


def _strength(
    x: Matrix, label: FloatVector, query: IntVector, fold: IntVector, centre: FloatVector, names: Sequence[str]
) -> tuple[FloatVector, FloatVector]:
    """Penalties of the strength that cross-validation chooses, and the held-out logits under it."""
    weight, queries = query_weights(query), Partition.of(query)
    penalties = [_penalties(strength, names, x.shape[1]) for strength in STRENGTHS]
    logits = np.empty((len(STRENGTHS), len(label)))
    for part in np.unique(fold):
        inside = fold == part
        for held_out, penalty in zip(logits, penalties, strict=True):
            held_out[inside] = x[inside] @ solve(x[~inside], label[~inside], weight[~inside], penalty, centre)
    losses = np.array([queries.sums(np.logaddexp(0.0, z) - label * z) / queries.count for z in logits])
    worse = losses - losses[losses.mean(axis=1).argmin()]
    error = worse.std(axis=1) / np.sqrt(losses.shape[1])
    chosen = int(np.flatnonzero(worse.mean(axis=1) <= error)[-1])
    return penalties[chosen], logits[chosen]


def _penalties(strength: float, names: Sequence[str], columns: int) -> FloatVector:
    """One for each column of the design: what domains share first, then each domain's own."""
    shared = np.full(len(names), strength)
    shared[[name in VOTE_FEATURES for name in names]] *= VOTE_PENALTY
    shared[names.index(VOTE_CENTRE)] = CENTRE_PENALTY
    block = np.concatenate(([INTERCEPT_PENALTY], shared))
    own = np.concatenate(([DOMAIN_PENALTY], DOMAIN_PENALTY * shared))
    return np.concatenate([block, *([own] * (columns // len(block) - 1))])


def _with_intercept(x: NDArray[np.float32]) -> Matrix:
    return np.concatenate((np.ones((len(x), 1)), x), axis=1)


def _design(x: Matrix, domain: IntVector, seen: Sequence[int]) -> Matrix:
    """Shared columns, and for each of several domains the same columns again, zero for the others' rows."""
    if len(seen) < 2:
        return x
    return np.concatenate([x, *(x * (domain == d)[:, None] for d in seen)], axis=1)
