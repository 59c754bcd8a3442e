"""What other sets have taught: coefficients on label-free features, fitted where labels are known and taken along.

A prior moves the offset that votes give (see `design`); where it knows nothing it leaves the votes as they are. What
it says is then sharpened or softened by domain (see `sharpness`). It is kept as safetensors (`mean`, `deviation`,
`weights`) with a JSON card beside it that names the features, the sharpness, the data and the figures it gave on
queries that it was fitted without. One is part of the package, beside this file: `examples/train_prior.py` makes it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from memstore.errors import ModelError
from memstore.snapshots.snapshot import Snapshot
from memstore.types import FloatVector
from memstore_gnn.features.assemble import LabelFree, label_free
from memstore_gnn.models.design import Matrix, Scale, offset, penalties, query_weights
from memstore_gnn.models.inverse_temperature import Said, sharpness_of
from memstore_gnn.models.newton import FIXED, solve

SHRINKAGE = 1000.0
INTERCEPT_SHRINKAGE = 1.0
SET_WEIGHT = 200.0
"""Examples that a set counts for, whatever its size."""
FORMAT = 2
SHIPPED = Path(__file__).with_name("prior.safetensors")


class LabelledSet(NamedTuple):
    """A memory whose labels a prior is learned from."""

    free: LabelFree
    reward: FloatVector
    """float64 [T], NaN where there is none."""
    domain: NDArray[np.object_]
    """str [T], of each rollout's query."""

    @classmethod
    def of(cls, snapshot: Snapshot, reward: FloatVector) -> LabelledSet:
        """A memory with these labels; a query without a domain is `other`."""
        free = label_free(snapshot)
        domain = np.array(snapshot.queries["domain"].fill_null("other").to_pylist(), dtype=object)
        return cls(free, reward, domain[free.groups.query_of])


@dataclass(frozen=True)
class SharedPrior:
    """Coefficients that hold across sets.

    Attributes:
        scale: of the features.
        weights: float64 [1 + F], intercept first.
        sharpness: by domain, what the log odds are multiplied by; one where a domain is not named.
        card: where it comes from: data, licences, figures.
    """

    scale: Scale
    weights: FloatVector
    sharpness: Mapping[str, float] = field(default_factory=dict)
    card: Mapping[str, Any] = field(default_factory=dict)

    def logit(self, free: LabelFree, domain: NDArray[np.object_]) -> FloatVector:
        """float64 [T]: log odds without a label of this memory; `domain` str [T] is that of each rollout."""
        x = self.scale.apply(free.table, free.groups)
        sharpness = np.array([self.sharpness.get(name, 1.0) for name in domain])
        return np.asarray(sharpness * (offset(free) + self.weights[0] + x @ self.weights[1:]))

    def save(self, path: Path) -> None:
        """Write `path` (safetensors) and its card, `path` with the suffix `.json`."""
        tensors = {"mean": self.scale.mean, "deviation": self.scale.deviation, "weights": self.weights}
        save_file({name: np.ascontiguousarray(value, np.float64) for name, value in tensors.items()}, path)
        learned = {"features": list(self.scale.names), "sharpness": dict(self.sharpness)}
        card = {"format": FORMAT, **learned, **self.card}
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
            sharpness = {str(name): float(value) for name, value in card.pop("sharpness").items()}
            scale = Scale(names, tensors["mean"], tensors["deviation"])
            prior = cls(scale, tensors["weights"], sharpness, card)
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
    knowns = [np.isfinite(one.reward) for one in sets]
    inputs = [_inputs(scale, one.free)[known] for one, known in zip(sets, knowns, strict=True)]
    labels = [one.reward[known] for one, known in zip(sets, knowns, strict=True)]
    shares = [query_weights(one.free.groups)[known] for one, known in zip(sets, knowns, strict=True)]
    weights = [share * (SET_WEIGHT / share.sum()) for share in shares]
    penalty = np.concatenate([[FIXED, INTERCEPT_SHRINKAGE], SHRINKAGE * penalties(scale.names)])
    centre = np.zeros(len(penalty))
    centre[0] = 1.0
    solution = solve(np.concatenate(inputs), np.concatenate(labels), np.concatenate(weights), penalty, centre)
    domains = [one.domain[known] for one, known in zip(sets, knowns, strict=True)]
    said = [Said(x @ solution, *rest) for x, *rest in zip(inputs, labels, weights, domains, strict=True)]
    return SharedPrior(scale, solution[1:], sharpness_of(said), card or {})


def _inputs(scale: Scale, free: LabelFree) -> Matrix:
    """Offset, one, features: float64 [T, 2 + F]."""
    return np.column_stack([offset(free), np.ones(len(free.table)), scale.apply(free.table, free.groups)])
