"""Author clusters: which writing style a rollout has, and how much weight the votes of each style get.

If the rollouts of a query come from different policies, each policy wrote a different rollout. This constraint is
enough to cluster writing styles without names or labels (constrained k-means):

1. A rollout's style is its words, punctuation and binned text features, less the mean of its query, projected on the
   principal directions of the memory.
2. Styles are clustered so that rollouts of one query by different policies are in different clusters (an assignment
   problem per query).
3. A ridge regression learns to predict the cluster from the style. Its softmax is the cluster membership of any
   rollout, including those of new queries.

The weight of a cluster's votes is a ridge regression on the memberships: first to how often its votes agree with
others, then, as labels arrive, to how often they are correct. That takes about a dozen coefficients where a
regression on words would take thousands.

Queries that were sampled from one policy have no clusters, and all votes weigh the same. The policy's name is not
read; only whether two rollouts of a query have the same policy.

Invariant: the membership of a rollout and the weight of its vote come from models fitted without the rollouts and
labels of its query's fold. The projection and the cluster centres are shared by all folds; they use no label.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_matrix, hstack

from memstore.types import BoolVector, FloatVector, IntVector
from memstore_gnn.data.groups import Groups, Partition
from memstore_gnn.features.settings import AuthorClusterSettings

Matrix = NDArray[np.float64]

CLUSTERS = AuthorClusterSettings()


@dataclass(frozen=True)
class AuthorClusterModel:
    """Assigns rollouts to author clusters and weighs the votes of each cluster.

    Attributes:
        project: float32 [word_buckets + bins, style_dimensions], the principal directions of style.
        scores: float32 [folds, style_dimensions, K], regression weights fitted without each fold.
        gram: float64 [folds, K, K], Gram matrix of the memberships outside each fold.
        votes: float64 [folds, K], memberships outside each fold times their agreement with other rollouts.
    """

    project: NDArray[np.float32]
    scores: NDArray[np.float32]
    gram: Matrix
    votes: Matrix

    @property
    def count(self) -> int:
        """Number of clusters, K; 0 if the memory has none."""
        return self.scores.shape[2]

    def style(self, inputs: csr_matrix, words: int) -> Matrix:
        """Project texts on the directions of style, float64 [T, style_dimensions].

        Args:
            inputs: sparse [T, words + bins].
            words: number of word buckets in `inputs`.
        """
        return _projected(_folded(inputs, words), self.project) if self.count else np.zeros((inputs.shape[0], 0))

    def membership(self, style: Matrix, groups: Groups, fold: IntVector) -> Matrix:
        """Cluster membership of rollouts, float64 [T, K]: a probability for each cluster, less 1 / K.

        Args:
            style: float64 [T, style_dimensions], from `style`.
            fold: int64 [T], the fold of each rollout's query.
        """
        if not self.count:
            return np.zeros((len(style), 0))
        relative = style - groups.query.mean(style)
        score = np.empty((len(relative), self.count))
        for model in np.unique(fold):
            rows = fold == model
            # einsum sums in a fixed order. A matrix product rounds differently for another number of rows.
            score[rows] = np.einsum("td,dk->tk", relative[rows], self.scores[model].astype(np.float64))
        return _softmax(score) - 1.0 / self.count

    def vote_weights(self, membership: Matrix, target: FloatVector, fold: IntVector) -> Matrix:
        """Fit the weight of each cluster's votes to agreement and labels outside each fold, float64 [folds, K].

        Args:
            membership: float64 [N, K], of the labelled rollouts.
            target: float64 [N], their labels less the query's mean.
            fold: int64 [N].
        """
        out = np.zeros((len(self.gram), self.count))
        for model in range(len(out)):
            rows = fold != model
            known = membership[rows]
            gram = (
                self.gram[model] + CLUSTERS.label_weight * known.T @ known + CLUSTERS.vote_penalty * np.eye(self.count)
            )
            out[model] = np.linalg.solve(gram, self.votes[model] + CLUSTERS.label_weight * known.T @ target[rows])
        return out


class FittedAuthorClusters(NamedTuple):
    """A model, and the membership float64 [T, K] of the rollouts that it was fitted to."""

    model: AuthorClusterModel
    membership: Matrix


def fit_author_clusters(
    inputs: csr_matrix, words: int, groups: Groups, fold: IntVector, folds: int, target: FloatVector
) -> FittedAuthorClusters:
    """Cluster the rollouts of a memory by author.

    Args:
        inputs: sparse [T, words + bins].
        words: number of word buckets in `inputs`.
        fold: int64 [T], less than `folds`.
        target: float64 [T], share of the other rollouts of the group that agree, less the group's mean.
    """
    count = _cluster_count(groups)
    gram, votes = np.zeros((folds, count, count)), np.zeros((folds, count))
    if not count:
        empty = AuthorClusterModel(np.zeros((0, 0), np.float32), np.zeros((folds, 0, 0), np.float32), gram, votes)
        return FittedAuthorClusters(empty, np.zeros((len(fold), 0)))
    folded, rows = _folded(inputs, words), _sample(groups)
    query = Partition.of(groups.query.cell[rows])
    project = _principal_directions(folded[rows], query)
    style = _projected(folded, project)
    relative = style[rows] - query.mean(style[rows])
    scores = _fit_scores(relative, query, groups.policy_group.size[rows] == 1, fold[rows], gram)
    membership = AuthorClusterModel(project, scores, gram, votes).membership(style, groups, fold)
    for model in range(folds):
        others = fold != model
        gram[model] = membership[others].T @ membership[others]
        votes[model] = membership[others].T @ target[others]
    return FittedAuthorClusters(AuthorClusterModel(project, scores, gram, votes), membership)


def _fit_scores(
    style: Matrix, query: Partition, alone: BoolVector, fold: IntVector, like: Matrix
) -> NDArray[np.float32]:
    """Fit the weights without each fold, float32 [folds, style_dimensions, K]; `like` has the shape [folds, K, K]."""
    folds, count = like.shape[:2]
    cluster = _constrained_kmeans(style, query, alone, count)
    scores = np.zeros((folds, style.shape[1], count), np.float32)
    for _ in range(CLUSTERS.regression_iterations):
        wanted = np.eye(count)[cluster] - 1.0 / count
        score = np.zeros((len(style), count))
        for model in range(folds):
            others = fold != model
            gram = style[others].T @ style[others] + CLUSTERS.ridge_penalty * np.eye(style.shape[1])
            scores[model] = np.linalg.solve(gram, style[others].T @ wanted[others])
            score[~others] = style[~others] @ scores[model]
        cluster = _assign(score, query, alone)
    return scores


def _cluster_count(groups: Groups) -> int:
    """Number of policies of the query that has most; 0 if the median query has fewer than `min_policies`."""
    if not len(groups.query.cell):
        return 0
    owner = np.unique(np.stack((groups.query.cell, groups.policy_group.cell)), axis=1)[0]
    policies = np.bincount(owner)
    return min(int(policies.max()), CLUSTERS.max_clusters) if np.median(policies) >= CLUSTERS.min_policies else 0


def _sample(groups: Groups) -> IntVector:
    """Rows of whole groups, about `AuthorClusterSettings.max_rollouts` at most."""
    if len(groups.query.cell) <= CLUSTERS.max_rollouts:
        return np.arange(len(groups.query.cell))
    kept = np.random.default_rng(0).random(len(groups.query.count)) < CLUSTERS.max_rollouts / len(groups.query.cell)
    return np.flatnonzero(kept[groups.query.cell])


def _folded(inputs: csr_matrix, words: int) -> csr_matrix:
    """Fold the word buckets into `AuthorClusterSettings.word_buckets`; keep the bins."""
    part = inputs[:, :words].tocoo()
    folded = csr_matrix(
        (part.data, (part.row, part.col % CLUSTERS.word_buckets)), shape=(inputs.shape[0], CLUSTERS.word_buckets)
    )
    return hstack([folded, inputs[:, words:]]).tocsr()


def _projected(folded: csr_matrix, project: NDArray[np.float32]) -> Matrix:
    return np.asarray(folded @ project.astype(np.float64))


def _principal_directions(folded: csr_matrix, query: Partition) -> NDArray[np.float32]:
    """Principal directions of style within queries, partly whitened."""
    sketch = np.random.default_rng(0).choice([-1.0, 1.0], (folded.shape[1], CLUSTERS.sketch_directions))
    sketch /= np.sqrt(CLUSTERS.sketch_directions)
    sketched = np.asarray(folded @ sketch)
    sketched = sketched - query.mean(sketched)
    variance, direction = np.linalg.eigh(sketched.T @ sketched / len(sketched))
    variance = np.maximum(variance[::-1][: CLUSTERS.style_dimensions], 1e-12)
    directions = sketch @ (direction[:, ::-1][:, : CLUSTERS.style_dimensions] / variance**CLUSTERS.whitening)
    scale = np.sqrt(float((variance ** (1.0 - 2.0 * CLUSTERS.whitening)).sum()))
    return np.asarray(directions / scale, np.float32)


def _constrained_kmeans(style: Matrix, query: Partition, alone: BoolVector, count: int) -> IntVector:
    """Cluster of each rollout, int64 [T]; starts from the rollouts of one of the largest queries."""
    largest = np.flatnonzero(query.size == query.count.max())
    start = np.flatnonzero(query.cell == query.cell[np.random.default_rng(0).choice(largest)])[:count]
    centres = style[np.resize(start, count)]
    cluster = np.zeros(len(style), np.int64)
    for _ in range(CLUSTERS.kmeans_iterations):
        cluster = _assign(2.0 * style @ centres.T - (centres**2).sum(axis=1), query, alone)
        sums = np.zeros_like(centres)
        np.add.at(sums, cluster, style)
        size = np.bincount(cluster, minlength=count)[:, None]
        centres = np.where(size > 0, sums / np.maximum(size, 1), centres)
    return cluster


def _assign(score: Matrix, query: Partition, alone: BoolVector) -> IntVector:
    """Cluster with the highest score; rollouts of one query by different policies get different clusters."""
    cluster = np.asarray(score.argmax(axis=1), np.int64)
    order = np.argsort(query.cell, kind="stable")
    for members in np.split(order, np.cumsum(query.count)[:-1]):
        apart = members[alone[members]]
        chosen, column = linear_sum_assignment(score[apart], maximize=True)
        cluster[apart[chosen]] = column
    return cluster


def _softmax(score: Matrix) -> Matrix:
    exponential = np.exp(CLUSTERS.inverse_temperature * (score - score.max(axis=1, keepdims=True)))
    return np.asarray(exponential / exponential.sum(axis=1, keepdims=True))
