r"""Prior of other data sets: coefficients on label-free features that a memory without labels can start from.

.. math::
    \mathrm{logit} = \beta_d \, (\mathrm{offset} + w_0 + x^\top w)

The offset is that of the votes (`memstore_gnn.models.design`), and :math:`\beta_d` is the inverse temperature of the
rollout's domain (`memstore_gnn.models.inverse_temperature`). With all weights zero the votes are left as they are.

A prior is stored as safetensors (`mean`, `deviation`, `weights`) with a JSON card beside it. The card has the names of
the features, the inverse temperatures (under the key `sharpness`), the data and the leave-one-set-out figures. The
package ships one in this folder; `examples/train_prior.py` trains it.
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
from memstore_gnn.models.inverse_temperature import SetPredictions, inverse_temperatures
from memstore_gnn.models.newton import FIXED, solve
from memstore_gnn.models.settings import PriorSettings

PRIOR = PriorSettings()
FORMAT = 2
"""Version of the files; others are refused."""
SHIPPED = Path(__file__).with_name("prior.safetensors")


class LabelledSet(NamedTuple):
    """Features and labels of a memory that a prior is fitted to."""

    free: LabelFree
    reward: FloatVector
    """float64 [T], NaN for a rollout without a label."""
    domain: NDArray[np.object_]
    """str [T], domain of each rollout's query."""

    @classmethod
    def of(cls, snapshot: Snapshot, reward: FloatVector) -> LabelledSet:
        """Read a snapshot with these labels; a query without a domain counts as `other`."""
        free = label_free(snapshot)
        domain = np.array(snapshot.queries["domain"].fill_null("other").to_pylist(), dtype=object)
        return cls(free, reward, domain[free.groups.query_of])


@dataclass(frozen=True)
class SharedPrior:
    """Coefficients shared by several data sets.

    Attributes:
        scale: standardisation of the features.
        weights: float64 [1 + F], intercept first.
        inverse_temperature: factor of the log odds by domain; 1 for a domain that is missing.
        card: data, licences and figures.
    """

    scale: Scale
    weights: FloatVector
    inverse_temperature: Mapping[str, float] = field(default_factory=dict)
    card: Mapping[str, Any] = field(default_factory=dict)

    def logit(self, free: LabelFree, domain: NDArray[np.object_]) -> FloatVector:
        """Log odds without any label of this memory, float64 [T].

        Args:
            domain: str [T], domain of each rollout.
        """
        x = self.scale.apply(free.table, free.groups)
        factor = np.array([self.inverse_temperature.get(name, 1.0) for name in domain])
        return np.asarray(factor * (offset(free) + self.weights[0] + x @ self.weights[1:]))

    def save(self, path: Path) -> None:
        """Write the tensors to `path` (safetensors) and the card beside it, with the suffix `.json`."""
        tensors = {"mean": self.scale.mean, "deviation": self.scale.deviation, "weights": self.weights}
        save_file({name: np.ascontiguousarray(value, np.float64) for name, value in tensors.items()}, path)
        learned = {"features": list(self.scale.names), "sharpness": dict(self.inverse_temperature)}
        card = {"format": FORMAT, **learned, **self.card}
        path.with_suffix(".json").write_text(json.dumps(card, indent=1, sort_keys=True) + "\n", encoding="utf-8")

    @classmethod
    def shipped(cls) -> SharedPrior:
        """Load the prior of this package."""
        return cls.load(SHIPPED)

    @classmethod
    def load(cls, path: Path) -> SharedPrior:
        """Read the files that `save` wrote.

        Raises:
            ModelError: a file is missing or damaged, or the two do not belong together.
        """
        try:
            tensors = load_file(path)
            card = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
            names = tuple(card.pop("features"))
            version = card.pop("format")
            factors = {str(name): float(value) for name, value in card.pop("sharpness").items()}
            scale = Scale(names, tensors["mean"], tensors["deviation"])
            prior = cls(scale, tensors["weights"], factors, card)
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise ModelError(f"the prior at {path} cannot be read ({error}); train it again") from error
        if version != FORMAT or len(prior.weights) != 1 + len(names) or len(scale.mean) != len(names):
            raise ModelError(f"the prior at {path} has another version or is incomplete; train it again")
        return prior


def train_prior(sets: Sequence[LabelledSet], card: Mapping[str, Any] | None = None) -> SharedPrior:
    """Fit one prior to several memories, each with the same weight.

    Raises:
        ModelError: there is no set, or a set has no label.
    """
    if not sets or any(not np.isfinite(one.reward).any() for one in sets):
        raise ModelError("a prior is fitted to memories with ground truth; pass at least one, each with labels")
    scale = Scale.of([one.free.table for one in sets])
    knowns = [np.isfinite(one.reward) for one in sets]
    inputs = [_inputs(scale, one.free)[known] for one, known in zip(sets, knowns, strict=True)]
    labels = [one.reward[known] for one, known in zip(sets, knowns, strict=True)]
    shares = [query_weights(one.free.groups.query_of)[known] for one, known in zip(sets, knowns, strict=True)]
    weights = [share * (PRIOR.set_weight / share.sum()) for share in shares]
    penalty = np.concatenate([[FIXED, PRIOR.intercept_penalty], PRIOR.feature_penalty * penalties(scale.names)])
    centre = np.zeros(len(penalty))
    centre[0] = 1.0
    solution = solve(np.concatenate(inputs), np.concatenate(labels), np.concatenate(weights), penalty, centre)
    domains = [one.domain[known] for one, known in zip(sets, knowns, strict=True)]
    predictions = [
        SetPredictions(x @ solution, *rest) for x, *rest in zip(inputs, labels, weights, domains, strict=True)
    ]
    return SharedPrior(scale, solution[1:], inverse_temperatures(predictions), card or {})


def _inputs(scale: Scale, free: LabelFree) -> Matrix:
    """Columns offset, one and features: float64 [T, 2 + F]."""
    return np.column_stack([offset(free), np.ones(len(free.table)), scale.apply(free.table, free.groups)])
