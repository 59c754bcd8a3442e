"""Group features into families, and mask one family of a model's inputs.

A masked model reads every feature of the family as the training memory's mean, which is zero after standardisation.
The states of the memory are not changed; only the features of the scored rollouts are masked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from memstore_gnn.models.design import Scale
from memstore_gnn.models.reward_model import RewardModel

VOTES, SKILLED, VECTORS, LABELS, OTHER = "votes", "skilled votes", "vectors", "labels near", "other features"

PREFIXES: Mapping[str, tuple[str, ...]] = {
    VOTES: (
        "share", "others_share", "smoothed_share", "log_votes", "majority", "distinct", "log_distinct", "first_share",
        "second_share", "lead", "entropy", "pair_agreement", "rank", "log_size", "answered", "own_share",
    ),
    SKILLED: ("skill",),
    VECTORS: ("cosine", "no_vector"),
    "equations": ("equation", "any_equation"),
    "numbers": ("numbers", "query_numbers", "new_numbers", "value_", "integer", "fraction", "negative"),
    "length": ("log_length", "length_z", "steps", "answer_log_length", "no_thinking"),
    "wording": (
        "doubt", "conclusion", "markup", "option", "ends", "repetition", "words_per_line", "first_person",
        "query_words",
    ),
    "program": (
        "parses", "log_nodes", "log_code", "comment", "returns", "branches", "loops", "empty_body", "docstring",
        "same_tree",
    ),
    "behaviour": ("interpreted", "raises", "shown", "passed", "failed", "outcome"),
}  # fmt: skip
"""Families of label-free features by prefix of the name; other names belong to `OTHER`."""


def family_of(name: str) -> str:
    """Family of a label-free feature: that of the longest matching prefix."""
    fitting = [(len(p), family) for family, prefixes in PREFIXES.items() for p in prefixes if name.startswith(p)]
    return max(fitting)[1] if fitting else OTHER


def families(model: RewardModel) -> dict[str, int]:
    """Families that a model reads, with their number of columns; in the order of `PREFIXES`, labels last."""
    columns = Counter(family_of(name) for name in model.base.scale.names)
    return {family: columns[family] for family in (*PREFIXES, OTHER) if columns[family]} | {
        LABELS: len(model.base.near.names)
    }


def masked(model: RewardModel, family: str) -> RewardModel:
    """The model with one family of features masked."""
    base = model.base
    if family == LABELS:
        return replace(model, base=replace(base, near=_masked_scale(base.near, base.near.names)))
    weights = base.weights.copy()
    for column, votes in enumerate((VOTES, SKILLED)):
        if family == votes:
            weights[:, column] = 0.0
    scale = _masked_scale(base.scale, [name for name in base.scale.names if family_of(name) == family])
    projection = model.projection
    if family == VECTORS:
        projection = replace(projection, basis=np.zeros_like(projection.basis))
    return replace(model, base=replace(base, scale=scale, weights=weights), projection=projection)


def _masked_scale(scale: Scale, names: Iterable[str]) -> Scale:
    """A scale that maps these features to zero."""
    dropped = np.isin(np.array(scale.names, dtype=object), list(names))
    return replace(scale, deviation=np.where(dropped, np.inf, scale.deviation))
