"""What a reward model is made of and how it is trained; saved with every model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class NetworkSettings:
    """The size of the correction network: small, since a few dozen labelled queries have to shape it."""

    hidden: int = 32
    heads: int = 4
    projection: int = 32
    """Principal directions of the memory's vectors that the network reads."""
    dropout: float = 0.3
    label_dropout: float = 0.3
    """Share of the labelled neighbours that a training step does not see."""


@dataclass(frozen=True)
class TrainSettings:
    """How a reward model is trained."""

    network: NetworkSettings = NetworkSettings()
    members: int = 5
    """Networks in the ensemble; each holds back another part of the labelled queries to stop early on."""
    epochs: int = 150
    patience: int = 25
    """Epochs without a better loss on the part that was held back before a member stops."""
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    batch_rollouts: int = 4096
    """Up to this many labelled rollouts are one batch; more are cut into batches of whole queries."""
    report_share: float = 0.2
    """Share of the labelled queries that is kept for the report where no label budget is given."""
