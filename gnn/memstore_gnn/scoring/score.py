"""Score rollouts with a reward model, in the memory or outside of it.

Labels and neighbours come from the memory. A rollout outside the memory is predicted together with its group: the
rollouts of a query that one policy sampled together, in one run and at one step. Groups do not affect each other, and
the memory's own rollouts of the same query do not vote, as in the reward service (docs/rewards.md has the reasons).
With `as_ingested`, a group is instead everything that the memory would hold of the query after an ingest.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from memstore.snapshots.snapshot import Snapshot
from memstore.types import BoolVector, FloatVector
from memstore_gnn.data.groups import groups_of, query_of_thinkings
from memstore_gnn.data.hetero import some_rollouts, subgraph
from memstore_gnn.data.labels import rewards_of
from memstore_gnn.data.overlay import overlay
from memstore_gnn.models.reward_model import LabelContext, RewardModel
from memstore_gnn.scoring.html_table import html_table

PREDICTED, GROUND_TRUTH = "predicted", "ground_truth"
SHOWN_ROWS = 20
"""Rollouts in the HTML table of `Scores` at most."""


class Scores(NamedTuple):
    """Scores of N rollouts.

    Attributes:
        id: str [N], rollout ids.
        probability: float64 [N], calibrated probability that the rollout is right.
        reward: float64 [N], reward for policy optimisation: the label if the memory has one, otherwise the probability.
        source: str [N], source of `reward`: `predicted` or `ground_truth`; `memstore_gnn.scoring.abstain` adds others.
    """

    id: NDArray[np.object_]
    probability: FloatVector
    reward: FloatVector
    source: NDArray[np.object_]

    def __repr__(self) -> str:
        names, counts = np.unique(self.source.astype(str), return_counts=True)
        sources = ", ".join(f"{count:,} {name}" for name, count in zip(names, counts, strict=True))
        mean = f", mean probability {self.probability.mean():.3f}" if len(self.id) else ""
        return f"Scores({len(self.id):,} rollouts{': ' if sources else ''}{sources}{mean})"

    def _repr_html_(self) -> str:
        rows = list(zip(*(column[:SHOWN_ROWS].tolist() for column in self), strict=True))
        caption = f"{len(self.id):,} rollouts" + (f", the first {SHOWN_ROWS}" if len(self.id) > SHOWN_ROWS else "")
        return html_table(self._fields, rows, caption)


def score_memory(
    model: RewardModel,
    snapshot: Snapshot,
    only_unlabelled: bool = True,
    *,
    reward: FloatVector | None = None,
    context: LabelContext | None = None,
    target: Snapshot | None = None,
) -> Scores:
    """Score the rollouts of a memory, in the order of its thinkings.

    Args:
        only_unlabelled: False also scores labelled rollouts, without the labels of their own query.
        reward: float64 [T], labels that the model may use, NaN elsewhere; None uses the memory's ground truth.
        context: `model.label_context` of this memory, if already computed.
        target: `memory_target` of this memory, if already computed.

    Raises:
        ModelError: the model does not fit the memory.
    """
    labels = rewards_of(snapshot) if reward is None else reward
    context = context or model.label_context(snapshot, labels)
    wanted = ~np.isfinite(labels) if only_unlabelled else np.ones(len(labels), np.bool_)
    target = target or memory_target(snapshot, wanted)
    return _scores(model, context, target, snapshot.thinkings["id"].to_numpy()[wanted], labels[wanted])


def memory_target(snapshot: Snapshot, wanted: BoolVector) -> Snapshot:
    """Select the groups of these rollouts (bool [T]) of a memory."""
    queries = np.unique(query_of_thinkings(snapshot)[wanted])
    return subgraph(snapshot, snapshot.queries["id"].to_numpy()[queries].tolist())


def score_rollouts(
    model: RewardModel,
    snapshot: Snapshot,
    new: Snapshot,
    *,
    as_ingested: bool = False,
    reward: FloatVector | None = None,
    context: LabelContext | None = None,
    target: Snapshot | None = None,
) -> Scores:
    """Score rollouts that need not be in the memory, in the order of `new.thinkings`, without adding them.

    Args:
        new: the rollouts as a snapshot of their own, see `memstore.memory.Memory.read_rollouts`; its rewards are not
            read.
        as_ingested: predict each query's rollouts together with all that the memory holds of the query. A rollout that
            the memory holds with a label has this label as its reward.
        reward, context: as in `score_memory`.
        target: with `as_ingested`, `overlay(snapshot, new)`, if already computed.

    Raises:
        ModelError: the model does not fit the memory or the new rollouts.
    """
    labels = rewards_of(snapshot) if reward is None else reward
    context = context or model.label_context(snapshot, labels)
    model.check(new)
    ids = new.thinkings["id"]
    if as_ingested:
        known = pc.index_in(ids, value_set=snapshot.thinkings["id"].combine_chunks()).fill_null(-1).to_numpy()
        own = np.where(known >= 0, labels[known], np.nan) if len(labels) else np.full(len(ids), np.nan)
        return _scores(model, context, target or overlay(snapshot, new), ids.to_numpy(), own)
    probability = np.zeros(len(ids))
    for rows in _group_batches(new):
        part = new if rows.all() else some_rollouts(new, rows)  # features are cached by snapshot object
        probability[rows] = model.predict(part, context)
    return Scores(ids.to_numpy(), probability, probability, np.full(len(ids), PREDICTED, np.object_))


def batches_of_distinct_queries(queries: Sequence[Hashable]) -> list[list[int]]:
    """Cut groups into batches that hold at most one group of each query, so that groups of a query cannot interact.

    Args:
        queries: query of each group.

    Returns:
        Positions of the groups in each batch: the first group of every query, then the second, and so on.

    Example:
        >>> batches_of_distinct_queries(["a", "a", "b"])
        [[0, 2], [1]]
    """
    batches: list[list[int]] = []
    count: dict[Hashable, int] = {}
    for position, query in enumerate(queries):
        batch = count.get(query, 0)
        count[query] = batch + 1
        if batch == len(batches):
            batches.append([])
        batches[batch].append(position)
    return batches


def _group_batches(snapshot: Snapshot) -> list[BoolVector]:
    """Rollouts (bool [T]) of each batch of `batches_of_distinct_queries`."""
    groups = groups_of(snapshot)
    query_of_group = np.zeros(len(groups.own.count), np.int64)
    query_of_group[groups.own.cell] = groups.query_of
    return [np.isin(groups.own.cell, batch) for batch in batches_of_distinct_queries(query_of_group.tolist())]


def _scores(
    model: RewardModel, context: LabelContext, target: Snapshot, ids: NDArray[np.object_], label: FloatVector
) -> Scores:
    """Score some rollouts of `target`; `label` is float64 [N], NaN for a rollout without a label."""
    if not len(ids):
        return Scores(ids, np.zeros(0), np.zeros(0), np.zeros(0, np.object_))
    row = {name: position for position, name in enumerate(target.thinkings["id"].to_pylist())}
    probability = model.predict(target, context)[[row[name] for name in ids]]
    labelled = np.isfinite(label)
    source = np.where(labelled, GROUND_TRUTH, PREDICTED).astype(np.object_)
    return Scores(ids, probability, np.where(labelled, label, probability), source)
