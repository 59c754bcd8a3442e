"""Inputs of the base: features and labels of neighbours, computed from a snapshot.

`LabelledPart` is the memory's labelled queries with all of their rollouts, and the only source of labels. A `Target` is
any snapshot whose groups are to be predicted: the labelled part itself (in training), the rest of the memory, or
rollouts that are not in the memory. The target's own labels are never read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from memstore.errors import ModelError
from memstore.snapshots.aliases import first_datasets
from memstore.snapshots.snapshot import Snapshot
from memstore.snapshots.take import Contents
from memstore.types import FloatVector, IntVector
from memstore_gnn.data.drawn import MOST_LABELLED, draw_queries
from memstore_gnn.data.groups import Groups, Partition, query_of_thinkings
from memstore_gnn.data.hetero import subgraph
from memstore_gnn.data.neighbours import Labelled, Nearest, nearest_labelled
from memstore_gnn.data.table import FeatureTable
from memstore_gnn.features.assemble import LabelFree, cached_group_features, compute_group_features, with_reliability
from memstore_gnn.features.labels import (
    NEIGHBOURS,
    LabelsNear,
    label_table,
    labelled_queries,
    labelled_thinkings,
    rows_of,
)
from memstore_gnn.features.line_labels import LabelledLines, line_table, read_lines
from memstore_gnn.features.reliability import ReliabilityModel, cluster_votes_table


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
        lines: counts of the lines of the labelled rollouts.
    """

    snapshot: Snapshot
    reward: FloatVector
    free: LabelFree
    queries: Labelled
    thinkings: Labelled
    cluster_weights: NDArray[np.float64]
    lines: LabelledLines

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
    part, rows = labelled_subgraph(snapshot, reward)
    check_vectors(part)
    whole = cached_group_features(snapshot)
    free = with_reliability(part, reliability, compute_group_features(part) if whole is None else whole.take(rows))
    inside = reward[rows]
    queries, thinkings = (find(part, inside, free.groups) for find in (labelled_queries, labelled_thinkings))
    lines = LabelledLines.of(read_lines(part, free.groups), free.groups, inside)
    return LabelledPart(part, inside, free, queries, thinkings, _cluster_weights(free, inside), lines)


def labelled_subgraph(snapshot: Snapshot, reward: FloatVector) -> tuple[Snapshot, IntVector]:
    """Cut out the labelled queries with all of their rollouts; return them and the rows of these rollouts, int64.

    Of a large memory, some of them: see `memstore_gnn.data.drawn`.
    """
    query = query_of_thinkings(snapshot)
    keep = np.zeros(snapshot.queries.num_rows, np.bool_)
    keep[query[np.isfinite(reward)]] = True
    keep = draw_queries(snapshot, keep, MOST_LABELLED)
    rows = np.flatnonzero(keep[query])
    return (snapshot if keep.all() else subgraph(snapshot, snapshot.queries["id"].to_numpy()[keep].tolist())), rows


def labelled_contents(
    snapshot: Snapshot, reward: FloatVector, contents: Contents | None
) -> tuple[Snapshot, FloatVector]:
    """The labelled queries with texts and vectors, and their labels; the whole snapshot if it has these.

    Args:
        reward: float64 [T], NaN for a rollout whose label is missing or hidden.
        contents: adds texts and vectors to a part of the snapshot, if it is an outline.
    """
    if contents is None:
        return snapshot, reward
    part, rows = labelled_subgraph(snapshot, reward)
    return contents(part), reward[rows]


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
        near: features made from labels: those near each rollout, and those of the lines that it shares.
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
    shared = line_table(read_lines(snapshot, groups), groups, part.lines, query)
    labels = labels.concat(cluster_votes_table(groups, cluster_votes), shared)
    return Target(snapshot, free, labels, strata_of(snapshot, groups), near_query, near_thinking)


def strata_of(snapshot: Snapshot, groups: Groups) -> list[str]:
    """Stratum `domain/dataset` of each rollout; a query without a domain counts as `other`."""
    domain = snapshot.queries["domain"].fill_null("other").to_pylist()
    stratum = [f"{d}/{s}" for d, s in zip(domain, first_datasets(snapshot), strict=True)]
    return [stratum[query] for query in groups.query_of.tolist()]
