"""From a snapshot to what the model reads: features, projected vectors, and who is near in the labelled memory.

Two sides. `LabelledPart` is the memory's labelled queries with all their rollouts: the only place where labels come
from. A target is any snapshot whose groups are to be read, be it that same part (training), the rest of the memory,
or rollouts that are not in it. The target's own labels are never looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from memstore.errors import ModelError
from memstore.snapshots.snapshot import Snapshot
from memstore.types import BoolVector, FloatMatrix, FloatVector, IntVector
from memstore_gnn.data.groups import Groups, Partition, query_of_thinkings
from memstore_gnn.data.hetero import subgraph
from memstore_gnn.data.neighbours import Labelled, Nearest, nearest_labelled
from memstore_gnn.data.table import FeatureTable
from memstore_gnn.features.assemble import LabelFree, cached_group_features, group_features, with_reliability
from memstore_gnn.features.labels import (
    NEIGHBOURS,
    LabelsNear,
    label_table,
    labelled_queries,
    labelled_thinkings,
    rows_of,
)
from memstore_gnn.features.reliability import ReliabilityModel, cluster_votes_table
from memstore_gnn.models.design import Scale
from memstore_gnn.models.network import GroupTensors, Neighbours

PROJECTED_SCALE = 0.5
"""Root mean square of a projected vector's components."""
PROJECTION_ROWS = 20_000
"""Vectors that the principal directions are computed from, at most."""


@dataclass(frozen=True)
class LabelledPart:
    """The queries of a memory that have a label, with all their rollouts.

    Attributes:
        reward: float64 [T], NaN for a rollout without a label.
        free: its label-free features.
        queries, thinkings: the labelled nodes that have a vector.
        cluster_weights: float64 [folds, K], the vote weight of each author cluster, see `features.author_clusters`.
    """

    snapshot: Snapshot
    reward: FloatVector
    free: LabelFree
    queries: Labelled
    thinkings: Labelled
    cluster_weights: NDArray[np.float64]

    @property
    def groups(self) -> Groups:
        """Who shares a query and who an answer."""
        return self.free.groups

    @property
    def labelled(self) -> IntVector:
        """int64 [L]: rows of the labelled rollouts."""
        return np.flatnonzero(np.isfinite(self.reward))


def labelled_part(snapshot: Snapshot, reward: FloatVector, reliability: ReliabilityModel) -> LabelledPart:
    """Cut the labelled part out of a memory.

    Args:
        reward: float64 [T], NaN where there is no label or it is hidden.
        reliability: predicts the reliability of its rollouts.

    Raises:
        ModelError: as many rewards as rollouts were not given, or one lies outside 0..1.
    """
    check_rewards(snapshot, reward)
    known = np.isfinite(reward)
    query = query_of_thinkings(snapshot)
    keep = np.zeros(snapshot.queries.num_rows, np.bool_)
    keep[query[known]] = True
    part = subgraph(snapshot, snapshot.queries["id"].to_numpy()[keep].tolist())
    check_vectors(part)
    whole, rows = cached_group_features(snapshot), np.flatnonzero(keep[query])
    free = with_reliability(part, reliability, group_features(part) if whole is None else whole.take(rows))
    inside = reward[rows]
    queries, thinkings = (find(part, inside, free.groups) for find in (labelled_queries, labelled_thinkings))
    return LabelledPart(part, inside, free, queries, thinkings, _cluster_weights(free, inside))


def _cluster_weights(free: LabelFree, reward: FloatVector) -> NDArray[np.float64]:
    """By labels less the mean of their query's, float64 [folds, K]."""
    rows = np.flatnonzero(np.isfinite(reward))
    target = reward[rows] - Partition.of(free.groups.query_of[rows]).mean(reward[rows])
    return free.reliability.clusters.vote_weights(free.membership[rows], target, free.fold[rows])


def check_rewards(snapshot: Snapshot, reward: FloatVector) -> None:
    """Raise ModelError where labels do not fit a snapshot: as many as it has rollouts, in 0..1 or NaN."""
    if reward.shape != (snapshot.thinkings.num_rows,):
        raise ModelError(f"{reward.size} rewards do not fit a snapshot of {snapshot.thinkings.num_rows} rollouts")
    known = reward[np.isfinite(reward)]
    if len(known) and (known.min() < 0.0 or known.max() > 1.0):
        raise ModelError("a label lies outside 0..1; correct it in the memory with `memstore label`")


def check_vectors(snapshot: Snapshot) -> None:
    """Raise ModelError where a vector holds a NaN or an infinity, naming its node."""
    for table, x in ((snapshot.queries, snapshot.query_x), (snapshot.thinkings, snapshot.thinking_x)):
        # A sum is finite only if every component is: one pass, no mask of the matrix's size.
        broken = ~np.isfinite(x.sum(axis=1))
        if broken.any():
            node = table["id"][int(broken.argmax())].as_py()
            raise ModelError(f"the vector of {node} is not finite; run `memstore verify --repair` to embed it anew")


class Target(NamedTuple):
    """Groups to be read: `free` is a function of each group alone, `near` is made of the labels near it."""

    snapshot: Snapshot
    free: LabelFree
    near: FeatureTable
    places: list[str]
    near_query: Nearest
    near_thinking: Nearest


def read_target(snapshot: Snapshot, part: LabelledPart) -> Target:
    """Features of a snapshot's rollouts against the labelled part of a memory; own queries are left out by id."""
    check_vectors(snapshot)
    free = part.free if snapshot is part.snapshot else with_reliability(snapshot, part.free.reliability)
    groups = free.groups
    owner = pc.index_in(snapshot.queries["id"], value_set=part.snapshot.queries["id"].combine_chunks())
    query = owner.fill_null(-1).to_numpy().astype(np.int64)
    near_query, near_thinking = nearest_labelled(
        part.queries, part.thinkings, rows_of(snapshot, groups, query), NEIGHBOURS
    )
    labels = label_table(
        groups,
        LabelsNear(*part.queries.mean_label(near_query)),
        LabelsNear(*part.thinkings.mean_label(near_thinking)),
    )
    weight = np.einsum("tk,tk->t", free.membership, part.cluster_weights[free.fold])
    labels = labels.concat(cluster_votes_table(groups, weight))
    return Target(snapshot, free, labels, places_of(snapshot, groups), near_query, near_thinking)


def places_of(snapshot: Snapshot, groups: Groups) -> list[str]:
    """`domain/dataset` of each rollout; a query without a domain is `other`."""
    domain = snapshot.queries["domain"].fill_null("other").to_pylist()
    dataset = snapshot.queries["dataset"].fill_null("").to_pylist()
    place = [f"{d}/{s}" for d, s in zip(domain, dataset, strict=True)]
    return [place[query] for query in groups.query_of.tolist()]


@dataclass(frozen=True)
class Projection:
    """Principal directions of a memory's vectors: mean float32 [D], basis float32 [D, P]."""

    mean: NDArray[np.float32]
    basis: FloatMatrix

    def apply(self, x: FloatMatrix, known: BoolVector) -> FloatMatrix:
        """float32 [N, P]; zero for a node without a vector."""
        return np.where(known[:, None], (x - self.mean) @ self.basis, 0.0).astype(np.float32)


def fit_projection(part: LabelledPart, width: int) -> Projection:
    """Directions of the labelled part's thinkings and queries; no label is read."""
    snapshot = part.snapshot
    x = np.concatenate((snapshot.query_x[snapshot.query_has_x], snapshot.thinking_x[snapshot.thinking_has_x]))
    x = x[:: max(1, len(x) // PROJECTION_ROWS)].astype(np.float64)
    dimension = snapshot.thinking_x.shape[1]
    if not len(x):
        return Projection(np.zeros(dimension, np.float32), np.zeros((dimension, min(width, dimension)), np.float32))
    mean = x.mean(axis=0)
    variance, direction = np.linalg.eigh((x - mean).T @ (x - mean) / len(x))
    kept = slice(max(0, dimension - width), dimension)
    scale = PROJECTED_SCALE / np.sqrt(max(float(variance[kept].mean()), 1e-12))
    return Projection(mean.astype(np.float32), np.ascontiguousarray(direction[:, kept] * scale, np.float32))


def group_tensors(
    target: Target, scale: Scale, near_scale: Scale, projection: Projection, device: torch.device
) -> GroupTensors:
    """A target as the network reads it, on a device."""
    snapshot, groups = target.snapshot, target.free.groups

    def put(array: NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device)

    def near(found: Nearest) -> Neighbours:
        return Neighbours(put(found.position), put(found.cosine), put(found.present))

    return GroupTensors(
        features=put(scale.standardise(target.free.table).astype(np.float32)),
        near_labels=put(near_scale.standardise(target.near).astype(np.float32)),
        thinking_x=put(projection.apply(snapshot.thinking_x, snapshot.thinking_has_x)),
        query_x=put(projection.apply(snapshot.query_x, snapshot.query_has_x)),
        query=put(groups.query_of),
        answer=put(groups.answer.cell),
        answers=len(groups.answer.count),
        near_thinking=near(target.near_thinking),
        near_query=near(target.near_query),
    )
