"""Metrics of predicted rewards: ranking, group-relative advantage and calibration.

Every metric is over rollouts whose true reward is known. `group` is the rollout's query. A metric that is undefined
(one class only, no pair, no advantage) is NaN.

The advantage is that of group-relative policy optimisation: (reward - mean) / standard deviation over the group
(population standard deviation), and 0 if the deviation is 0. A group with equal rewards has no gradient, so predicted
differences inside it are noise and lower the advantage metrics.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from memstore.types import FloatVector, IntVector

BINS = 15
"""Bins of the calibration metrics, of equal width."""
FLAT = 1e-9
"""Standard deviation below which a group has no advantage."""


class Metrics(NamedTuple):
    """Metrics of one predictor on one set of rollouts."""

    auc: float
    accuracy: float
    pair_accuracy: float
    advantage_hard: float
    advantage_soft: float
    ece: float
    brier: float
    aurc: float


def measure(probability: FloatVector, reward: FloatVector, group: IntVector) -> Metrics:
    """All metrics of predicted probabilities float64 [N] against true rewards float64 [N]."""
    return Metrics(
        auc=auc(probability, reward),
        accuracy=accuracy(probability, reward),
        pair_accuracy=pair_accuracy(probability, reward, group),
        advantage_hard=advantage_hard(probability, reward, group),
        advantage_soft=advantage_soft(probability, reward, group),
        ece=ece(probability, reward),
        brier=brier(probability, reward),
        aurc=aurc(probability, reward),
    )


def auc(probability: FloatVector, reward: FloatVector) -> float:
    """Area under the ROC curve, a correct rollout being one with a reward over 0.5; ties count half."""
    right = reward > 0.5
    positives, negatives = int(right.sum()), int((~right).sum())
    if not positives or not negatives:
        return float("nan")
    _, inverse, count = np.unique(probability, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[inverse.ravel()]
    return float((rank[right].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def accuracy(probability: FloatVector, reward: FloatVector) -> float:
    """Share of rollouts whose probability is on the correct side of 0.5."""
    return float(np.mean((probability > 0.5) == (reward > 0.5))) if len(reward) else float("nan")


def pair_accuracy(probability: FloatVector, reward: FloatVector, group: IntVector) -> float:
    """Share of (correct, incorrect) pairs within a query that are ranked correctly; ties count half."""
    right = reward > 0.5
    won = pairs = 0.0
    for members in _members(group):
        good, bad = probability[members][right[members]], probability[members][~right[members]]
        difference = good[:, None] - bad[None, :]
        won += float((difference > 0).sum()) + 0.5 * float((difference == 0).sum())
        pairs += difference.size
    return won / pairs if pairs else float("nan")


def advantage(reward: FloatVector, group: IntVector) -> FloatVector:
    """(reward - group mean) / group standard deviation; 0 if the deviation is 0."""
    _, cell = np.unique(group, return_inverse=True)
    centred = centre(reward, group)
    count = np.bincount(cell)
    deviation = np.sqrt(np.bincount(cell, centred**2) / np.maximum(count, 1))[cell]
    return np.where(deviation > FLAT, centred / np.where(deviation > FLAT, deviation, 1.0), 0.0)


def centre(values: FloatVector, group: IntVector) -> FloatVector:
    """Values less their group's mean, float64 [N]."""
    _, cell = np.unique(group, return_inverse=True)
    mean = np.bincount(cell, values) / np.maximum(np.bincount(cell), 1)
    return np.asarray(values - mean[cell], np.float64)


def advantage_hard(probability: FloatVector, reward: FloatVector, group: IntVector) -> float:
    """Cosine between the true advantage and the advantage of the prediction thresholded at 0.5."""
    return _cosine(advantage((probability > 0.5).astype(np.float64), group), advantage(reward, group))


def advantage_soft(probability: FloatVector, reward: FloatVector, group: IntVector) -> float:
    """Cosine between the true advantage and the probability less its group's mean."""
    return _cosine(centre(probability, group), advantage(reward, group))


def ece(probability: FloatVector, reward: FloatVector, bins: int = BINS) -> float:
    """Expected calibration error: mean over bins of |mean probability - mean reward|, weighted by the bin's size."""
    if not len(reward):
        return float("nan")
    at = np.minimum((probability * bins).astype(np.int64), bins - 1)
    gap = np.bincount(at, probability, bins) - np.bincount(at, reward, bins)
    return float(np.abs(gap).sum() / len(reward))


def brier(probability: FloatVector, reward: FloatVector) -> float:
    """Brier score: mean squared difference between probability and reward."""
    return float(np.mean((probability - reward) ** 2)) if len(reward) else float("nan")


class CalibrationBin(NamedTuple):
    """One bin of a calibration curve: mean probability, mean reward, number of rollouts."""

    predicted: float
    true: float
    rollouts: int


def calibration_curve(probability: FloatVector, reward: FloatVector, bins: int = BINS) -> list[CalibrationBin]:
    """Non-empty bins of `ece`, by increasing probability."""
    at = np.minimum((probability * bins).astype(np.int64), bins - 1)
    count = np.bincount(at, minlength=bins)
    predicted, true = np.bincount(at, probability, bins), np.bincount(at, reward, bins)
    return [
        CalibrationBin(float(p / n), float(t / n), int(n)) for n, p, t in zip(count, predicted, true, strict=True) if n
    ]


class RiskPoint(NamedTuple):
    """Error rate (`risk`) of the most confident share (`coverage`) of the rollouts."""

    coverage: float
    risk: float


def risk_coverage(probability: FloatVector, reward: FloatVector, points: int = 20) -> list[RiskPoint]:
    """Risk-coverage curve; confidence is the distance of the probability from 0.5."""
    risk = _risks(probability, reward)
    taken = np.unique(np.ceil(np.linspace(1 / points, 1, points) * len(risk)).astype(np.int64))
    return [RiskPoint(float(n / len(risk)), float(risk[n - 1])) for n in taken if n]


def aurc(probability: FloatVector, reward: FloatVector) -> float:
    """Area under the risk-coverage curve: mean risk over all coverages; lower is better."""
    return float(_risks(probability, reward).mean()) if len(reward) else float("nan")


def _risks(probability: FloatVector, reward: FloatVector) -> FloatVector:
    """Error rate of the n most confident rollouts, n = 1..N; rollouts of equal confidence share their mean error."""
    wrong = ((probability > 0.5) != (reward > 0.5)).astype(np.float64)
    _, cell = np.unique(-np.abs(probability - 0.5).round(12), return_inverse=True)
    expected = (np.bincount(cell, wrong) / np.maximum(np.bincount(cell), 1))[cell]
    return np.cumsum(expected[np.argsort(cell, kind="stable")]) / np.arange(1, len(wrong) + 1)


def _members(group: IntVector) -> list[IntVector]:
    """Positions of each group's rollouts."""
    order = np.argsort(group, kind="stable")
    _, starts = np.unique(group[order], return_index=True)
    return [np.asarray(part, np.int64) for part in np.split(order, starts[1:])] if len(group) else []


def _cosine(predicted: FloatVector, true: FloatVector) -> float:
    """Cosine of two vectors; 0 if the prediction is zero, NaN if the truth is."""
    norm = float(np.linalg.norm(predicted)), float(np.linalg.norm(true))
    if norm[1] <= FLAT:
        return float("nan")
    return float(predicted @ true) / (norm[0] * norm[1]) if norm[0] > FLAT else 0.0
