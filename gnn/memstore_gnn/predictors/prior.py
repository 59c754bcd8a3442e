"""What other sets have taught: coefficients on label-free features, fitted where labels are known and taken along.

A prior moves the offset that votes give (see `design`); where it knows nothing it leaves the votes as they are. It
is kept as safetensors (`mean`, `deviation`, `weights`) with a JSON card beside it that names the features, the data
and the figures it gave on sets that it was fitted without. One is part of the package, beside this file:
`examples/train_prior.py` makes it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from memstore.errors import ModelError
from memstore.types import FloatVector
from memstore_gnn.features.assemble import LabelFree
from memstore_gnn.predictors.design import Scale, offset, penalties, query_weights
from memstore_gnn.predictors.newton import FIXED, solve

SHRINKAGE = 1000.0
INTERCEPT_SHRINKAGE = 1.0
SET_WEIGHT = 200.0
"""Examples that a set counts for, whatever its size."""
FORMAT = 1
SHIPPED = Path(__file__).with_name("prior.safetensors")


class LabelledSet(NamedTuple):
    """A memory whose labels a prior is learned from."""

    free: LabelFree
    reward: FloatVector
    """float64 [T], NaN where there is none."""


@dataclass(frozen=True)
class SharedPrior:
    """Coefficients that hold across sets.

    Attributes:
        scale: of the features.
        weights: float64 [1 + F], intercept first.
        card: where it comes from: data, licences, figures.
    """

    scale: Scale
    weights: FloatVector
    card: Mapping[str, Any] = field(default_factory=dict)

    def logit(self, free: LabelFree) -> FloatVector:
        """float64 [T]: log odds without a label of this memory."""
        x = self.scale.apply(free.table, free.groups)
        return np.asarray(offset(free) + self.weights[0] + x @ self.weights[1:])

    def save(self, path: Path) -> None:
        """Write `path` (safetensors) and its card, `path` with the suffix `.json`."""
        tensors = {"mean": self.scale.mean, "deviation": self.scale.deviation, "weights": self.weights}
        save_file({name: np.ascontiguousarray(value, np.float64) for name, value in tensors.items()}, path)
        card = {"format": FORMAT, "features": list(self.scale.names), **self.card}
        path.with_suffix(".json").write_text(json.dumps(card, indent=1, sort_keys=True) + "\n", encoding="utf-8")

    @classmethod
    def shipped(cls) -> SharedPrior:
        """The prior of this package."""
        return cls.load(SHIPPED)

    @classmethod
    def load(cls, path: Path) -> SharedPrior:
        """Read what `save` wrote.

        Raises:
            ModelError: the files are not there, are damaged, or do not fit each other.
        """
        try:
            tensors = load_file(path)
            card = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
            names = tuple(card.pop("features"))
            version = card.pop("format")
            scale = Scale(names, tensors["mean"], tensors["deviation"])
            prior = cls(scale, tensors["weights"], card)
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise ModelError(f"The prior at {path} cannot be read ({error}); train it again.") from error
        if version != FORMAT or len(prior.weights) != 1 + len(names) or len(scale.mean) != len(names):
            raise ModelError(f"The prior at {path} is of another version or incomplete; train it again.")
        return prior


def train_prior(sets: Sequence[LabelledSet], card: Mapping[str, Any] | None = None) -> SharedPrior:
    """Fit one prior to several memories, each weighted alike.

    Raises:
        ModelError: no set, or one without a label.
    """
    if not sets or any(not np.isfinite(one.reward).any() for one in sets):
        raise ModelError("A prior is learned from memories with ground truth; pass at least one, all with labels.")
    scale = Scale.of([one.free.table for one in sets])
    inputs, labels, weights = [], [], []
    for one in sets:
        known = np.isfinite(one.reward)
        x = scale.apply(one.free.table, one.free.groups)
        inputs.append(np.column_stack([offset(one.free), np.ones(len(x)), x])[known])
        labels.append(one.reward[known])
        weight = query_weights(one.free.groups)[known]
        weights.append(weight * (SET_WEIGHT / weight.sum()))
    penalty = np.concatenate([[FIXED, INTERCEPT_SHRINKAGE], SHRINKAGE * penalties(scale.names)])
    centre = np.zeros(len(penalty))
    centre[0] = 1.0
    solution = solve(np.concatenate(inputs), np.concatenate(labels), np.concatenate(weights), penalty, centre)
    return SharedPrior(scale, solution[1:], card or {})
