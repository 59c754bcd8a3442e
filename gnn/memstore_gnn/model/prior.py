"""The prior: a logistic regression that starts as vote share and moves where labels make it.

Maximum a posteriori with a Gaussian prior, on three levels: what all rollouts share, then each domain, then each
dataset. The first is centred on a plain reading of the votes (`VOTE_SLOPE` on the smoothed vote share), every other
one on the level above or on the votes again, whichever holds out better. So with few labels, or none that tell, the
model is vote share; a small set leans on what the memory knows of others, unless those mislead; and a set or a domain
that was never seen is read as the level above.

Rollouts of one query are no independent examples: all of a query together weigh `QUERY_WEIGHT` examples. How hard
to shrink is chosen by cross-validation over queries on every level: the hardest strength whose loss is within one
standard error, over queries, of the best. Few queries have a large standard error, and are shrunk hard.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from memstore.types import BoolVector, FloatVector, IntVector
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
STRENGTHS = (3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0)
OWN_STRENGTHS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
"""Of a domain or dataset around the level above; beyond the last, it is the level above."""
OWN_INTERCEPT_PENALTY, OWN_CENTRE_PENALTY = 0.03, 0.1
"""Times the strength, for a domain's or dataset's base rate and vote share."""
FEWEST_QUERIES = 5
"""A domain or dataset with fewer labelled queries is read as the level above."""
CLIP = 5.0
"""Standard deviations beyond which a feature counts no further: an unseen set may lie far out."""

Matrix = NDArray[np.float64]
Places = Sequence[str]
"""Where each rollout belongs: `domain/dataset`."""


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
        places: what each row of `weights` is for: "" (all), a domain, or `domain/dataset`.
        weights: float64 [P, 1 + F]: intercept and coefficients.
    """

    names: tuple[str, ...]
    mean: FloatVector
    scale: FloatVector
    places: tuple[str, ...]
    weights: Matrix

    def standardise(self, features: FeatureTable) -> NDArray[np.float32]:
        """float32 [T, F]: standard deviations from the labelled rollouts' mean, clipped."""
        values = (features.select(self.names).values - self.mean) / self.scale
        return np.clip(values, -CLIP, CLIP).astype(np.float32)

    def logit(self, features: FeatureTable, places: Places) -> FloatVector:
        """float64 [T]; each rollout is read by the most particular weights there are for its place."""
        x = _with_intercept(self.standardise(features))
        row = {place: position for position, place in enumerate(self.places)}
        known = {place: row.get(place, row.get(place.partition("/")[0], row[""])) for place in set(places)}
        return np.asarray(np.einsum("tf,tf->t", x, self.weights[[known[place] for place in places]]))


def fit_prior(
    features: FeatureTable, label: FloatVector, query: IntVector, places: Places, fold: IntVector
) -> FittedPrior:
    """Fit to labelled rollouts, one row each.

    Args:
        label: float64 [N] in 0..1.
        fold: int64 [N], 0 to the number of folds less one, the same for all rollouts of a query.
    """
    values = features.values.astype(np.float64)
    mean, scale = values.mean(axis=0), np.maximum(values.std(axis=0), 1e-3)
    names = features.names
    x = _with_intercept(Prior(names, mean, scale, (), np.zeros((0, 0))).standardise(features))
    data = _Labelled(x, label, query, fold)
    at = names.index(VOTE_CENTRE)
    votes = np.zeros(x.shape[1])
    votes[0], votes[1 + at] = VOTE_SLOPE * (mean[at] - 0.5), VOTE_SLOPE * scale[at]
    plain = _Centre(votes, [votes] * (int(fold.max()) + 1))
    levels = {"": _fit(data, plain, _shared_penalties(names))}
    held_out = levels[""].held_out(data)
    for place, inside in _own_places(places, query):
        above = levels.get(place.partition("/")[0], levels[""])
        own = data.rows(inside)
        leaning = _fit(own, above, _own_penalties(names), keep_centre=True)
        standing = _fit(own, plain, _shared_penalties(names))
        levels[place] = min((leaning, standing), key=lambda level: float(own.losses(level.held_out(own)).mean()))
        held_out[inside] = levels[place].held_out(own)
    prior = Prior(names, mean, scale, tuple(levels), np.stack([level.all for level in levels.values()]))
    return FittedPrior(prior, held_out)


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


@dataclass(frozen=True)
class _Labelled:
    """Labelled rollouts of one place: x float64 [N, 1 + F], label, query and fold [N]."""

    x: Matrix
    label: FloatVector
    query: IntVector
    fold: IntVector

    def rows(self, inside: BoolVector) -> _Labelled:
        return _Labelled(self.x[inside], self.label[inside], self.query[inside], self.fold[inside])

    def losses(self, logit: FloatVector) -> FloatVector:
        """Mean cross-entropy of each query."""
        queries = Partition.of(self.query)
        return np.asarray(queries.sums(np.logaddexp(0.0, logit) - self.label * logit) / queries.count)


@dataclass(frozen=True)
class _Centre:
    """Coefficients fitted to everything, and without each fold."""

    all: FloatVector
    without: list[FloatVector]

    def held_out(self, data: _Labelled) -> FloatVector:
        """float64 [N]: each rollout by the coefficients that its fold had no part in."""
        return np.asarray(np.einsum("nf,nf->n", data.x, np.stack(self.without)[data.fold]))


def _fit(data: _Labelled, above: _Centre, penalties: list[FloatVector], keep_centre: bool = False) -> _Centre:
    """Fit around the level above; `penalties` rise, and `keep_centre` lets staying at the centre be the last."""
    weight = query_weights(data.query)
    tried = []
    for penalty in penalties:
        without = []
        for part, centre in enumerate(above.without):
            rest = data.fold != part
            without.append(solve(data.x[rest], data.label[rest], weight[rest], penalty, centre))
        tried.append(_Centre(above.all, without))
    if keep_centre:
        tried.append(above)
    losses = np.array([data.losses(candidate.held_out(data)) for candidate in tried])
    worse = losses - losses[losses.mean(axis=1).argmin()]
    error = worse.std(axis=1) / np.sqrt(losses.shape[1])
    chosen = int(np.flatnonzero(worse.mean(axis=1) <= error)[-1])
    if chosen == len(penalties):
        return above
    return _Centre(solve(data.x, data.label, weight, penalties[chosen], above.all), tried[chosen].without)


def _own_places(places: Places, query: IntVector) -> list[tuple[str, BoolVector]]:
    """Domains, then datasets, that are not all there is on the level above, with the rows that belong to them."""
    found = []
    levels = [[place.partition("/")[0] for place in places], list(places)]
    above = [""] * len(places)
    for level in levels:
        pairs = sorted(set(zip(above, level, strict=True)))
        for parent, place in pairs:
            inside = np.array([name == place for name in level], dtype=np.bool_)
            siblings = sum(other == parent for other, _ in pairs)
            if siblings > 1 and len(np.unique(query[inside])) >= FEWEST_QUERIES:
                found.append((place, inside))
        above = level
    return found


def _shared_penalties(names: Sequence[str]) -> list[FloatVector]:
    return [_penalties(names, s, INTERCEPT_PENALTY, CENTRE_PENALTY) for s in STRENGTHS]


def _own_penalties(names: Sequence[str]) -> list[FloatVector]:
    return [_penalties(names, s, s * OWN_INTERCEPT_PENALTY, s * OWN_CENTRE_PENALTY) for s in OWN_STRENGTHS]


def _penalties(names: Sequence[str], strength: float, intercept: float, centre: float) -> FloatVector:
    """float64 [1 + F]."""
    own = np.full(len(names), strength)
    own[[name in VOTE_FEATURES for name in names]] *= VOTE_PENALTY
    own[names.index(VOTE_CENTRE)] = centre
    return np.concatenate(([intercept], own))


def _with_intercept(x: NDArray[np.float32]) -> Matrix:
    return np.concatenate((np.ones((len(x), 1)), x), axis=1)
