r"""Hierarchical logistic regression on votes and features: the base logit of a reward model.

.. math::
    \mathrm{logit} = w_v^\top v + w_0 + \mu + m \, (x^\top w - \mu), \qquad
    \mu = \mathrm{mean}_{\mathrm{query}}(x^\top w)

with the log odds :math:`v` of plain and of reliability-weighted votes, the features :math:`x` and the weight :math:`m`
of the features within a group. Without labels, the prediction is the log odds of the votes; a prior of other data sets,
if there is one, adds its coefficients and scales the log odds of each domain by its inverse temperature.

Labels move the coefficients away from that start as far as cross-validation over queries supports. There are three
levels: all rollouts, each domain, each data set. A level is shrunk to the level above or, if that fits better, to the
votes. Several penalties are cross-validated over queries, and their coefficients are averaged with weights exp(-loss).
With few labelled queries weak penalties are not tried, because a cross-validation over eight queries is too noisy to
choose between them. The votes' coefficients have a small penalty of their own, so that no feature has to correct the
scale of the votes.

The features' logit has two parts: the difficulty of the query, which is equal for all of its rollouts, and the
differences within the group. A low loss supports only the first, while policy optimisation uses only the second; where
that is noise, the votes alone are better. Each level therefore has the weight :math:`m`, estimated from pairs of a
right and a wrong rollout of one held-out query (`memstore_gnn.models.pairwise`).

A `Base` is immutable, and a logit is a function of the rollout's own group and of the labels near it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple

import numpy as np

from memstore.runtime.threads import in_threads
from memstore.types import BoolVector, FloatVector, IntVector
from memstore_gnn.data.groups import Groups
from memstore_gnn.data.table import FeatureTable
from memstore_gnn.features.assemble import LabelFree
from memstore_gnn.features.line_labels import PREFIX
from memstore_gnn.features.reliability import CLUSTER_VOTES, ReliabilityModel
from memstore_gnn.models.calibration import Calibration
from memstore_gnn.models.design import DESIGN, Matrix, Scale, penalties, query_weights, vote_coefficients, votes
from memstore_gnn.models.newton import log_loss, solve
from memstore_gnn.models.pairwise import Pairs, within_group_weight
from memstore_gnn.models.prior import SharedPrior
from memstore_gnn.models.settings import BaseSettings

BASE = BaseSettings()
INTERCEPT, FEATURES = 2, 3
"""Columns of the weights: the intercept, and the first feature."""

Strata = Sequence[str]
"""Stratum of each rollout, `domain/dataset`."""


@dataclass(frozen=True)
class Base:
    """Fitted hierarchical regression; the module's docstring has the equation.

    Attributes:
        reliability: model of the reliability of rollouts, which weights the votes.
        scale: standardisation of the label-free features.
        near: standardisation of the features made from labels.
        strata: stratum of each row of `weights`: "" (all), a domain, or `domain/dataset`; P of them.
        weights: float64 [P, 3 + F]: plain votes, reliability-weighted votes, intercept, features.
        feature_weight: float64 [P], weight of the features within a group, relative to 1 for the votes.
    """

    reliability: ReliabilityModel
    scale: Scale
    near: Scale
    strata: tuple[str, ...]
    weights: Matrix
    feature_weight: FloatVector

    def logit(self, free: LabelFree, near: FeatureTable, strata: Strata) -> FloatVector:
        """Logit of each rollout, float64 [T], by the weights of the most specific stratum that it belongs to."""
        row = {stratum: position for position, stratum in enumerate(self.strata)}
        at = [row[stratum] for stratum in self.matching_strata(strata)]
        x, weights = inputs(self.scale, self.near, free, near), self.weights[at]
        features = np.einsum("tf,tf->t", x[:, FEATURES:], weights[:, FEATURES:])
        inside = features - free.groups.query.mean(features)
        return np.asarray(np.einsum("tf,tf->t", x, weights) + (self.feature_weight[at] - 1.0) * inside)

    def matching_strata(self, strata: Strata) -> list[str]:
        """The most specific fitted stratum for each `domain/dataset`: itself, its domain, or ""."""
        known = set(self.strata)
        match = {s: next(name for name in (s, s.partition("/")[0], "") if name in known) for s in set(strata)}
        return [match[stratum] for stratum in strata]

    def calibrated(self, general: Calibration, own: Mapping[str, Calibration]) -> Base:
        """Fold the calibrations of strata into the weights.

        The result, calibrated by `general`, equals this base, calibrated by the stratum's own calibration.

        Args:
            own: calibration by stratum, with the mixing weight of `general`.
        """
        weights = self.weights.copy()
        for stratum, calibration in own.items():
            row = self.strata.index(stratum)
            weights[row] *= calibration.slope / general.slope
            weights[row, INTERCEPT] += (calibration.shift - general.shift) / general.slope
        return replace(self, weights=weights)


class FittedBase(NamedTuple):
    """A base, and what was fitted without a part of the labelled queries.

    Attributes:
        held_out: float64 [N], out-of-fold logits of the labelled rollouts.
        folds: the bases that were fitted without each fold.
        fold: int64 [N], fold of each labelled rollout.
    """

    base: Base
    held_out: FloatVector
    folds: tuple[Base, ...]
    fold: IntVector


def inputs(scale: Scale, near_scale: Scale, free: LabelFree, near: FeatureTable) -> Matrix:
    """Columns plain votes, reliability-weighted votes, one and features: float64 [T, 3 + F]."""
    x, x_near = scale.apply(free.table, free.groups), near_scale.apply(near, free.groups)
    return np.column_stack([votes(free), np.ones(len(x)), x, x_near])


def fit_base(
    scale: Scale,
    free: LabelFree,
    near: FeatureTable,
    strata: Strata,
    reward: FloatVector,
    seed: int,
    prior: SharedPrior | None = None,
) -> FittedBase:
    """Fit to the labelled part of a memory.

    Args:
        scale: standardisation of the label-free features over the whole memory; a prior brings its own instead.
        free: label-free features of the labelled part's rollouts.
        near: features made from labels, of the same rollouts.
        strata: stratum of each rollout.
        reward: float64 [T], NaN for a rollout without a label.
        seed: of the folds.
        prior: coefficients that the regression is shrunk to; None shrinks it to the votes.
    """
    scale = scale if prior is None else prior.scale
    near_scale = Scale.of([near])
    learned = np.zeros(1 + len(scale.names)) if prior is None else prior.weights
    centre = np.concatenate([vote_coefficients(), learned, np.zeros(len(near.names))])
    rows = np.flatnonzero(np.isfinite(reward))
    if not len(rows):
        return _without_labels(Base(free.reliability, scale, near_scale, (), centre[None], np.ones(1)), prior)
    data = _labelled(inputs(scale, near_scale, free, near), free.groups, reward, rows, seed)
    centre = centre + BASE.cluster_vote_share * _cluster_votes(near_scale, len(centre))
    levels, held_out = _fit_levels(data, [strata[row] for row in rows.tolist()], centre, _penalty(scale, near_scale))
    weights, feature_weight = (
        np.stack([getattr(level, name) for level in levels.values()]) for name in ("all", "feature_weight")
    )
    base = Base(free.reliability, scale, near_scale, tuple(levels), weights, feature_weight)
    without = np.stack([level.without for level in levels.values()], axis=1)
    return FittedBase(base, held_out, tuple(replace(base, weights=fold) for fold in without), data.fold)


def _without_labels(base: Base, prior: SharedPrior | None) -> FittedBase:
    """Scale the only row of weights by the inverse temperature of each domain."""
    factors = {"": 1.0} | ({} if prior is None else dict(prior.inverse_temperature))
    weights = np.outer(list(factors.values()), base.weights[0])
    return FittedBase(
        replace(base, strata=tuple(factors), weights=weights, feature_weight=np.ones(len(weights))),
        np.zeros(0),
        (),
        np.zeros(0, np.int64),
    )


def _penalty(scale: Scale, near: Scale) -> FloatVector:
    """Penalty of each coefficient at strength 1, float64 [3 + F]."""
    names = np.array(near.names)
    near_penalties = np.where(names == CLUSTER_VOTES, BASE.cluster_vote_penalty, penalties(near.names))
    # Sums of log odds have natural units: a feature that hardly varies must not be magnified by its standardisation.
    lines = np.char.startswith(names, PREFIX)
    near_penalties = np.where(lines, BASE.line_penalty / near.deviation**2, near_penalties)
    first = [BASE.vote_penalty, BASE.vote_penalty, BASE.intercept_penalty]
    return np.concatenate([first, penalties(scale.names), near_penalties])


def _cluster_votes(near: Scale, width: int) -> FloatVector:
    """Coefficients that add the unscaled author-cluster votes, float64 [width]; zero if these votes are constant."""
    weights = np.zeros(width)
    at = near.names.index(CLUSTER_VOTES)
    if near.mean[at] or near.deviation[at] > DESIGN.min_deviation:
        weights[INTERCEPT] = near.mean[at]
        weights[width - len(near.names) + at] = near.deviation[at]
    return weights


class _Labelled(NamedTuple):
    """Labelled rollouts of one stratum.

    x: float64 [N, 3 + F]. inside: float64 [N, F], features less their mean over the whole group. label, weight: float64
    [N]. query, fold: int64 [N].
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
    """Coefficients of one stratum.

    all: float64 [3 + F], fitted to all queries. without: float64 [folds, 3 + F], fitted without each fold.
    feature_weight: as in `Base`.
    """

    all: FloatVector
    without: Matrix
    feature_weight: float

    def held_out(self, data: _Labelled) -> FloatVector:
        """Out-of-fold logits, float64 [N]."""
        logit = np.einsum("nf,nf->n", data.x, self.without[data.fold])
        return np.asarray(logit + (self.feature_weight - 1.0) * self.features_inside(data))

    def features_inside(self, data: _Labelled) -> FloatVector:
        """Out-of-fold logit of the features less its mean over the group, float64 [N]."""
        return np.asarray(np.einsum("nf,nf->n", data.inside, self.without[data.fold][:, FEATURES:]))

    def votes(self, data: _Labelled) -> FloatVector:
        """Out-of-fold logit of the votes, float64 [N]."""
        return np.asarray(np.einsum("nf,nf->n", data.x[:, :INTERCEPT], self.without[data.fold][:, :INTERCEPT]))


def _labelled(x: Matrix, groups: Groups, reward: FloatVector, rows: IntVector, seed: int) -> _Labelled:
    query = groups.query_of[rows]
    known, cell = np.unique(query, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(known)) % BASE.folds
    inside = x[:, FEATURES:] - groups.query.mean(x[:, FEATURES:])
    weight = BASE.query_weight * query_weights(groups.query_of)[rows]
    return _Labelled(x[rows], inside[rows], reward[rows], weight, query, order[cell])


def _fit_levels(
    data: _Labelled, strata: Strata, centre: FloatVector, penalty: FloatVector
) -> tuple[dict[str, _Level], FloatVector]:
    """Levels by stratum, from general to specific, and the out-of-fold logits float64 [N]."""
    root = _Level(centre, np.tile(centre, (BASE.folds, 1)), 1.0)
    levels = {"": _fit(data, [root], penalty)}
    held_out = levels[""].held_out(data)
    for stratum, inside in _own_strata(strata, data.query):
        own = data.rows(inside)
        above = stratum.partition("/")[0] if stratum.partition("/")[0] in levels else ""
        levels[stratum] = _fit(own, [levels[above], root], penalty)
        held_out[inside] = levels[stratum].held_out(own)
    return levels, held_out


def _fit(data: _Labelled, centres: Sequence[_Level], penalty: FloatVector) -> _Level:
    """Average the fits around each centre with each strength; several centres are candidates themselves."""
    tried = [centre._replace(feature_weight=1.0) for centre in centres] if len(centres) > 1 else []
    strengths = [s for s in BASE.strengths if s >= BASE.weakest_times_queries / data.queries] or [BASE.strengths[0]]
    tried += in_threads(lambda one: _fit_around(data, *one, penalty), list(product(centres, strengths)))
    losses = np.array([log_loss(level.held_out(data), data.label, data.weight) for level in tried]) * data.queries
    share = np.exp(-(losses - losses.min()))
    level = _mean(tried, share / share.sum())
    weight = within_group_weight(
        Pairs.of(data.label, data.query), level.votes(data), level.features_inside(data), centres[0].feature_weight
    )
    return level._replace(feature_weight=weight)


def _fit_around(data: _Labelled, centre: _Level, strength: float, penalty: FloatVector) -> _Level:
    """Fit around a centre with one strength, to all queries and without each fold."""
    scaled = np.concatenate([penalty[:FEATURES], penalty[FEATURES:] * strength])
    without = centre.without.copy()
    for fold in np.unique(data.fold):
        rest = data.rows(data.fold != fold)
        without[fold] = solve(rest.x, rest.label, rest.weight, scaled, centre.without[fold])
    return _Level(solve(data.x, data.label, data.weight, scaled, centre.all), without, 1.0)


def _mean(levels: Sequence[_Level], share: FloatVector) -> _Level:
    return _Level(
        np.asarray(share @ np.stack([level.all for level in levels])),
        np.einsum("l,lkf->kf", share, np.stack([level.without for level in levels])),
        1.0,
    )


def _own_strata(strata: Strata, query: IntVector) -> list[tuple[str, BoolVector]]:
    """Domains, then data sets, that get coefficients of their own, with the rows that belong to them.

    A stratum needs `BaseSettings.min_queries` labelled queries and at least one other stratum under the same parent.
    """
    found = []
    above = [""] * len(strata)
    for level in ([stratum.partition("/")[0] for stratum in strata], list(strata)):
        pairs = sorted(set(zip(above, level, strict=True)))
        for parent, stratum in pairs:
            inside = np.array([name == stratum for name in level], dtype=np.bool_)
            children = sum(other == parent for other, _ in pairs)
            if children > 1 and len(np.unique(query[inside])) >= BASE.min_queries:
                found.append((stratum, inside))
        above = level
    return found
