"""All label-free features of a snapshot; the costly part of them is computed once.

Consensus is taken where it shows: in the code domain programs that do the same agree, elsewhere equal answers do.
Everything group-relative is relative to that consensus.

Invariant: given a skill model, the features of a group are a function of that group alone. A rollout's skill is
always read by the model of its query's fold, be the query of the memory or new, so it has the same features in both.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from memstore.snapshots.snapshot import Snapshot
from memstore.types import IntVector
from memstore_gnn.data.groups import Groups, Partition, groups_of, less_group, over_answer
from memstore_gnn.data.table import FeatureTable
from memstore_gnn.features.behaviour.votes import behaviour_of
from memstore_gnn.features.evidence import evidence_features
from memstore_gnn.features.reliability import SkillModel, fit_skill, folds_of, skill_table, texts_of
from memstore_gnn.features.structure import structure_features


@dataclass(frozen=True)
class Read:
    """What is read off texts, answers and vectors, before any skill.

    Attributes:
        groups: the consensus: `answer` is by behaviour in the code domain.
        table: structure, evidence and behaviour, float32 [T, about 160].
    """

    groups: Groups
    table: FeatureTable

    def take(self, rows: IntVector) -> Read:
        """Some rollouts: `rows`, ascending, are all of some queries."""
        return Read(_take(self.groups, rows), self.table.rows(rows))


@dataclass(frozen=True)
class LabelFree:
    """What can be said of rollouts without any label.

    Attributes:
        groups: as `Read.groups`.
        table: `Read.table` and skill, float32 [T, about 170].
        skill: what the skill was read by; reads that of a new group, too.
        hands: float64 [T, K], whose hand each rollout is, see `features.styles`.
        fold: int64 [T], the fold of the rollout's query.
    """

    groups: Groups
    table: FeatureTable
    skill: SkillModel
    hands: NDArray[np.float64]
    fold: IntVector


_read: dict[int, tuple[weakref.ref[Snapshot], Read]] = {}
_made: dict[int, tuple[weakref.ref[Snapshot], LabelFree]] = {}


def label_free(snapshot: Snapshot) -> LabelFree:
    """Features of a memory, skill fitted to it; the same object again as long as the snapshot lives."""
    known = _made.get(id(snapshot))
    if known is not None and known[0]() is snapshot:
        return known[1]
    read = read_groups(snapshot)
    fold = folds_of(snapshot)[read.groups.query_of]
    fitted = fit_skill(texts_of(snapshot), read.table, read.groups, fold)
    table = read.table.concat(skill_table(read.groups, fitted.skill))
    made = LabelFree(read.groups, table, fitted.model, fitted.hands, fold)
    key = id(snapshot)
    _made[key] = (weakref.ref(snapshot, lambda _: _made.pop(key, None)), made)
    return made


def with_skill(snapshot: Snapshot, skill: SkillModel, read: Read | None = None) -> LabelFree:
    """Features of any groups, skill as a model that is there already reads it.

    Args:
        read: `read_groups(snapshot)`, where it is at hand.
    """
    read = read_groups(snapshot) if read is None else read
    fold = folds_of(snapshot)[read.groups.query_of]
    hand = skill.read(texts_of(snapshot), read.table, read.groups, fold)
    table = read.table.concat(skill_table(read.groups, hand.skill))
    return LabelFree(read.groups, table, skill, hand.hands, fold)


def read_groups(snapshot: Snapshot) -> Read:
    """Features before skill; the same object again as long as the snapshot lives."""
    known = already_read(snapshot)
    if known is not None:
        return known
    made = _compute(snapshot)
    key = id(snapshot)
    _read[key] = (weakref.ref(snapshot, lambda _: _read.pop(key, None)), made)
    return made


def already_read(snapshot: Snapshot) -> Read | None:
    """What `read_groups` gave for this snapshot, if it was called."""
    known = _read.get(id(snapshot))
    return known[1] if known is not None and known[0]() is snapshot else None


def _compute(snapshot: Snapshot) -> Read:
    behaviour = behaviour_of(snapshot, groups_of(snapshot))
    groups = behaviour.groups
    done = FeatureTable.from_columns(behaviour.columns, snapshot.thinkings.num_rows)
    table = structure_features(snapshot, groups).concat(
        evidence_features(snapshot, groups), done, less_group(done, groups), over_answer(done, groups)
    )
    return Read(groups, table)


def _take(groups: Groups, rows: IntVector) -> Groups:
    parts = {name: getattr(groups, name) for name in ("query", "answer", "own", "own_answer")}
    taken = {name: Partition.of(part.cell[rows]) for name, part in parts.items()}
    _, query_of = np.unique(groups.query_of[rows], return_inverse=True)
    return replace(groups, **taken, answered=groups.answered[rows], query_of=query_of.astype(np.int64))
