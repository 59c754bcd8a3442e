"""The base: a regression on everything that is known of a group, shrunk to what the votes say by themselves.

Without a label the prediction is the log odds of the skilled votes (if there is a prior of other sets: moved by it,
and in each domain as sharp as it says); with labels, votes are also weighed by whose hand they are
(`features.styles`). Labels move the coefficients away from that as far as held-out queries bear it out, on three
levels: what all rollouts share, then each domain, then each dataset, every one shrunk to the level above or, where
that fits better, to the votes. Several strengths are cross-validated over queries and their coefficients averaged
with weights exp(-loss). With few labelled queries weak shrinkage is not even tried: a cross-validation over eight
queries can say anything. The votes' own coefficients are shrunk softly, so that no feature has to stand in for a
scale that is wrong.

What features say has two parts, and a small loss vouches for one of them only: how hard a query is, the same for all
its rollouts, and which of its rollouts is better than the votes say. The second is all that policy optimisation feels,
and where it is noise the votes alone are better. So each level has one more number, how far to trust it, from pairs
of a right and a wrong rollout of one held-out query (`model.order`).

Invariant: everything in a `Base` is frozen, and a logit is a function of the rollout's own group and of the labels
near it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple

import numpy as np

from memstore.types import BoolVector, FloatVector, IntVector
from memstore_gnn.data.groups import Groups
from memstore_gnn.data.table import FeatureTable
from memstore_gnn.features.assemble import LabelFree
from memstore_gnn.features.reliability import CLUSTER_VOTES, ReliabilityModel
from memstore_gnn.models.calibration import Calibration
from memstore_gnn.models.design import LEAST_DEVIATION, SKILLED, Matrix, Scale, penalties, query_weights, votes
from memstore_gnn.models.newton import log_loss, solve
from memstore_gnn.models.order import Pairs, trust_in_order
from memstore_gnn.models.prior import SharedPrior

STRENGTHS = (3000.0, 1000.0, 300.0, 100.0, 30.0, 10.0, 3.0)
LEAST = 600.0
"""Times one over the number of labelled queries: the weakest shrinkage that is tried."""
QUERY_WEIGHT = 2.0
"""Independent examples that the rollouts of a query count for."""
INTERCEPT_SHRINKAGE = 3.0
VOTE_SHRINKAGE = 10.0
"""Of the coefficients of plain and of skilled votes, whatever the strength."""
FOLDS = 5
FEWEST_QUERIES = 5
"""A domain or dataset with fewer labelled queries is read as the level above."""
HANDED = 0.5
"""Coefficient of `CLUSTER_VOTES` that the regression is shrunk to. A value of 1 is better where policies differ
much and their writing shows it, and slightly worse elsewhere."""
HAND_PENALTY = 0.1
"""Beside 1 of other features: how much of it there should be is soon learned."""
INTERCEPT, FEATURES = 2, 3
"""Columns of the weights: the intercept, and the first feature."""

Places = Sequence[str]
"""Where each rollout belongs: `domain/dataset`."""


@dataclass(frozen=True)
class Base:
    """Logit of a rollout from its features.

    Attributes:
        reliability: predicts the reliability of rollouts, which weighs the votes.
        scale: of the label-free features. near: of those made of labels.
        places: what each row of `weights` is for: "" (all), a domain, or `domain/dataset`.
        weights: float64 [P, 3 + F]: plain votes, skilled votes, intercept, features.
        order: float64 [P]: how far what features say is trusted inside a group, beside 1 for the group as a whole.
    """

    reliability: ReliabilityModel
    scale: Scale
    near: Scale
    places: tuple[str, ...]
    weights: Matrix
    order: FloatVector

    def logit(self, free: LabelFree, near: FeatureTable, places: Places) -> FloatVector:
        """float64 [T]; each rollout is read by the most particular weights there are for its place."""
        row = {place: position for position, place in enumerate(self.places)}
        at = [row[place] for place in self.readers(places)]
        x, weights = inputs(self.scale, self.near, free, near), self.weights[at]
        said = np.einsum("tf,tf->t", x[:, FEATURES:], weights[:, FEATURES:])
        inside = said - free.groups.query.mean(said)
        return np.asarray(np.einsum("tf,tf->t", x, weights) + (self.order[at] - 1.0) * inside)

    def readers(self, places: Places) -> list[str]:
        """For each place the most particular one of `self.places` that it is read by."""
        known = set(self.places)
        reader = {p: next(name for name in (p, p.partition("/")[0], "") if name in known) for p in set(places)}
        return [reader[place] for place in places]

    def calibrated(self, general: Calibration, own: Mapping[str, Calibration]) -> Base:
        """What `general` makes of the result is, in each of these places, what its own calibration makes of this base.

        Args:
            own: by name of `self.places`; same trust as `general`.
        """
        weights = self.weights.copy()
        for place, calibration in own.items():
            row = self.places.index(place)
            weights[row] *= calibration.slope / general.slope
            weights[row, INTERCEPT] += (calibration.shift - general.shift) / general.slope
        return replace(self, weights=weights)


class FittedBase(NamedTuple):
    """A base, and its logits of the labelled rollouts (float64 [N]) when fitted without their query's fold."""

    base: Base
    held_out: FloatVector


def inputs(scale: Scale, near_scale: Scale, free: LabelFree, near: FeatureTable) -> Matrix:
    """float64 [T, 3 + F]."""
    x, x_near = scale.apply(free.table, free.groups), near_scale.apply(near, free.groups)
    return np.column_stack([votes(free), np.ones(len(x)), x, x_near])


def fit_base(
    scale: Scale,
    free: LabelFree,
    near: FeatureTable,
    places: Places,
    reward: FloatVector,
    seed: int,
    prior: SharedPrior | None = None,
) -> FittedBase:
    """Fit to the labelled part of a memory.

    Args:
        scale: of the label-free features, over the whole memory; not used where there is a prior, which has its own.
        free, near, places, reward: of the labelled part's rollouts; `reward` is NaN where one has no label.
    """
    scale = scale if prior is None else prior.scale
    near_scale = Scale.of([near])
    learned = np.zeros(1 + len(scale.names)) if prior is None else prior.weights
    centre = np.concatenate([[1.0 - SKILLED, SKILLED], learned, np.zeros(len(near.names))])
    rows = np.flatnonzero(np.isfinite(reward))
    if not len(rows):
        sharpness = {"": 1.0} | ({} if prior is None else dict(prior.sharpness))
        weights = np.outer(list(sharpness.values()), centre)
        base = Base(free.reliability, scale, near_scale, tuple(sharpness), weights, np.ones(len(weights)))
        return FittedBase(base, np.zeros(0))
    near_penalties = np.where(np.array(near.names) == CLUSTER_VOTES, HAND_PENALTY, penalties(near.names))
    votes_penalty = [VOTE_SHRINKAGE, VOTE_SHRINKAGE, INTERCEPT_SHRINKAGE]
    penalty = np.concatenate([votes_penalty, penalties(scale.names), near_penalties])
    data = _labelled(inputs(scale, near_scale, free, near), free.groups, reward, rows, seed)
    centre = centre + HANDED * _hand_votes(near_scale, len(centre))
    root = _Level(centre, np.tile(centre, (FOLDS, 1)), 1.0)
    levels = {"": _fit(data, [root], penalty)}
    held_out = levels[""].held_out(data)
    for place, inside in _own_places([places[row] for row in rows.tolist()], data.query):
        own = data.rows(inside)
        above = place.partition("/")[0] if place.partition("/")[0] in levels else ""
        levels[place] = _fit(own, [levels[above], root], penalty)
        held_out[inside] = levels[place].held_out(own)
    weights, order = (np.stack([getattr(level, name) for level in levels.values()]) for name in ("all", "order"))
    return FittedBase(Base(free.reliability, scale, near_scale, tuple(levels), weights, order), held_out)


def _hand_votes(near: Scale, width: int) -> FloatVector:
    """Coefficients that add the feature `CLUSTER_VOTES` as it is, float64 [width]; zero where there are no hands."""
    weights = np.zeros(width)
    at = near.names.index(CLUSTER_VOTES)
    if near.mean[at] or near.deviation[at] > LEAST_DEVIATION:
        weights[INTERCEPT] = near.mean[at]
        weights[width - len(near.names) + at] = near.deviation[at]
    return weights


class _Labelled(NamedTuple):
    """Labelled rollouts of one place.

    x float64 [N, 3 + F]; inside float64 [N, F], the features less the mean of the whole group; label, weight, query and
    fold [N].
    """

    x: Matrix
    inside: Matrix
    label: FloatVector
    weight: FloatVector
    query: IntVector
    fold: IntVector

    def rows(self, inside: BoolVector) -> _Labelled:
        return _Labelled._make(column[inside] for column in self)

    @property
    def queries(self) -> int:
        return len(np.unique(self.query))


class _Level(NamedTuple):
    """Coefficients fitted to everything [3 + F], and without each fold [FOLDS, 3 + F]; `order` as in `Base`."""

    all: FloatVector
    without: Matrix
    order: float

    def held_out(self, data: _Labelled) -> FloatVector:
        logit = np.einsum("nf,nf->n", data.x, self.without[data.fold])
        return np.asarray(logit + (self.order - 1.0) * self.said_inside(data))

    def said_inside(self, data: _Labelled) -> FloatVector:
        """What features say of held-out rollouts beside what they say of the group."""
        return np.asarray(np.einsum("nf,nf->n", data.inside, self.without[data.fold][:, FEATURES:]))

    def votes(self, data: _Labelled) -> FloatVector:
        """What the votes say of held-out rollouts."""
        return np.asarray(np.einsum("nf,nf->n", data.x[:, :INTERCEPT], self.without[data.fold][:, :INTERCEPT]))


def _labelled(x: Matrix, groups: Groups, reward: FloatVector, rows: IntVector, seed: int) -> _Labelled:
    query = groups.query_of[rows]
    known, cell = np.unique(query, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(known)) % FOLDS
    inside = x[:, FEATURES:] - groups.query.mean(x[:, FEATURES:])
    return _Labelled(
        x[rows], inside[rows], reward[rows], QUERY_WEIGHT * query_weights(groups)[rows], query, order[cell]
    )


def _fit(data: _Labelled, centres: Sequence[_Level], penalty: FloatVector) -> _Level:
    """Coefficients around each of the centres, averaged; where there are several, they are candidates themselves."""
    tried = [centre._replace(order=1.0) for centre in centres] if len(centres) > 1 else []
    strengths = [s for s in STRENGTHS if s >= LEAST / data.queries] or [STRENGTHS[0]]
    for centre, strength in product(centres, strengths):
        scaled = np.concatenate([penalty[:FEATURES], penalty[FEATURES:] * strength])
        without = centre.without.copy()
        for fold in np.unique(data.fold):
            rest = data.rows(data.fold != fold)
            without[fold] = solve(rest.x, rest.label, rest.weight, scaled, centre.without[fold])
        tried.append(_Level(solve(data.x, data.label, data.weight, scaled, centre.all), without, 1.0))
    losses = np.array([log_loss(level.held_out(data), data.label, data.weight) for level in tried]) * data.queries
    share = np.exp(-(losses - losses.min()))
    level = _mean(tried, share / share.sum())
    pairs = Pairs.of(data.label, data.query)
    return level._replace(order=trust_in_order(pairs, level.votes(data), level.said_inside(data), centres[0].order))


def _mean(levels: Sequence[_Level], share: FloatVector) -> _Level:
    return _Level(
        np.asarray(share @ np.stack([level.all for level in levels])),
        np.einsum("l,lkf->kf", share, np.stack([level.without for level in levels])),
        1.0,
    )


def _own_places(places: Places, query: IntVector) -> list[tuple[str, BoolVector]]:
    """Domains, then datasets, that are not all there is on the level above, with the rows that belong to them."""
    found = []
    above = [""] * len(places)
    for level in ([place.partition("/")[0] for place in places], list(places)):
        pairs = sorted(set(zip(above, level, strict=True)))
        for parent, place in pairs:
            inside = np.array([name == place for name in level], dtype=np.bool_)
            siblings = sum(other == parent for other, _ in pairs)
            if siblings > 1 and len(np.unique(query[inside])) >= FEWEST_QUERIES:
                found.append((place, inside))
        above = level
    return found
