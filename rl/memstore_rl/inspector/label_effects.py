"""What a label changes: the rewards and advantages of its rollouts, and the model's calibration on labelled ones.

The reward of a rollout is its label, or else the stored probability of the model in use. Other rollouts that a model
would score otherwise now are not counted; see `rescoring`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from memstore.types import FloatVector


@dataclass(frozen=True)
class Effect:
    """What the verdicts of one key changed."""

    scored: int
    """Rollouts of the query that have a probability."""
    moved: int
    """Rollouts whose reward moved by more than one half."""
    mean_change: float
    """Mean absolute change of the rewards of the rollouts that were labelled."""
    advantage_change: float
    """Root mean square of the change of the advantages of the query's rollouts."""


def effect_of(
    probability: Mapping[str, float], before: Mapping[str, float | None], after: Mapping[str, float | None]
) -> Effect | None:
    """The effect of labels on the rollouts of a query that have a probability; None if there are none.

    Args:
        probability: by rollout, from the model in use.
        before, after: labels by rollout.
    """
    ids = [rollout for rollout in after if rollout in probability]
    if not ids:
        return None
    old, new = _rewards(ids, probability, before), _rewards(ids, probability, after)
    change = np.abs(new - old)
    labelled = np.array([before.get(rollout) != after[rollout] for rollout in ids])
    advantages = (new - new.mean()) - (old - old.mean())
    return Effect(
        scored=len(ids),
        moved=int((change > 0.5).sum()),
        mean_change=float(change[labelled].mean()) if labelled.any() else 0.0,
        advantage_change=float(np.sqrt((advantages**2).mean())),
    )


def _rewards(ids: list[str], probability: Mapping[str, float], labels: Mapping[str, float | None]) -> FloatVector:
    known = [labels.get(rollout) for rollout in ids]
    pairs = zip(ids, known, strict=True)
    return np.array([probability[rollout] if label is None else label for rollout, label in pairs], np.float64)


@dataclass(frozen=True)
class Calibration:
    """Probabilities against labels of the rollouts that were labelled on the page."""

    rollouts: int
    predicted: float
    """Mean probability."""
    right: float
    """Mean label."""
    brier: float
    """Mean squared difference."""


def calibration_of(pairs: Mapping[str, tuple[float, float]]) -> Calibration | None:
    """Calibration of (probability, label) by rollout; None without any."""
    if not pairs:
        return None
    p, y = np.array(list(pairs.values()), np.float64).T
    return Calibration(len(p), float(p.mean()), float(y.mean()), float(((p - y) ** 2).mean()))
