"""How far a way of writing can be trusted, learned without a label: do rollouts that are worded like this one agree
with their siblings?

A ridge regression from the words and marks of a thinking to the share of siblings that gave the same answer (less
the group's mean), over all rollouts of a memory. What it predicts of a rollout is its skill; votes weighted by
exp(skill) are a better consensus than plain ones wherever some rollouts are written by a better hand than others,
and the regression is fitted a second time to those. Who wrote a rollout is never looked at, only how.

Invariant: a rollout's skill comes from a model fitted without its query (folds by query id), so that a new group
and one of the memory are treated alike. The hashing is scikit-learn's (MurmurHash3): the same everywhere.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import Ridge
from sklearn.preprocessing import normalize

from memstore.snapshot import Snapshot
from memstore.types import FloatVector, IntVector
from memstore_gnn.features.groups import Groups
from memstore_gnn.features.outline import answer_texts
from memstore_gnn.features.table import FeatureTable

FOLDS = 5
BUCKETS = 2**15
PENALTY = 5.0
SHARPNESS = 10.0
"""Weight of a vote: exp(sharpness x skill)."""
LIMIT = 3000
"""Characters of a text that are read, its end."""
_TOKEN = r"[A-Za-z]+|[^\sA-Za-z0-9]|\n|\d"


@dataclass(frozen=True)
class SkillModel:
    """A fitted regression: what a new group is scored with.

    Attributes:
        weights: float32 [FOLDS + 1, BUCKETS]; a model without each fold, and last the one fitted to all.
    """

    weights: NDArray[np.float32]

    def skill(self, words: Any, fold: IntVector) -> FloatVector:
        """Raw skill float64 [T]. `fold` is the model that each row takes: its own fold's, or -1 for the last."""
        out = np.zeros(words.shape[0])
        for model in np.unique(fold):
            rows = fold == model
            out[rows] = words[rows] @ self.weights[model]
        return out


def words_of(texts: list[str]) -> Any:
    """Sparse [T, BUCKETS]: words, marks and their pairs, damped and of unit length."""
    hashing = HashingVectorizer(
        ngram_range=(1, 2), n_features=BUCKETS, token_pattern=_TOKEN, norm=None, alternate_sign=False, lowercase=False
    )
    words = hashing.transform(text[-LIMIT:] for text in texts)
    words.data = np.log1p(words.data)
    return normalize(words)


def texts_of(snapshot: Snapshot) -> list[str]:
    """What each rollout wrote: its thinking, or its answer where that is blank."""
    thinkings: list[str] = snapshot.thinkings["text"].fill_null("").to_pylist()
    return [t if t.strip() else a for t, a in zip(thinkings, answer_texts(snapshot).to_pylist(), strict=True)]


def folds_of(snapshot: Snapshot) -> IntVector:
    """int64 [Q]: the fold of each query, by its id alone."""
    ids: list[str] = snapshot.queries["id"].to_pylist()
    digests = [hashlib.blake2b(key.encode(), digest_size=4).digest() for key in ids]
    return np.array([int.from_bytes(digest, "big") % FOLDS for digest in digests], np.int64)


def fit_skill(words: Any, groups: Groups, fold: IntVector) -> SkillModel:
    """Fit to a memory's rollouts, twice: to plain votes and to the votes as the first fit weighs them.

    Args:
        fold: int64 [T].
    """
    target = weighted_votes(groups, np.zeros(len(fold)))[1]
    model = _fit(words, groups, target, fold)
    target = weighted_votes(groups, model.skill(words, fold))[1]
    return _fit(words, groups, target, fold)


def _fit(words: Any, groups: Groups, target: FloatVector, fold: IntVector) -> SkillModel:
    centred = target - groups.query.mean(target)
    weights = np.zeros((FOLDS + 1, words.shape[1]), np.float32)
    for model in range(FOLDS + 1):
        rows = np.flatnonzero(fold != model)
        if len(rows) and centred[rows].any():
            ridge = Ridge(alpha=PENALTY, solver="sparse_cg", tol=1e-4, fit_intercept=False)
            weights[model] = ridge.fit(words[rows], centred[rows]).coef_
    return SkillModel(weights)


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
            "skilled_others": others,
            "skilled_first": best,
            "skilled_margin": share - best,
            "skilled_majority": groups.answered & (share >= best),
        },
        len(skill),
    )


def skill_features(snapshot: Snapshot, groups: Groups) -> FeatureTable:
    """Fit to a snapshot and describe its rollouts, each by a model that has not seen its query: float32 [T, 7]."""
    words = words_of(texts_of(snapshot))
    fold = folds_of(snapshot)[groups.query_of]
    return skill_table(groups, fit_skill(words, groups, fold).skill(words, fold))
