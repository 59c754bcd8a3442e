r"""Reward model: a logistic base, an ensemble of correction networks, a calibration and a card.

.. math::
    p = \sigma\Big( a \cdot \mathrm{base} + m \cdot \frac{1}{K} \sum_{k=1}^{K} \mathrm{correction}_k + b \Big)

with the slope :math:`a`, mixing weight :math:`m` and shift :math:`b` of the calibration. Rollouts of a query with the
same answer have the same probability. A model contains no part of any memory: labels and vectors come from a snapshot
(`RewardModel.label_context`), so a memory that has grown is used in its current state.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from memstore.errors import ModelError
from memstore.snapshots.snapshot import Snapshot
from memstore.types import FloatVector
from memstore_gnn.data.groups import Groups
from memstore_gnn.models.base import Base
from memstore_gnn.models.calibration import Calibration, sigmoid
from memstore_gnn.models.ensemble import Ensemble
from memstore_gnn.models.inputs import (
    LabelledPart,
    Projection,
    Target,
    group_tensors,
    labelled_part,
    read_target,
)
from memstore_gnn.models.network import (
    GroupTensors,
    LabelledKeyValues,
    LabelledStates,
    NodeStates,
    RewardNetwork,
    whole_queries,
)
from memstore_gnn.models.settings import TrainSettings

BLOCK_ROLLOUTS = 8192
"""Rollouts in one forward pass of the networks; bounds the memory of a large snapshot."""


@dataclass(frozen=True)
class ModelCard:
    """Origin, settings and figures of a model, saved with it."""

    id: str
    snapshot: str
    """Id of the snapshot it was trained on."""
    embedder: str
    """Fingerprint of the embedder that made the snapshot's vectors."""
    splitter: str
    """Version of the splitter that made the snapshot's texts."""
    settings: TrainSettings
    budget: float | None
    """Share of the labelled queries whose labels it may see; None: all labels of the memory."""
    seed: int
    created_at: str
    """ISO 8601, UTC."""
    code_version: str
    torch_version: str
    queries: dict[str, int] = field(default_factory=dict)
    """Number of queries for train, select and report."""
    metrics: list[dict[str, Any]] = field(default_factory=list)
    """`memstore_gnn.evaluation.evaluate.EvaluationRow`s on the report queries, as JSON."""
    risks: list[dict[str, float]] = field(default_factory=list)
    """`memstore_gnn.scoring.abstain.RiskBand`s on held-out labelled queries, by falling coverage."""


@dataclass(frozen=True)
class LabelContext:
    """Labels of a memory as a model reads them, computed once and shared by all batches."""

    part: LabelledPart
    labelled: tuple[LabelledKeyValues, ...]
    """Keys and values of the labelled nodes, for each network."""
    ensemble: Ensemble | None
    """None if the model has no networks."""


@dataclass(frozen=True, repr=False)
class RewardModel:
    """Predicts the probability that a rollout is right; the module's docstring has the equation."""

    card: ModelCard
    base: Base
    projection: Projection
    networks: tuple[RewardNetwork, ...]
    calibration: Calibration
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __repr__(self) -> str:
        budget = "all labels" if self.card.budget is None else f"{self.card.budget:.0%} of the labelled queries"
        return (
            f"RewardModel({self.card.id!r}, snapshot={self.card.snapshot!r}, labels={budget!r}, "
            f"networks={len(self.networks)}, mixing_weight={self.calibration.mixing_weight:.2f}, "
            f"device={str(self.device)!r})"
        )

    def label_context(self, snapshot: Snapshot, reward: FloatVector) -> LabelContext:
        """Read the labels of a memory.

        Args:
            reward: float64 [T], NaN for a rollout whose label is missing or hidden.

        Raises:
            ModelError: the memory has another embedder or splitter, or a vector that is not finite.
        """
        self.check(snapshot)
        part = labelled_part(snapshot, reward, self.base.reliability)
        groups = self._tensors(read_target(part.snapshot, part))
        with torch.inference_mode():
            labelled = tuple(
                network.eval().keys_and_values(labelled_states(part, network.encode(groups), self.device))
                for network in self.networks
            )
            ensemble = Ensemble(self.networks, labelled) if labelled else None
        return LabelContext(part, labelled, ensemble)

    def predict(self, snapshot: Snapshot, context: LabelContext) -> FloatVector:
        """Predict the probability that each rollout is right, float64 [T], without reading the rollouts' own labels.

        Every group is read by itself: a probability does not depend on the other groups of the snapshot.

        Raises:
            ModelError: the snapshot has another embedder or splitter, a vector that is not finite, or no texts.
        """
        self.check(snapshot)
        target = read_target(snapshot, context.part)
        base = answer_mean(self.base.logit(target.free, target.near, target.strata), target.free.groups)
        correction = np.zeros(len(base))
        if self.calibration.mixing_weight > 0.0 and context.ensemble is not None:
            correction = self._correction(self._tensors(target), context.ensemble)
        return sigmoid(self.calibration.logit(base, correction))

    def _correction(self, groups: GroupTensors, ensemble: Ensemble) -> FloatVector:
        """Mean of the networks' corrections, float64 [T], in blocks of whole queries."""
        mean = torch.zeros(len(groups.features), dtype=torch.float64, device=self.device)
        with torch.inference_mode():
            for rows in whole_queries(groups.query, BLOCK_ROLLOUTS):
                mean[rows] = ensemble.correct(groups.take(rows)).double().mean(dim=0)
        return np.asarray(mean.cpu().numpy())

    def check(self, snapshot: Snapshot) -> None:
        """Raise ModelError if the model was trained with another embedder or splitter, or the snapshot has no texts."""
        for name in ("embedder", "splitter"):
            own, other = getattr(self.card, name), getattr(snapshot.manifest, name)
            if own != other:
                raise ModelError(
                    f"model {self.card.id} was trained on a memory with the {name} {own!r} and this one has {other!r}; "
                    "train a model on this memory with `memstore train`"
                )
        if "text" not in snapshot.thinkings.column_names:
            raise ModelError(f"model {self.card.id} reads texts and the snapshot has none; take it with texts=True")

    def _tensors(self, target: Target) -> GroupTensors:
        return group_tensors(target, self.base.scale, self.base.near, self.projection, self.device)


def labelled_states(part: LabelledPart, states: NodeStates, device: torch.device) -> LabelledStates:
    """Select the labelled nodes of a part, given the states of all its nodes."""

    def put(labels: FloatVector) -> torch.Tensor:
        return torch.from_numpy(labels.astype(np.float32)).to(device)

    thinkings, queries = part.thinkings, part.queries
    return LabelledStates(
        thinking=states.thinking[torch.from_numpy(thinkings.row).to(device)],
        thinking_label=put(thinkings.label),
        query=states.query[torch.from_numpy(queries.row).to(device)],
        query_label=put(queries.label),
    )


def answer_mean(logit: FloatVector, groups: Groups) -> FloatVector:
    """Mean over the rollouts that share an answer, float64 [T]."""
    return np.asarray(groups.answer.mean(logit))
