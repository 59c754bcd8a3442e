"""The inputs of one score, and the score with some of them removed.

Every score is computed as `memstore score` does (`memstore_gnn.scoring.score.predict_groups`). A rollout is removed by
cutting it from the group and from the stored votes, a label by hiding it before the model reads the memory. The
reliabilities of policies stay as they were estimated with everything.

Labels act through nearest neighbours and shared lines, so the memory is cut to the labelled queries that share a line
with the group or can be neighbours when any one query is left out. Marks are shared by too many queries for that: their
counts of the other queries are kept. If the cut memory gives another score than the whole
memory, the whole memory is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pyarrow.compute as pc

from memstore.snapshots.snapshot import Snapshot
from memstore.snapshots.take import Contents
from memstore.types import BoolVector, FloatVector, IntVector
from memstore_gnn.data.groups import answer_of_thinkings, groups_of, query_of_thinkings
from memstore_gnn.data.hetero import some_rollouts, subgraph
from memstore_gnn.data.verdicts import Verdicts
from memstore_gnn.explain.families import masked
from memstore_gnn.features.assemble import group_features
from memstore_gnn.features.labels import NEIGHBOURS
from memstore_gnn.features.line_labels import read_lines
from memstore_gnn.models.inputs import read_target
from memstore_gnn.models.reward_model import LabelContext, RewardModel
from memstore_gnn.scoring.declined import in_declining_group
from memstore_gnn.scoring.other_policies import PolicyStep, StoredVotes, stored_votes
from memstore_gnn.scoring.query_votes import COPY, VOTER
from memstore_gnn.scoring.reliability import reliable_in
from memstore_gnn.scoring.score import memory_groups, predict_groups

SAME = 1e-6
"""Largest difference between two scores that counts as rounding."""
_CONTEXTS = 64
"""Readings of the labels that are kept."""


class Neighbour(NamedTuple):
    """A labelled node near the rollout or its query: its row in the labelled part, and the cosine."""

    row: int
    cosine: float


@dataclass(frozen=True)
class Removed:
    """What is removed from the inputs of a score.

    Attributes:
        rollouts: ids of rollouts of the same query.
        policies: policies at a step whose votes count as those of the mean policy.
        labels: rows of the scene's memory whose labels are hidden.
        far: whether the labels of all queries that are not near are hidden, see `Scene.near`.
        families: families of features that are masked.
    """

    rollouts: Set[str] = frozenset()
    policies: Set[PolicyStep] = frozenset()
    labels: Set[int] = frozenset()
    far: bool = False
    families: Set[str] = frozenset()

    def __or__(self, other: Removed) -> Removed:
        return Removed(
            self.rollouts | other.rollouts,
            self.policies | other.policies,
            self.labels | other.labels,
            self.far or other.far,
            self.families | other.families,
        )


NOTHING = Removed()


@dataclass(frozen=True)
class Scene:
    """One rollout, its group, the votes of others, and the labels that a model may see.

    Attributes:
        memory: the queries with a visible label that can be neighbours, with all their rollouts.
        reward: float64 [T of memory], NaN where a label is hidden.
        labels: float64 [L], all visible labels, also those outside `memory`.
        group: the rollout's query with the rollouts of its group.
        row: the rollout's row in the group.
        others: the stored rollouts of the query's other groups, whose votes count.
        stored: the stored rollouts of the query as votes.
        reliable: how often each policy at a step is right in the query's dataset, as RELIABLE_IN says.
        declined: whether all rollouts of the group decline to answer.
        marks: counts of the marks of labelled rollouts outside `memory`, which count as those inside do.
    """

    model: RewardModel
    memory: Snapshot
    reward: FloatVector
    labels: FloatVector
    context: LabelContext
    group: Snapshot
    row: int
    others: Snapshot
    stored: StoredVotes
    reliable: Mapping[PolicyStep, float]
    declined: bool
    marks: FloatVector | None = None
    _contexts: dict[bytes, LabelContext] = field(default_factory=dict, init=False)
    _scores: dict[Removed, float] = field(default_factory=dict, init=False)
    _alone: dict[Removed, FloatVector] = field(default_factory=dict, init=False)

    @property
    def id(self) -> str:
        """The rollout's id."""
        return str(self.group.thinkings["id"][self.row].as_py())

    @property
    def query(self) -> str:
        """The id of the rollout's query."""
        return str(self.group.queries["id"][0].as_py())

    @cached_property
    def query_of(self) -> IntVector:
        """Query of each rollout of `memory`, int64 [T of memory]."""
        return query_of_thinkings(self.memory)

    @cached_property
    def alike(self) -> dict[str, str]:
        """A stored vote (id) that counts as this one: the first with its policy, step and answer.

        Copies of the group's rollouts, which do not count, are alike too.
        """
        own = {tuple(row.values()) for row in self.group.thinkings.select([*VOTER, *COPY]).to_pylist()}
        table, answer = self.others.thinkings, answer_of_thinkings(self.others).tolist()
        first: dict[tuple[Any, ...], str] = {}
        found = {}
        for row, given in zip(table.select(["id", *VOTER, *COPY]).to_pylist(), answer, strict=True):
            name, *copy = row.values()
            found[name] = first.setdefault((*copy[: len(VOTER)], given, tuple(copy) in own), name)
        return found

    def probability(self, removed: Removed = NOTHING) -> float:
        """Probability of the rollout without what is removed. Without one of equal votes, it is computed once."""
        (one, *more) = removed.rollouts or ("",)
        if not more and one in self.alike and removed == Removed(rollouts=frozenset([one])):
            removed = Removed(rollouts=frozenset([self.alike[one]]))
        if removed not in self._scores:
            self._scores[removed] = self._predicted(removed)
        return self._scores[removed]

    def _predicted(self, removed: Removed) -> float:
        """As `predict_groups`, but the group alone is predicted once for all votes that are removed."""
        kept = ~np.isin(self.group.thinkings["id"].to_numpy(), list(removed.rollouts))
        group = self.group if kept.all() else some_rollouts(self.group, kept)
        key = replace(removed, rollouts=frozenset(self._own & removed.rollouts), policies=frozenset())
        if key not in self._alone:
            model = self.model
            for family in sorted(removed.families):
                model = masked(model, family)
            self._alone[key] = predict_groups(model, self._context(removed), group, None)
        stored = self.stored.without(removed.rollouts).at_mean(removed.policies)
        found = stored.adjust(self._alone[key], group, self.model.correction)
        return float(found[kept[: self.row].sum()])

    @cached_property
    def _own(self) -> frozenset[str]:
        return frozenset(self.group.thinkings["id"].to_pylist())

    def _context(self, removed: Removed) -> LabelContext:
        """The labels that are left."""
        if not removed.labels and not removed.far:
            return self.context
        seen = np.isfinite(self.reward)
        seen[list(removed.labels)] = False
        if removed.far:
            seen &= self.near[self.query_of]
        key = np.packbits(seen).tobytes()
        if key not in self._contexts:
            if len(self._contexts) == _CONTEXTS:
                self._contexts.pop(next(iter(self._contexts)))
            context = self.model.label_context(self.memory, np.where(seen, self.reward, np.nan))
            if self.marks is not None and not removed.far:
                context = context.with_marks(self.marks)
            self._contexts[key] = context
        return self._contexts[key]

    @cached_property
    def near(self) -> BoolVector:
        """Queries of the memory that are neighbours, or of whose rollouts one is; bool [Q of memory]."""
        queries, rollouts = self.neighbours
        near = np.zeros(self.memory.queries.num_rows, np.bool_)
        near[[node.row for node in queries]] = True
        near[self.query_of[[node.row for node in rollouts]]] = True
        return near

    @cached_property
    def neighbours(self) -> tuple[list[Neighbour], list[Neighbour]]:
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


def scene_of(
    model: RewardModel,
    snapshot: Snapshot,
    reward: FloatVector,
    thinking: int,
    verdicts: Verdicts | None = None,
    contents: Contents | None = None,
) -> Scene:
    """Build the scene of a rollout of a memory.

    Args:
        reward: float64 [T], the labels that the model may see, NaN elsewhere.
        thinking: the rollout's row.
        verdicts: those of these labels, for the reliability of policies; None: none.
        contents: adds texts and vectors to some queries of an outline; None: the snapshot has them.

    Raises:
        ModelError: the model does not fit the memory.
    """
    query = query_of_thinkings(snapshot)
    ids = snapshot.queries["id"].to_numpy()
    known, mine = np.isfinite(reward), query == query[thinking]
    labelled, name = np.zeros(len(ids), np.bool_), str(ids[query[thinking]])
    labelled[query[known]] = True
    read = subgraph(snapshot, sorted({name, *ids[labelled].tolist()}))
    read = read if contents is None else contents(read)
    model.check(read)
    memory, own = subgraph(read, ids[labelled].tolist()), subgraph(read, [name])
    inside = reward[labelled[query]]
    # Computed once here; every variant takes its rows from the cache.
    group_features(memory)
    stored = stored_votes(snapshot, verdicts or Verdicts())
    groups = memory_groups(snapshot, stored)
    group = some_rollouts(own, (groups == groups[thinking])[mine])
    row = int((groups[:thinking] == groups[thinking]).sum())
    declined = bool(in_declining_group(group, np.zeros(group.thinkings.num_rows, np.int64)).all())
    votes = stored.of_query(name)
    voters = np.isin(np.arange(len(query)), [at for rows in votes.rows.values() for at in rows.tolist()])
    others = some_rollouts(own, (voters & (groups != groups[thinking]))[mine])
    reliable = reliable_in(snapshot, verdicts or Verdicts(), stored.dataset[name])
    context = model.label_context(memory, inside)
    return _cut(Scene(model, memory, inside, reward[known], context, group, row, others, votes, reliable, declined))


def _cut(whole: Scene) -> Scene:
    """The scene with a memory of the queries that can matter, if it gives the same score."""
    near = _could_be_near(whole.context, whole.group)
    if near.all():
        return whole
    part = subgraph(whole.memory, whole.memory.queries["id"].to_numpy()[near].tolist())
    reward = whole.reward[near[whole.query_of]]
    group_features(part)
    inner = whole.model.label_context(part, reward)
    marks = whole.context.part.lines.marks - inner.part.lines.marks
    cut = replace(whole, memory=part, reward=reward, context=inner.with_marks(marks), marks=marks)
    return cut if abs(cut.probability() - whole.probability()) < SAME else whole


def _could_be_near(context: LabelContext, group: Snapshot) -> BoolVector:
    """Queries that share a line with the group, are its neighbours, or would be if any one query were left out.

    Returns:
        bool [Q of memory].
    """
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
    near[part.lines.queries_sharing(read_lines(group, groups_of(group)))] = True
    return near
