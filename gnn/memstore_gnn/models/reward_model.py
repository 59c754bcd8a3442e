"""A reward model: base, correction by an ensemble of networks, calibration, and the card that says what it is.

    probability = sigmoid(slope * base + trust * mean of corrections + shift)

One number an answer: rollouts of a query that reach the same answer have the same probability. A model holds no
part of any memory: labels and vectors come from the snapshot it is asked to read (`recall`), so a memory that has
grown is used as it is.
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
from memstore_gnn.models.network import GroupTensors, HeldMemory, Memory, RewardNetwork, States, whole_queries
from memstore_gnn.models.settings import TrainSettings

BLOCK_ROLLOUTS = 8192
"""Rollouts that pass through the networks at once."""


@dataclass(frozen=True)
class ModelCard:
    """What a model was made of and with; `metrics` are those of `memstore_gnn.training.train`."""

    id: str
    snapshot: str
    embedder: str
    splitter: str
    settings: TrainSettings
    budget: float | None
    seed: int
    created_at: str
    """ISO 8601, UTC."""
    code_version: str
    torch_version: str
    queries: dict[str, int] = field(default_factory=dict)
    """How many queries were for train, select and report."""
    metrics: list[dict[str, Any]] = field(default_factory=list)
    risks: list[dict[str, float]] = field(default_factory=list)
    """`memstore_gnn.scoring.abstain.RiskBand`s on held-out labelled queries, by falling coverage."""


@dataclass(frozen=True)
class Recollection:
    """The labelled part of a memory as a model's networks read it: made once, read by every batch."""

    part: LabelledPart
    memories: tuple[HeldMemory, ...]
    ensemble: Ensemble | None
    """None where the model has no networks."""


@dataclass(frozen=True)
class RewardModel:
    """See the module's docstring."""

    card: ModelCard
    base: Base
    projection: Projection
    networks: tuple[RewardNetwork, ...]
    calibration: Calibration
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def recall(self, snapshot: Snapshot, reward: FloatVector) -> Recollection:
        """Read the labels of a memory.

        Args:
            reward: float64 [T], NaN where there is no label or it is hidden.

        Raises:
            ModelError: the memory has another embedder or splitter, or a vector that is not finite.
        """
        self.check(snapshot)
        part = labelled_part(snapshot, reward, self.base.reliability)
        groups = self._tensors(read_target(part.snapshot, part))
        with torch.inference_mode():
            memories = tuple(
                network.eval().hold(memory_of(part, network.encode(groups), self.device)) for network in self.networks
            )
            ensemble = Ensemble(self.networks, memories) if memories else None
        return Recollection(part, memories, ensemble)

    def predict(self, snapshot: Snapshot, recollection: Recollection) -> FloatVector:
        """Probability that each rollout is right, float64 [T]; the rollouts' own labels are not looked at.

        Every group is read by itself: a probability does not depend on what else the snapshot holds.

        Raises:
            ModelError: another embedder or splitter, a vector that is not finite, a snapshot without texts.
        """
        self.check(snapshot)
        target = read_target(snapshot, recollection.part)
        base = over_answers(self.base.logit(target.free, target.near, target.places), target.free.groups)
        correction = np.zeros(len(base))
        if self.calibration.trust > 0.0 and recollection.ensemble is not None:
            correction = self._correction(self._tensors(target), recollection.ensemble)
        return sigmoid(self.calibration.logit(base, correction))

    def _correction(self, groups: GroupTensors, ensemble: Ensemble) -> FloatVector:
        """Mean of the networks' corrections, float64 [T], in blocks of whole queries."""
        mean = torch.zeros(len(groups.features), dtype=torch.float64, device=self.device)
        with torch.inference_mode():
            for rows in whole_queries(groups.query, BLOCK_ROLLOUTS):
                mean[rows] = ensemble.correct(groups.take(rows)).double().mean(dim=0)
        return np.asarray(mean.cpu().numpy())

    def check(self, snapshot: Snapshot) -> None:
        """Raise ModelError where this model does not fit a snapshot."""
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


def memory_of(part: LabelledPart, states: States, device: torch.device) -> Memory:
    """The labelled nodes of a part, given the states of all its nodes."""

    def put(labels: FloatVector) -> torch.Tensor:
        return torch.from_numpy(labels.astype(np.float32)).to(device)

    thinkings, queries = part.thinkings, part.queries
    return Memory(
        thinking=states.thinking[torch.from_numpy(thinkings.row).to(device)],
        thinking_label=put(thinkings.label),
        query=states.query[torch.from_numpy(queries.row).to(device)],
        query_label=put(queries.label),
    )


def over_answers(logit: FloatVector, groups: Groups) -> FloatVector:
    """The mean over the rollouts that share an answer, float64 [T]."""
    return np.asarray(groups.answer.mean(logit))
