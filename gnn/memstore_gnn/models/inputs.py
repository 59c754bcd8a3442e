"""Inputs of the model: features, projected vectors and labelled neighbours, computed from a snapshot.

`LabelledPart` is the memory's labelled queries with all of their rollouts, and the only source of labels. A `Target` is
any snapshot whose groups are to be predicted: the labelled part itself (in training), the rest of the memory, or
rollouts that are not in the memory. The target's own labels are never read.
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
from memstore_gnn.models.network import GroupTensors, NeighbourTensors
from memstore_gnn.models.settings import ProjectionSettings

PROJECTION = ProjectionSettings()


@dataclass(frozen=True)
class LabelledPart:
    """Labelled queries of a memory with all of their rollouts.

    Attributes:
        snapshot: these queries and rollouts only.
        reward: float64 [T], NaN for a rollout without a label.
        free: label-free features of the rollouts.
        queries, thinkings: the labelled nodes that have a vector.
        cluster_weights: float64 [folds, K], weight of each author cluster's votes
            (`memstore_gnn.features.author_clusters`).
    """

    snapshot: Snapshot
    reward: FloatVector
    free: LabelFree
    queries: Labelled
    thinkings: Labelled
    cluster_weights: NDArray[np.float64]

    @property
    def groups(self) -> Groups:
        """Partitions of the rollouts by query and by answer."""
        return self.free.groups

    @property
    def labelled(self) -> IntVector:
        """Rows of the labelled rollouts, int64 [L]."""
        return np.flatnonzero(np.isfinite(self.reward))


def labelled_part(snapshot: Snapshot, reward: FloatVector, reliability: ReliabilityModel) -> LabelledPart:
    """Select the labelled part of a memory.

    Args:
        reward: float64 [T], NaN for a rollout whose label is missing or hidden.
        reliability: model of the rollouts' reliability.

    Raises:
        ModelError: `reward` has another length than the snapshot has rollouts, or a label outside 0..1; or a vector is
            not finite.
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
    """Weights of the author clusters' votes, float64 [folds, K], fitted to labels less their query's mean."""
    rows = np.flatnonzero(np.isfinite(reward))
    target = reward[rows] - Partition.of(free.groups.query_of[rows]).mean(reward[rows])
    return free.reliability.clusters.vote_weights(free.membership[rows], target, free.fold[rows])


def check_rewards(snapshot: Snapshot, reward: FloatVector) -> None:
    """Raise ModelError unless there is one label for each rollout of a snapshot, in 0..1 or NaN."""
    if reward.shape != (snapshot.thinkings.num_rows,):
        raise ModelError(f"{reward.size} rewards do not fit a snapshot of {snapshot.thinkings.num_rows} rollouts")
    known = reward[np.isfinite(reward)]
    if len(known) and (known.min() < 0.0 or known.max() > 1.0):
        raise ModelError("a label is outside 0..1; correct it in the memory with `memstore label`")


def check_vectors(snapshot: Snapshot) -> None:
    """Raise ModelError, with the id of the node, if a vector contains a NaN or an infinity."""
    for table, x in ((snapshot.queries, snapshot.query_x), (snapshot.thinkings, snapshot.thinking_x)):
        # A sum is finite only if every component is. This needs one pass and no mask of the matrix's size.
        broken = ~np.isfinite(x.sum(axis=1))
        if broken.any():
            node = table["id"][int(broken.argmax())].as_py()
            raise ModelError(f"the vector of {node} is not finite; run `memstore verify --repair` to embed it again")


class Target(NamedTuple):
    """Groups to be predicted.

    Attributes:
        free: label-free features, a function of each group alone.
        near: features made from the labels near each rollout.
        strata: `domain/dataset` of each rollout, [T].
        near_query, near_thinking: labelled neighbours of the queries and of the thinkings.
    """

    snapshot: Snapshot
    free: LabelFree
    near: FeatureTable
    strata: list[str]
    near_query: Nearest
    near_thinking: Nearest


def read_target(snapshot: Snapshot, part: LabelledPart) -> Target:
    """Compute the features of a snapshot's rollouts; labels of a rollout's own query, matched by id, are left out."""
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
    cluster_votes = np.einsum("tk,tk->t", free.membership, part.cluster_weights[free.fold])
    labels = labels.concat(cluster_votes_table(groups, cluster_votes))
    return Target(snapshot, free, labels, strata_of(snapshot, groups), near_query, near_thinking)


def strata_of(snapshot: Snapshot, groups: Groups) -> list[str]:
    """Stratum `domain/dataset` of each rollout; a query without a domain counts as `other`."""
    domain = snapshot.queries["domain"].fill_null("other").to_pylist()
    dataset = snapshot.queries["dataset"].fill_null("").to_pylist()
    stratum = [f"{d}/{s}" for d, s in zip(domain, dataset, strict=True)]
    return [stratum[query] for query in groups.query_of.tolist()]


@dataclass(frozen=True)
class Projection:
    r"""Projection of vectors on the principal directions of a memory: :math:`(x - \mu) B`.

    Attributes:
        mean: float32 [D].
        basis: float32 [D, P], scaled so that projected components have the root mean square of `ProjectionSettings`.
    """

    mean: NDArray[np.float32]
    basis: FloatMatrix

    def apply(self, x: FloatMatrix, known: BoolVector) -> FloatMatrix:
        """Project vectors float32 [N, D] to float32 [N, P]; zero for a node without a vector (`known` is bool [N])."""
        return np.where(known[:, None], (x - self.mean) @ self.basis, 0.0).astype(np.float32)


def fit_projection(part: LabelledPart, width: int) -> Projection:
    """Fit to the vectors of the labelled part's thinkings and queries, without reading a label."""
    snapshot = part.snapshot
    x = np.concatenate((snapshot.query_x[snapshot.query_has_x], snapshot.thinking_x[snapshot.thinking_has_x]))
    x = x[:: max(1, len(x) // PROJECTION.max_vectors)].astype(np.float64)
    dimension = snapshot.thinking_x.shape[1]
    if not len(x):
        return Projection(np.zeros(dimension, np.float32), np.zeros((dimension, min(width, dimension)), np.float32))
    mean = x.mean(axis=0)
    variance, direction = np.linalg.eigh((x - mean).T @ (x - mean) / len(x))
    kept = slice(max(0, dimension - width), dimension)
    scale = PROJECTION.component_rms / np.sqrt(max(float(variance[kept].mean()), 1e-12))
    return Projection(mean.astype(np.float32), np.ascontiguousarray(direction[:, kept] * scale, np.float32))


def group_tensors(
    target: Target, scale: Scale, near_scale: Scale, projection: Projection, device: torch.device
) -> GroupTensors:
    """Convert a target to tensors on a device."""
    snapshot, groups = target.snapshot, target.free.groups

    def put(array: NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device)

    def near(found: Nearest) -> NeighbourTensors:
        return NeighbourTensors(put(found.position), put(found.cosine), put(found.present))

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
