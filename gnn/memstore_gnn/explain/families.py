"""Group the features that a model reads in a rollout's own text into families, and mask one family of a model's inputs.

Features of votes and of labels belong to no family: they are removed with the rollouts and labels that they come from.
A masked model reads every feature of the family as the training memory's mean, which is zero after standardisation.
The states of the memory are not changed; only the features of the scored rollouts are masked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from memstore_gnn.models.reward_model import RewardModel

VECTORS, OTHER = "vectors", "other features"

VOTES = (
    "share", "others_share", "smoothed_share", "log_votes", "majority", "distinct", "log_distinct", "first_share",
    "second_share", "lead", "entropy", "pair_agreement", "rank", "log_size", "answered", "own_share", "skill",
)  # fmt: skip
"""Prefixes of the features of votes."""
PREFIXES: Mapping[str, tuple[str, ...]] = {
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
"""Families of the features of texts by prefix of the name; other names belong to `OTHER`."""


def family_of(name: str) -> str | None:
    """Family of a label-free feature: that of the longest matching prefix; None for a feature of votes."""
    prefixes = [(p, None) for p in VOTES] + [(p, family) for family, own in PREFIXES.items() for p in own]
    fitting = [(len(prefix), family) for prefix, family in prefixes if name.startswith(prefix)]
    return max(fitting, key=lambda one: one[0])[1] if fitting else OTHER


def families(model: RewardModel) -> dict[str, int]:
    """Families that a model reads, with their number of columns, in the order of `PREFIXES`."""
    columns = Counter(map(family_of, model.base.scale.names))
    return {family: columns[family] for family in (*PREFIXES, OTHER) if columns[family]}


def masked(model: RewardModel, family: str) -> RewardModel:
    """The model with one family of features masked."""
    scale = model.base.scale
    dropped = np.array([family_of(name) == family for name in scale.names], np.bool_)
    scale = replace(scale, deviation=np.where(dropped, np.inf, scale.deviation))
    return replace(model, base=replace(model.base, scale=scale))
