"""All label-free features of a snapshot, computed once.

Consensus is taken where it shows: in the code domain programs that do the same agree, elsewhere equal answers do.
Everything group-relative is relative to that consensus.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass

from memstore.snapshot import Snapshot
from memstore_gnn.features.behaviour.votes import behaviour_of
from memstore_gnn.features.evidence import evidence_features
from memstore_gnn.features.groups import Groups, groups_of, less_group, over_answer
from memstore_gnn.features.skill import SkillModel, fit_skill, folds_of, skill_table, texts_of
from memstore_gnn.features.structure import structure_features
from memstore_gnn.features.table import FeatureTable


@dataclass(frozen=True)
class LabelFree:
    """What can be said of a memory's rollouts without any label.

    Attributes:
        groups: the consensus: `answer` is by behaviour in the code domain.
        table: structure, evidence, behaviour and skill, float32 [T, about 170].
        skill: what a new group's skill is computed with.
    """

    groups: Groups
    table: FeatureTable
    skill: SkillModel


_made: dict[int, tuple[weakref.ref[Snapshot], LabelFree]] = {}


def label_free(snapshot: Snapshot) -> LabelFree:
    """Features of a snapshot; the same object again as long as the snapshot lives."""
    known = _made.get(id(snapshot))
    if known is not None and known[0]() is snapshot:
        return known[1]
    made = _compute(snapshot)
    key = id(snapshot)
    _made[key] = (weakref.ref(snapshot, lambda _: _made.pop(key, None)), made)
    return made


def _compute(snapshot: Snapshot) -> LabelFree:
    behaviour = behaviour_of(snapshot, groups_of(snapshot))
    groups = behaviour.groups
    done = FeatureTable.from_columns(behaviour.columns, snapshot.thinkings.num_rows)
    table = structure_features(snapshot, groups).concat(
        evidence_features(snapshot, groups), done, less_group(done, groups), over_answer(done, groups)
    )
    fitted = fit_skill(texts_of(snapshot), table, groups, folds_of(snapshot)[groups.query_of])
    return LabelFree(groups, table.concat(skill_table(groups, fitted.skill)), fitted.model)
