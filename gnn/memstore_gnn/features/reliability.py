"""Reliability: predict without labels how often rollouts written like this one agree with their group.

A ridge regression maps how a rollout is written to the share of the other rollouts of its group that gave the same
answer (less the group's mean), over all rollouts of a memory. The inputs are the words and punctuation of the
thinking and binned text features: length, wording, equations that hold, a shown example that fails. The prediction
is the rollout's reliability, r. Votes weighted by

    w = exp(INVERSE_TEMPERATURE * (r - mean of r over the group))

are a better consensus than plain votes where some policies write more reliable rollouts than others. The regression
is fitted a second time to the weighted votes. If wording explains little of the agreement, r is shrunk towards zero:
a weak regression adds noise to the consensus. The policy's name is not read.

Invariant: a rollout's reliability comes from a model that no vote of its query was fitted to (folds by query id),
except for `shrinkage`, one number for the whole memory. A new group and one of the memory are treated alike.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, hstack

from memstore.runtime.threads import in_threads
from memstore.snapshots.snapshot import Snapshot
from memstore.types import BoolVector, FloatVector, IntVector
from memstore_gnn.data.groups import Groups, share_logit
from memstore_gnn.data.table import FeatureTable
from memstore_gnn.features.author_clusters import CLUSTERS, AuthorClusterModel, fit_author_clusters
from memstore_gnn.features.outline import answer_texts
from memstore_gnn.features.words import BLOCK, Words

FOLDS = 5
"""Folds of the cross-fitting, by query id."""
BUCKETS = 2**15
"""Hash buckets of words and word pairs."""
ROUNDS = 2
"""Fits of the regression: to plain votes, then to the votes that the first fit weighs."""
SHRINKAGE_GAIN = 4.0
"""Factor from explained variance to `shrinkage`: a regression that explains a quarter of the variance is not shrunk."""
MAX_ROLLOUTS = 20_000
"""Rollouts that one fold's regression is fitted to; more add time and no accuracy."""
MOST_READ = 50_000
"""Rollouts of a memory whose words are in memory at once for the fit; of a larger memory, some queries are drawn."""
RIDGE_PENALTY = 5.0
"""L2 penalty of the regression."""
INVERSE_TEMPERATURE = 8.0
"""Inverse temperature of the vote weights, see the module's docstring."""
BINS = 10
"""Quantile bins of each text feature."""
BIN_WEIGHT = 0.15
"""Value of a bin's indicator; the word vector has unit length."""
TEXT_LIMIT = 3000
"""Characters read, from the end of the text."""
INPUTS = (
    "doubt", "conclusion", "markup", "options_named", "ends", "repetition", "words_per_line", "first_person",
    "query_words", "option_last", "option_share", "equations", "equation_errors", "any_equation_wrong",
    "log_length", "length_z", "steps", "answer_log_length", "query_numbers", "new_numbers", "integer", "fraction",
    "negative", "log_nodes", "returns", "loops", "branches", "comment_share", "empty_body", "parses", "failed_any",
    "passed", "raises",
)  # fmt: skip
"""Text features that the regression reads, plain and less the group's mean."""
CLUSTER_VOTES = "hand_votes"
"""Column of `cluster_votes_table`; the name is stored in checkpoints."""
_words = Words(BUCKETS)


@dataclass(frozen=True)
class ReliabilityModel:
    """Predicts the reliability of new rollouts.

    Attributes:
        names: the text features that are binned, [C].
        edges: float32 [C, BINS - 1], ascending bin edges.
        weights: float32 [FOLDS, BUCKETS + C * BINS], regression weights fitted without each fold.
        clusters: assigns rollouts to author clusters.
    """

    names: tuple[str, ...]
    edges: NDArray[np.float32]
    weights: NDArray[np.float32]
    clusters: AuthorClusterModel

    def predict(self, texts: Sequence[str], numbers: FeatureTable, groups: Groups, fold: IntVector) -> Reliability:
        """Predict for each rollout.

        Args:
            texts: of `texts_of`.
            numbers: label-free features, `names` among them.
            fold: int64 [T], the fold of each rollout's query, of `folds_of`.
        """
        numbers, reliability = numbers.select(self.names), np.zeros(len(texts))
        style = np.zeros((len(texts), self.clusters.project.shape[1]))
        for start in range(0, len(texts), BLOCK):
            rows = np.arange(start, min(start + BLOCK, len(texts)))
            inputs = _inputs(texts[start : start + BLOCK], numbers.rows(rows), self.edges)
            reliability[rows] = _apply(self.weights, inputs, fold[rows])
            style[rows] = self.clusters.style(inputs, BUCKETS)
        return Reliability(reliability, self.clusters.membership(style, groups, fold))


def input_names(names: Sequence[str]) -> list[str]:
    """Select the features that the regression reads: those of the rollout's own text, none of the group's votes."""
    wanted = {form for name in INPUTS for form in (name, name + "-group")}
    return [name for name in names if name in wanted]


def _inputs(texts: Sequence[str], numbers: FeatureTable, edges: NDArray[np.float32]) -> csr_matrix:
    """Log counts of words and pairs at unit length, then bin indicators; sparse [T, BUCKETS + C * BINS]."""
    from sklearn.preprocessing import normalize

    rows, columns = numbers.values.shape
    if not rows:
        return csr_matrix((0, BUCKETS + columns * BINS))
    words = _words.count([text[-TEXT_LIMIT:] for text in texts])
    words.data = np.log1p(words.data)
    bins = np.empty((rows, columns), np.int64)
    for c in range(columns):
        bins[:, c] = np.searchsorted(edges[c], numbers.values[:, c], side="right") + c * BINS
    starts = np.arange(rows + 1) * columns
    indicators = csr_matrix((np.full(bins.size, BIN_WEIGHT), bins.ravel(), starts), shape=(rows, columns * BINS))
    return hstack([normalize(words), indicators]).tocsr()


def _apply(weights: NDArray[np.float32], inputs: csr_matrix, fold: IntVector) -> FloatVector:
    out = np.zeros(inputs.shape[0])
    for model in np.unique(fold):
        rows = fold == model
        out[rows] = inputs[rows] @ weights[model]
    return out


def texts_of(snapshot: Snapshot) -> list[str]:
    """Text of each rollout: its thinking, or its answer if the thinking is blank."""
    thinkings: list[str] = snapshot.thinkings["text"].fill_null("").to_pylist()
    return [t if t.strip() else a for t, a in zip(thinkings, answer_texts(snapshot).to_pylist(), strict=True)]


def folds_of(snapshot: Snapshot) -> IntVector:
    """Fold of each query, int64 [Q]: a hash of its id, so that a query has the same fold in every snapshot."""
    ids: list[str] = snapshot.queries["id"].to_pylist()
    digests = [hashlib.blake2b(key.encode(), digest_size=4).digest() for key in ids]
    return np.array([int.from_bytes(digest, "big") % FOLDS for digest in digests], np.int64)


class Reliability(NamedTuple):
    """Prediction for each rollout: reliability float64 [T], author cluster membership float64 [T, K]."""

    reliability: FloatVector
    membership: NDArray[np.float64]


class FittedReliability(NamedTuple):
    """A model, and its out-of-fold predictions for the rollouts that it was fitted to."""

    model: ReliabilityModel
    reliability: FloatVector
    membership: NDArray[np.float64]


def fit_reliability(texts: Sequence[str], numbers: FeatureTable, groups: Groups, fold: IntVector) -> FittedReliability:
    """Fit to a memory's rollouts.

    Args:
        texts: of `texts_of`.
        numbers: label-free features, those of `input_names` among them.
        fold: int64 [T], the fold of each rollout's query.
    """
    rows = _sample(groups, np.ones(len(texts), np.bool_), MOST_READ)
    if len(rows) == len(texts):
        return _fit_to(texts, numbers, groups, fold)
    read = [texts[row] for row in rows.tolist()]
    model = _fit_to(read, numbers.rows(rows), groups.take(rows), fold[rows]).model
    return FittedReliability(model, *model.predict(texts, numbers, groups, fold))


def _fit_to(texts: Sequence[str], numbers: FeatureTable, groups: Groups, fold: IntVector) -> FittedReliability:
    """Fit to all of these rollouts; the arguments are those of `fit_reliability`."""
    numbers = numbers.select(input_names(numbers.names))
    levels = np.arange(1, BINS) / BINS
    edges: NDArray[np.float32] = (
        np.quantile(numbers.values, levels, axis=0).T.astype(np.float32)
        if len(numbers)
        else np.zeros((len(numbers.names), BINS - 1), np.float32)
    )
    inputs = _inputs(texts, numbers, edges)
    weights = np.stack(in_threads(lambda model: _fit_without(inputs, groups, fold != model), range(FOLDS)))
    reliability = _apply(weights, inputs, fold)
    factor = shrinkage(groups, reliability)
    others = weighted_votes(groups, np.zeros(len(reliability)))[1]
    clusters = fit_author_clusters(inputs, BUCKETS, groups, fold, FOLDS, others - groups.query.mean(others))
    fitted = ReliabilityModel(numbers.names, edges, weights * np.float32(factor), clusters.model)
    return FittedReliability(fitted, reliability * factor, clusters.membership)


def shrinkage(groups: Groups, reliability: FloatVector) -> float:
    """Factor 0..1 on the reliability: `SHRINKAGE_GAIN` * R^2 of the held-out fit to plain votes within groups."""
    others = weighted_votes(groups, np.zeros(len(reliability)))[1]
    votes, predicted = others - groups.query.mean(others), reliability - groups.query.mean(reliability)
    scale = float((votes @ votes) * (predicted @ predicted))
    if scale <= 0 or votes @ predicted <= 0:
        return 0.0
    return min(1.0, SHRINKAGE_GAIN * float(votes @ predicted) ** 2 / scale)


def _sample(groups: Groups, wanted: BoolVector, most: int) -> IntVector:
    """Rows of the wanted rollouts, whole groups, about `most` at most."""
    rows = np.flatnonzero(wanted)
    if len(rows) <= most:
        return rows
    kept = np.random.default_rng(0).random(len(groups.query.count)) < most / len(rows)
    return rows[kept[groups.query.cell[rows]]]


def _fit_without(inputs: csr_matrix, groups: Groups, wanted: BoolVector) -> NDArray[np.float32]:
    """Regression weights of one fold's model, fitted to the wanted rollouts (bool [T])."""
    rows, weights = _sample(groups, wanted, MAX_ROLLOUTS), np.zeros(inputs.shape[1], np.float32)
    part = inputs[rows]
    for _ in range(ROUNDS):
        target = weighted_votes(groups, inputs @ weights)[1]
        weights = _fit(part, (target - groups.query.mean(target))[rows])
    return weights


def _fit(inputs: csr_matrix, target: FloatVector) -> NDArray[np.float32]:
    from sklearn.linear_model import Ridge

    if not target.any():
        return np.zeros(inputs.shape[1], np.float32)
    ridge = Ridge(alpha=RIDGE_PENALTY, solver="sparse_cg", tol=1e-3, fit_intercept=False)
    return np.asarray(ridge.fit(inputs, target).coef_, np.float32)


def weighted_votes(groups: Groups, reliability: FloatVector) -> tuple[FloatVector, FloatVector]:
    """Share of the weighted votes for a rollout's answer, with its own vote and without it; float64 [T] each."""
    relative = reliability - groups.query.mean(reliability)
    weight = np.exp(np.clip(INVERSE_TEMPERATURE * relative, -8.0, 8.0))
    total = groups.query.sums(weight)[groups.query.cell]
    own = np.where(groups.answered, groups.answer.sums(weight)[groups.answer.cell], 0.0)
    others = np.maximum(own - np.where(groups.answered, weight, 0.0), 0.0)
    alone = groups.query.size == 1
    return own / total, np.where(alone, 0.0, others / np.where(alone, 1.0, np.maximum(total - weight, 1e-12)))


def reliability_table(groups: Groups, reliability: FloatVector) -> FeatureTable:
    """Features of the reliability and the weighted votes, float32 [T, 8]. Their names are stored in checkpoints."""
    relative = reliability - groups.query.mean(reliability)
    share, others = weighted_votes(groups, reliability)
    best = groups.query.maximum(share)
    return FeatureTable.from_columns(
        {
            "skill": relative,
            "skill@answer": groups.answer.mean(relative),
            "skilled_share": share,
            "skilled_logit": share_logit(share, groups.query.size),
            "skilled_others": others,
            "skilled_first": best,
            "skilled_margin": share - best,
            "skilled_majority": groups.answered & (share >= best),
        },
        len(reliability),
    )


def cluster_votes_table(groups: Groups, weight: FloatVector) -> FeatureTable:
    """Log odds of the votes weighted by author cluster, less those of plain votes: float32 [T, 1].

    Args:
        weight: float64 [T], the vote weight of each rollout's cluster.
    """
    share, size = weighted_votes(groups, CLUSTERS.vote_weight_scale * weight)[0], groups.query.size
    moved = groups.answer.mean(share_logit(share, size) - share_logit(groups.share, size))
    return FeatureTable.from_columns({CLUSTER_VOTES: moved}, len(weight))
