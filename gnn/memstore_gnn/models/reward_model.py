r"""Reward model: a calibrated logistic base, a graph network over the votes of a memory, and a card.

.. math::
    p = \sigma( a \cdot \mathrm{base} + b )

is the probability of a rollout by its group alone, with the slope :math:`a` and shift :math:`b` of the calibration.
Where the memory holds other rollouts of the query, `memstore_gnn.scoring.other_policies` combines it with their votes,
and the network corrects what the votes say. Rollouts of a query with the same answer have the same probability. A model
contains no part of any memory: labels and vectors come from a snapshot (`RewardModel.label_context`), so a memory that
has grown is used in its current state.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from memstore.errors import ModelError
from memstore.snapshots.snapshot import Snapshot
from memstore.types import FloatVector
from memstore_gnn.data.groups import Groups
from memstore_gnn.data.visibility import Visibility
from memstore_gnn.models.base import Base
from memstore_gnn.models.calibration import Calibration, sigmoid
from memstore_gnn.models.inputs import LabelledPart, labelled_part, read_target
from memstore_gnn.models.network import NO_CORRECTION, Correction
from memstore_gnn.models.settings import TrainSettings
from memstore_gnn.models.vote_model import VoteModel


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
    audit: list[str] = field(default_factory=list)
    """Audit queries, as `memstore_gnn.data.visibility.text_digest`s."""
    hidden_runs: list[str] = field(default_factory=list)
    """Runs whose queries are hidden from the model."""
    last_steps: int | None = None
    """It was trained on the rollouts of each run's last so many steps; None: on all."""

    @property
    def visibility(self) -> Visibility:
        """What the model may see of a memory's labels."""
        return Visibility(self.budget, self.seed, frozenset(self.audit), frozenset(self.hidden_runs))


@dataclass(frozen=True)
class LabelContext:
    """Labels of a memory as a model reads them, computed once and shared by all batches."""

    part: LabelledPart

    def with_marks(self, marks: FloatVector) -> LabelContext:
        """The same labels, and counts of the marks of labelled rollouts outside the memory.

        Args:
            marks: float64 [4, 3], see `memstore_gnn.features.line_labels.LabelledLines.marks`.
        """
        return LabelContext(replace(self.part, lines=self.part.lines.with_marks(marks)))


@dataclass(frozen=True, repr=False)
class RewardModel:
    """Predicts the probability that a rollout is right; the module's docstring has the equations."""

    card: ModelCard
    base: Base
    calibration: Calibration
    vote_model: VoteModel
    correction: Correction = NO_CORRECTION

    def __repr__(self) -> str:
        budget = "all labels" if self.card.budget is None else f"{self.card.budget:.0%} of the labelled queries"
        return (
            f"RewardModel({self.card.id!r}, snapshot={self.card.snapshot!r}, labels={budget!r}, "
            f"networks={len(self.correction.networks)}, trust={self.correction.trust:.2f})"
        )

    def label_context(self, snapshot: Snapshot, reward: FloatVector) -> LabelContext:
        """Read the labels of a memory.

        Args:
            reward: float64 [T], NaN for a rollout whose label is missing or hidden.

        Raises:
            ModelError: the memory has another embedder or splitter, or a vector that is not finite.
        """
        self.check(snapshot)
        return LabelContext(labelled_part(snapshot, reward, self.base.reliability))

    def predict(self, snapshot: Snapshot, context: LabelContext) -> FloatVector:
        """Predict the probability that each rollout is right, float64 [T], without reading the rollouts' own labels.

        Every group is read by itself: a probability does not depend on the other groups of the snapshot.

        Raises:
            ModelError: the snapshot has another embedder or splitter, a vector that is not finite, or no texts.
        """
        self.check(snapshot)
        target = read_target(snapshot, context.part)
        base = answer_mean(self.base.logit(target.free, target.near, target.strata), target.free.groups)
        return sigmoid(self.calibration.logit(base))

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


def answer_mean(logit: FloatVector, groups: Groups) -> FloatVector:
    """Mean over the rollouts that share an answer, float64 [T]."""
    return np.asarray(groups.answer.mean(logit))
