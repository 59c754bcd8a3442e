"""The inputs of one score, and the score with some of them left out.

Every variant is computed as `memstore score` does: labels are recalled from the memory, the group is read as a
snapshot, the model predicts. A rollout is left out by cutting it from the group's snapshot; a label is left out by
hiding it before the model recalls the memory.

Invariant: the probability of a variant is the score that the changed memory would give, not an estimate. Labels act
through nearest neighbours, so the memory is cut to the labelled queries that can be neighbours when any one query is
left out. If the cut memory gives another score than the whole memory, the whole memory is used.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc

from memstore.snapshots.snapshot import Snapshot
from memstore.types import BoolVector, FloatVector, IntVector
from memstore_gnn.data.groups import query_of_thinkings
from memstore_gnn.data.hetero import some_rollouts, subgraph
from memstore_gnn.explain.families import masked
from memstore_gnn.features.assemble import group_features
from memstore_gnn.features.labels import NEIGHBOURS
from memstore_gnn.models.inputs import read_target
from memstore_gnn.models.reward_model import LabelContext, RewardModel

SAME = 1e-6
"""Largest difference between two scores that counts as rounding."""


class Neighbour(NamedTuple):
    """A labelled node near the rollout or its query: its row in the labelled part, and the cosine."""

    row: int
    cosine: float


@dataclass(frozen=True)
class Scene:
    """One rollout, its group, and the labels that a model may look at.

    Attributes:
        memory: the queries with a visible label that can be neighbours, with all their rollouts.
        reward: float64 [T of memory], NaN where a label is hidden.
        labels: float64 [L], all visible labels, also those outside `memory`.
        group: the rollout's query with all its rollouts.
        row: the rollout's row in the group.
    """

    model: RewardModel
    memory: Snapshot
    reward: FloatVector
    labels: FloatVector
    context: LabelContext
    group: Snapshot
    row: int

    @property
    def id(self) -> str:
        """The rollout's id."""
        return str(self.group.thinkings["id"][self.row].as_py())

    def probability(self) -> float:
        """Probability that the model predicts for the rollout."""
        return _predicted(self.model, self.group, self.context, self.id)

    def without_rollouts(self, gone: BoolVector) -> float:
        """Probability without these rollouts of the group (bool [G])."""
        return _predicted(self.model, some_rollouts(self.group, ~gone), self.context, self.id)

    def without_labels(self, gone: BoolVector) -> float:
        """Probability without these labels (bool [T of memory])."""
        context = self.model.label_context(self.memory, np.where(gone, np.nan, self.reward))
        return _predicted(self.model, self.group, context, self.id)

    def without_family(self, family: str) -> float:
        """Probability with a family of the group's features masked, see `families`."""
        return _predicted(masked(self.model, family), self.group, self.context, self.id)

    def near(self) -> tuple[list[Neighbour], list[Neighbour]]:
        """Labelled neighbours of the rollout's query and of the rollout, nearest first."""
        part = self.context.part
        target = read_target(self.group, part)
        found = []
        for near, row, labelled in (
            (target.near_query, 0, part.queries.row),
            (target.near_thinking, self.row, part.thinkings.row),
        ):
            present = np.flatnonzero(near.present[row])
            nodes = [
                Neighbour(int(labelled[near.position[row, place]]), float(near.cosine[row, place])) for place in present
            ]
            found.append(sorted(nodes, key=lambda node: (-node.cosine, node.row)))
        return found[0], found[1]

    @property
    def query_of(self) -> IntVector:
        """Query of each rollout of `memory`, int64 [T of memory]."""
        return query_of_thinkings(self.memory)


def scene_of(model: RewardModel, snapshot: Snapshot, reward: FloatVector, thinking: int) -> Scene:
    """Build the scene of a rollout of a memory.

    Args:
        reward: float64 [T], the labels that the model may see, NaN elsewhere.
        thinking: the rollout's row.

    Raises:
        ModelError: the model does not fit the memory.
    """
    model.check(snapshot)
    query = query_of_thinkings(snapshot)
    ids = snapshot.queries["id"].to_numpy()
    known = np.isfinite(reward)
    labelled = np.zeros(len(ids), np.bool_)
    labelled[query[known]] = True
    memory, inside = subgraph(snapshot, ids[labelled].tolist()), reward[labelled[query]]
    # Computed once here; every recall of the memory takes its rows from the cache.
    group_features(memory)
    group = subgraph(snapshot, [ids[query[thinking]]])
    row = int(np.flatnonzero(np.flatnonzero(query == query[thinking]) == thinking)[0])
    context = model.label_context(memory, inside)
    whole = Scene(model, memory, inside, reward[known], context, group, row)
    near = _could_be_near(context, group)
    if near.all():
        return whole
    kept = near[whole.query_of]
    part = subgraph(memory, memory.queries["id"].to_numpy()[near].tolist())
    group_features(part)
    cut = replace(whole, memory=part, reward=inside[kept], context=model.label_context(part, inside[kept]))
    return cut if abs(cut.probability() - whole.probability()) < SAME else whole


def _could_be_near(context: LabelContext, group: Snapshot) -> BoolVector:
    """Queries that are neighbours of the group, or would be if any one query were left out, bool [Q of memory]."""
    part = context.part
    ids = part.snapshot.queries["id"].combine_chunks()
    own = pc.index_in(group.queries["id"], value_set=ids).fill_null(-1).to_numpy().astype(np.int64)
    near = np.zeros(part.snapshot.queries.num_rows, np.bool_)
    queries = part.queries.nearest(group.query_x, own, group.query_has_x, NEIGHBOURS + 1)
    near[part.queries.row[queries.position[queries.present]]] = True
    most = NEIGHBOURS + int(np.bincount(part.thinkings.query, minlength=1).max())
    own_of = own[query_of_thinkings(group)]
    thinkings = part.thinkings.nearest(group.thinking_x, own_of, group.thinking_has_x, most)
    near[part.thinkings.query[thinkings.position[thinkings.present]]] = True
    return near


def _predicted(model: RewardModel, group: Snapshot, context: LabelContext, rollout: str) -> float:
    row = group.thinkings["id"].to_pylist().index(rollout)
    return float(model.predict(group, context)[row])
