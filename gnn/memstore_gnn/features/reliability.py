"""How far a way of writing can be trusted, learned without a label: do those who write so agree?

A ridge regression from the words and marks of a thinking, and from numbers about it (length, wording, equations that
hold, a shown example that fails) cut into bins, to the share of siblings that gave the same answer (less the group's
mean), over all rollouts of a memory. What it predicts of a rollout is its skill. Votes weighted by exp(skill) are a
better consensus than plain ones wherever some rollouts are written by a better hand than others, and the regression
is fitted a second time to those. Where wording tells little about agreement, weights are drawn towards equal ones: a
weak regression makes consensus noisier, not better. Who wrote a rollout is never looked at, only how.

Invariant: a rollout's skill comes from a model that no vote of its query has had a part in (folds by query id), but
for `reliability`, one number of the whole memory; so a new group and one of the memory are treated alike.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, hstack
from sklearn.linear_model import Ridge
from sklearn.preprocessing import normalize

from memstore.snapshots.snapshot import Snapshot
from memstore.types import BoolVector, FloatVector, IntVector
from memstore_gnn.data.groups import Groups, share_logit
from memstore_gnn.data.table import FeatureTable
from memstore_gnn.features.author_clusters import STRENGTH, StyleModel, fit_style
from memstore_gnn.features.outline import answer_texts
from memstore_gnn.features.words import BLOCK, Words

FOLDS = 5
BUCKETS = 2**15
ROUNDS = 2
"""Of fitting: to plain votes, then to the votes as the first fit weighs them."""
RELIABLE = 4.0
"""A skill that explains a quarter of the variance is taken at its word."""
MOST = 20_000
PENALTY = 5.0
SHARPNESS = 8.0
"""Weight of a vote: exp(sharpness x skill)."""
BINS = 10
BIN_WEIGHT = 0.15
"""Length of a bin's indicator beside the words' unit length."""
LIMIT = 3000
"""Characters of a text that are read, its end."""
INPUTS = (
    "doubt", "conclusion", "markup", "options_named", "ends", "repetition", "words_per_line", "first_person",
    "query_words", "option_last", "option_share", "equations", "equation_errors", "any_equation_wrong",
    "log_length", "length_z", "steps", "answer_log_length", "query_numbers", "new_numbers", "integer", "fraction",
    "negative", "log_nodes", "returns", "loops", "branches", "comment_share", "empty_body", "parses", "failed_any",
    "passed", "raises",
)  # fmt: skip
HAND_VOTES = "hand_votes"
"""The feature of `hand_table`."""
_words = Words(BUCKETS)


@dataclass(frozen=True)
class SkillModel:
    """A fitted regression: what a new group is scored with.

    Attributes:
        names: the numbers that are cut into bins, [C].
        edges: float32 [C, BINS - 1], ascending.
        weights: float32 [FOLDS, BUCKETS + C x BINS], fitted without each fold.
        style: recognises hands, see `features.styles`.
    """

    names: tuple[str, ...]
    edges: NDArray[np.float32]
    weights: NDArray[np.float32]
    style: StyleModel

    def read(self, texts: Sequence[str], numbers: FeatureTable, groups: Groups, fold: IntVector) -> Hand:
        """Of each rollout. `fold` is the model that each row takes: that of its query (`folds_of`)."""
        numbers, skill = numbers.select(self.names), np.zeros(len(texts))
        along = np.zeros((len(texts), self.style.project.shape[1]))
        for start in range(0, len(texts), BLOCK):
            rows = np.arange(start, min(start + BLOCK, len(texts)))
            inputs = _inputs(texts[start : start + BLOCK], numbers.rows(rows), self.edges)
            skill[rows] = _apply(self.weights, inputs, fold[rows])
            along[rows] = self.style.along(inputs, BUCKETS)
        return Hand(skill, self.style.read(along, groups, fold))


def skill_inputs(names: Sequence[str]) -> list[str]:
    """Those of the label-free features that a skill is learned from: how it is written, not what others wrote."""
    wanted = {form for name in INPUTS for form in (name, name + "-group")}
    return [name for name in names if name in wanted]


def _inputs(texts: Sequence[str], numbers: FeatureTable, edges: NDArray[np.float32]) -> csr_matrix:
    """Words, marks and their pairs, damped and of unit length; then the bins. Sparse [T, BUCKETS + C x BINS]."""
    rows, columns = numbers.values.shape
    if not rows:
        return csr_matrix((0, BUCKETS + columns * BINS))
    words = _words.count([text[-LIMIT:] for text in texts])
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
    """What each rollout wrote: its thinking, or its answer where that is blank."""
    thinkings: list[str] = snapshot.thinkings["text"].fill_null("").to_pylist()
    return [t if t.strip() else a for t, a in zip(thinkings, answer_texts(snapshot).to_pylist(), strict=True)]


def folds_of(snapshot: Snapshot) -> IntVector:
    """int64 [Q]: the fold of each query, by its id alone."""
    ids: list[str] = snapshot.queries["id"].to_pylist()
    digests = [hashlib.blake2b(key.encode(), digest_size=4).digest() for key in ids]
    return np.array([int.from_bytes(digest, "big") % FOLDS for digest in digests], np.int64)


class Hand(NamedTuple):
    """How rollouts are written: raw skill float64 [T], and whose hand it is, float64 [T, K]."""

    skill: FloatVector
    hands: NDArray[np.float64]


class FittedSkill(NamedTuple):
    """A model, and what it says of the rollouts it was fitted to, each without its own query's fold."""

    model: SkillModel
    skill: FloatVector
    hands: NDArray[np.float64]


def fit_skill(texts: Sequence[str], numbers: FeatureTable, groups: Groups, fold: IntVector) -> FittedSkill:
    """Fit to a memory's rollouts.

    Args:
        numbers: label-free features, `skill_inputs` among them.
        fold: int64 [T].
    """
    numbers = numbers.select(skill_inputs(numbers.names))
    levels = np.arange(1, BINS) / BINS
    edges: NDArray[np.float32] = (
        np.quantile(numbers.values, levels, axis=0).T.astype(np.float32)
        if len(numbers)
        else np.zeros((len(numbers.names), BINS - 1), np.float32)
    )
    inputs = _inputs(texts, numbers, edges)
    weights = np.zeros((FOLDS, inputs.shape[1]), np.float32)
    for model in range(FOLDS):
        rows = _sample(groups, fold != model)
        for _ in range(ROUNDS):
            target = weighted_votes(groups, inputs @ weights[model])[1]
            weights[model] = _fit(inputs[rows], (target - groups.query.mean(target))[rows])
    skill = _apply(weights, inputs, fold)
    trust = reliability(groups, skill)
    others = weighted_votes(groups, np.zeros(len(skill)))[1]
    style = fit_style(inputs, BUCKETS, groups, fold, FOLDS, others - groups.query.mean(others))
    fitted = SkillModel(numbers.names, edges, weights * np.float32(trust), style.model)
    return FittedSkill(fitted, skill * trust, style.hands)


def reliability(groups: Groups, skill: FloatVector) -> float:
    """0..1: `RELIABLE` times the share of the plain votes' variance inside groups that held-out skill explains."""
    others = weighted_votes(groups, np.zeros(len(skill)))[1]
    votes, guess = others - groups.query.mean(others), skill - groups.query.mean(skill)
    scale = float((votes @ votes) * (guess @ guess))
    return min(1.0, RELIABLE * float(votes @ guess) ** 2 / scale) if scale > 0 and votes @ guess > 0 else 0.0


def _sample(groups: Groups, wanted: BoolVector) -> IntVector:
    """Rollouts of the wanted, whole groups, about `MOST` at most: more add time and no skill."""
    rows = np.flatnonzero(wanted)
    if len(rows) <= MOST:
        return rows
    kept = np.random.default_rng(0).random(len(groups.query.count)) < MOST / len(rows)
    return rows[kept[groups.query.cell[rows]]]


def _fit(inputs: csr_matrix, target: FloatVector) -> NDArray[np.float32]:
    if not target.any():
        return np.zeros(inputs.shape[1], np.float32)
    ridge = Ridge(alpha=PENALTY, solver="sparse_cg", tol=1e-3, fit_intercept=False)
    return np.asarray(ridge.fit(inputs, target).coef_, np.float32)


def weighted_votes(groups: Groups, skill: FloatVector) -> tuple[FloatVector, FloatVector]:
    """Share of the weighted votes that a rollout's answer has, with its own vote and without it; float64 [T] both."""
    relative = skill - groups.query.mean(skill)
    weight = np.exp(np.clip(SHARPNESS * relative, -8.0, 8.0))
    total = groups.query.sums(weight)[groups.query.cell]
    own = np.where(groups.answered, groups.answer.sums(weight)[groups.answer.cell], 0.0)
    others = np.maximum(own - np.where(groups.answered, weight, 0.0), 0.0)
    alone = groups.query.size == 1
    return own / total, np.where(alone, 0.0, others / np.where(alone, 1.0, np.maximum(total - weight, 1e-12)))


def skill_table(groups: Groups, skill: FloatVector) -> FeatureTable:
    """Features of a raw skill."""
    relative = skill - groups.query.mean(skill)
    share, others = weighted_votes(groups, skill)
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
        len(skill),
    )


def hand_table(groups: Groups, worth: FloatVector) -> FeatureTable:
    """How far the votes, weighed by what each one's hand is worth (float64 [T]), are from plain ones, as log odds."""
    share, size = weighted_votes(groups, STRENGTH * worth)[0], groups.query.size
    moved = groups.answer.mean(share_logit(share, size) - share_logit(groups.share, size))
    return FeatureTable.from_columns({HAND_VOTES: moved}, len(worth))


def skill_features(snapshot: Snapshot, groups: Groups, numbers: FeatureTable) -> FeatureTable:
    """Fit to a snapshot and describe its rollouts, each by a model that has not seen its query: float32 [T, 8]."""
    fold = folds_of(snapshot)[groups.query_of]
    return skill_table(groups, fit_skill(texts_of(snapshot), numbers, groups, fold).skill)
