"""Features by what they look at, and a model that is blind to one family of them.

A blind model reads every feature of the family as if it had the training memory's mean: standardised to zero. The
memory's own states are left as they are; what is taken away is what the model sees of the rollouts it scores.
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
"""Families of label-free features, by how their names begin; a name that fits none is one of the `OTHER`."""


def family_of(name: str) -> str:
    """The family of a label-free feature: that of the longest beginning that fits."""
    fitting = [(len(p), family) for family, prefixes in PREFIXES.items() for p in prefixes if name.startswith(p)]
    return max(fitting)[1] if fitting else OTHER


def families(model: RewardModel) -> dict[str, int]:
    """The families that a model reads, in the order of `PREFIXES`, labels near last; and how many columns they have."""
    read = Counter(family_of(name) for name in model.base.scale.names)
    return {family: read[family] for family in (*PREFIXES, OTHER) if read[family]} | {
        LABELS: len(model.base.near.names)
    }


def blind(model: RewardModel, family: str) -> RewardModel:
    """The same model, to which this family says nothing."""
    base = model.base
    if family == LABELS:
        return replace(model, base=replace(base, near=_flat(base.near, base.near.names)))
    weights = base.weights.copy()
    for column, votes in enumerate((VOTES, SKILLED)):
        if family == votes:
            weights[:, column] = 0.0
    scale = _flat(base.scale, [name for name in base.scale.names if family_of(name) == family])
    projection = model.projection
    if family == VECTORS:
        projection = replace(projection, basis=np.zeros_like(projection.basis))
    return replace(model, base=replace(base, scale=scale, weights=weights), projection=projection)


def _flat(scale: Scale, names: Iterable[str]) -> Scale:
    """A scale that gives these features as zero, whatever their value."""
    gone = np.isin(np.array(scale.names, dtype=object), list(names))
    return replace(scale, deviation=np.where(gone, np.inf, scale.deviation))
