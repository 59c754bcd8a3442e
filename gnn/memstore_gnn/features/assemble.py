"""Assemble all label-free features of a snapshot.

In the code domain, rollouts whose programs have the same outcomes count as agreeing; elsewhere, rollouts with equal
answers do. All group-relative features use this consensus.

Invariant: given a reliability model, the features of a group are a function of that group alone. The model of the
query's fold predicts a rollout's reliability, whether the query is in the memory or new, so that both get the same
features.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memstore.snapshots.snapshot import Snapshot
from memstore.types import IntVector
from memstore_gnn.data.groups import Groups, groups_of, less_group, over_answer
from memstore_gnn.data.hetero import some_rollouts
from memstore_gnn.data.table import FeatureTable
from memstore_gnn.features.evidence import evidence_features
from memstore_gnn.features.program_votes import behaviour_of
from memstore_gnn.features.reliability import (
    ReliabilityModel,
    fit_reliability,
    folds_of,
    reliability_table,
    texts_of,
)
from memstore_gnn.features.structure import structure_features

BLOCK_ROLLOUTS = 16_384
"""Rollouts whose texts are read at once, about."""


@dataclass(frozen=True)
class GroupFeatures:
    """Features of texts, answers and vectors, without reliability.

    Attributes:
        groups: the consensus; `answer` is by program outcome in the code domain.
        table: votes, geometry, text evidence and program outcomes, float32 [T, about 160].
    """

    groups: Groups
    table: FeatureTable

    def take(self, rows: IntVector) -> GroupFeatures:
        """The features of some rollouts: `rows`, ascending, all rollouts of some queries."""
        return GroupFeatures(self.groups.take(rows), self.table.rows(rows))


@dataclass(frozen=True)
class LabelFree:
    """Label-free features of a snapshot.

    Attributes:
        groups: as `GroupFeatures.groups`.
        table: `GroupFeatures.table` and reliability, float32 [T, about 170].
        reliability: the model that predicted the reliability; it predicts that of new groups, too.
        membership: float64 [T, K], author cluster membership, see `memstore_gnn.features.author_clusters`.
        fold: int64 [T], the fold of the rollout's query.
    """

    groups: Groups
    table: FeatureTable
    reliability: ReliabilityModel
    membership: NDArray[np.float64]
    fold: IntVector


_group_features: dict[int, tuple[weakref.ref[Snapshot], GroupFeatures]] = {}
_label_free: dict[int, tuple[weakref.ref[Snapshot], LabelFree]] = {}


def label_free(snapshot: Snapshot) -> LabelFree:
    """Compute the features of a memory, with a reliability model fitted to it; cached while the snapshot lives."""
    known = _label_free.get(id(snapshot))
    if known is not None and known[0]() is snapshot:
        return known[1]
    features = group_features(snapshot)
    fold = folds_of(snapshot)[features.groups.query_of]
    fitted = fit_reliability(texts_of(snapshot), features.table, features.groups, fold)
    table = features.table.concat(reliability_table(features.groups, fitted.reliability))
    made = LabelFree(features.groups, table, fitted.model, fitted.membership, fold)
    key = id(snapshot)
    _label_free[key] = (weakref.ref(snapshot, lambda _: _label_free.pop(key, None)), made)
    return made


def with_reliability(snapshot: Snapshot, model: ReliabilityModel, features: GroupFeatures | None = None) -> LabelFree:
    """Compute the features of any groups, with the reliability that a fitted model predicts.

    Args:
        features: `group_features(snapshot)`, if the caller has it.
    """
    features = group_features(snapshot) if features is None else features
    fold = folds_of(snapshot)[features.groups.query_of]
    predicted = model.predict(texts_of(snapshot), features.table, features.groups, fold)
    table = features.table.concat(reliability_table(features.groups, predicted.reliability))
    return LabelFree(features.groups, table, model, predicted.membership, fold)


def group_features(snapshot: Snapshot) -> GroupFeatures:
    """Compute the features without reliability; cached while the snapshot lives."""
    known = cached_group_features(snapshot)
    if known is not None:
        return known
    made = compute_group_features(snapshot)
    key = id(snapshot)
    _group_features[key] = (weakref.ref(snapshot, lambda _: _group_features.pop(key, None)), made)
    return made


def cached_group_features(snapshot: Snapshot) -> GroupFeatures | None:
    """The cached result of `group_features`; None if it was not called for this snapshot."""
    known = _group_features.get(id(snapshot))
    return known[1] if known is not None and known[0]() is snapshot else None


def compute_group_features(snapshot: Snapshot) -> GroupFeatures:
    """Compute the features without reliability, without keeping them.

    The texts are read in blocks of whole queries, which bounds the memory that a large snapshot takes.
    """
    behaviour = behaviour_of(snapshot, groups_of(snapshot))
    groups, rows = behaviour.groups, snapshot.thinkings.num_rows
    outcomes = FeatureTable.from_columns(behaviour.columns, rows)
    if rows <= BLOCK_ROLLOUTS:
        return GroupFeatures(groups, _table(snapshot, groups, outcomes))
    block = (np.cumsum(groups.query.count) // BLOCK_ROLLOUTS)[groups.query.cell]
    table = FeatureTable((), np.zeros((rows, 0), np.float32))
    for number in np.unique(block).tolist():
        inside = block == number
        read = _table(some_rollouts(snapshot, inside), groups.take(np.flatnonzero(inside)), outcomes.rows(inside))
        if not table.names:
            table = FeatureTable(read.names, np.empty((rows, len(read.names)), np.float32))
        table.values[inside] = read.values
    return GroupFeatures(groups, table)


def _table(snapshot: Snapshot, groups: Groups, outcomes: FeatureTable) -> FeatureTable:
    """The features of `GroupFeatures.table`; `outcomes` are those of the programs."""
    return structure_features(snapshot, groups).concat(
        evidence_features(snapshot, groups), outcomes, less_group(outcomes, groups), over_answer(outcomes, groups)
    )
