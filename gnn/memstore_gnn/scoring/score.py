"""Scores: what a reward model says of rollouts, in the memory or not.

Labels and neighbours come from the memory. A rollout from outside is read in its group: the rollouts that one policy
made of a query together, in one run and at one step. Groups do not see each other, and what the memory holds of the
same query does not vote, as in the reward service (docs/rewards.md says why). `as_ingested` asks for what the memory
would say after an ingest instead: there a group is all that it holds of a query.
"""

from __future__ import annotations

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
from memstore_gnn.models.reward_model import Recollection, RewardModel

PREDICTED, GROUND_TRUTH = "predicted", "ground_truth"


class Scores(NamedTuple):
    """One row a rollout.

    id: rollout ids, str [N].
    probability: that the rollout is right, as the model says it, calibrated; float64 [N].
    reward: what policy optimisation should use: the label where the memory has one, else the probability.
    source: where `reward` comes from, `predicted` or `ground_truth`, str [N]; `memstore_gnn.scoring.abstain` has
    others.
    """

    id: NDArray[np.object_]
    probability: FloatVector
    reward: FloatVector
    source: NDArray[np.object_]


def score_memory(
    model: RewardModel,
    snapshot: Snapshot,
    only_unlabelled: bool = True,
    *,
    reward: FloatVector | None = None,
    recollection: Recollection | None = None,
    target: Snapshot | None = None,
) -> Scores:
    """Score the rollouts of a memory, in the order of its thinkings.

    Args:
        only_unlabelled: False also scores labelled rollouts; their own query's labels do not count for that.
        reward: float64 [T], the labels that may be used, NaN elsewhere; the memory's ground truth if absent.
        recollection: `model.recall` of this memory, where it is at hand.
        target: `memory_target` of this memory, where it is at hand.

    Raises:
        ModelError: the model does not fit the memory.
    """
    labels = rewards_of(snapshot) if reward is None else reward
    recollection = recollection or model.recall(snapshot, labels)
    wanted = ~np.isfinite(labels) if only_unlabelled else np.ones(len(labels), np.bool_)
    target = target or memory_target(snapshot, wanted)
    return _scores(model, recollection, target, snapshot.thinkings["id"].to_numpy()[wanted], labels[wanted])


def memory_target(snapshot: Snapshot, wanted: BoolVector) -> Snapshot:
    """The groups that are read when these rollouts (bool [T]) of a memory are scored."""
    queries = np.unique(query_of_thinkings(snapshot)[wanted])
    return subgraph(snapshot, snapshot.queries["id"].to_numpy()[queries].tolist())


def score_rollouts(
    model: RewardModel,
    snapshot: Snapshot,
    new: Snapshot,
    *,
    as_ingested: bool = False,
    reward: FloatVector | None = None,
    recollection: Recollection | None = None,
    target: Snapshot | None = None,
) -> Scores:
    """Score rollouts that need not be in the memory, in the order of `new.thinkings`; nothing is added to it.

    Args:
        new: the rollouts as a snapshot of their own, see `memstore.snapshots.from_rollouts.read_rollouts`; its
        rewards are not read.
        as_ingested: read each query's rollouts together with those that the memory holds of it, whoever made them; a
            rollout that the memory holds with a label has that as its reward.
        reward, recollection: as in `score_memory`.
        target: with `as_ingested`, `overlay(snapshot, new)` where it is at hand, so that it is read once.

    Raises:
        ModelError: the model does not fit the memory, or not the new rollouts.
    """
    labels = rewards_of(snapshot) if reward is None else reward
    recollection = recollection or model.recall(snapshot, labels)
    model.check(new)
    ids = new.thinkings["id"]
    if as_ingested:
        known = pc.index_in(ids, value_set=snapshot.thinkings["id"].combine_chunks()).fill_null(-1).to_numpy()
        own = np.where(known >= 0, labels[known], np.nan) if len(labels) else np.full(len(ids), np.nan)
        return _scores(model, recollection, target or overlay(snapshot, new), ids.to_numpy(), own)
    probability = np.zeros(len(ids))
    for wave in _waves(new):
        part = new if wave.all() else some_rollouts(new, wave)  # the same object, so that it is read once
        probability[wave] = model.predict(part, recollection)
    return Scores(ids.to_numpy(), probability, probability, np.full(len(ids), PREDICTED, np.object_))


def _waves(snapshot: Snapshot) -> list[BoolVector]:
    """The rollouts (bool [T]) of the first group of each query, of the second, and so on."""
    groups = groups_of(snapshot)
    own, query = groups.own.cell, groups.query_of
    # Cells are numbered by query, so a query's groups follow each other.
    first = np.full(snapshot.queries.num_rows, len(own), np.int64)
    np.minimum.at(first, query, own)
    place = own - first[query]
    return [place == number for number in range(place.max(initial=-1) + 1)]


def _scores(
    model: RewardModel, recollection: Recollection, target: Snapshot, ids: NDArray[np.object_], label: FloatVector
) -> Scores:
    """Scores of some rollouts of `target`; `label` float64 [N], NaN where there is none."""
    if not len(ids):
        return Scores(ids, np.zeros(0), np.zeros(0), np.zeros(0, np.object_))
    row = {name: position for position, name in enumerate(target.thinkings["id"].to_pylist())}
    probability = model.predict(target, recollection)[[row[name] for name in ids]]
    labelled = np.isfinite(label)
    source = np.where(labelled, GROUND_TRUTH, PREDICTED).astype(np.object_)
    return Scores(ids, probability, np.where(labelled, label, probability), source)
