"""Curves of an evaluation: metrics over label budgets, calibration, and risk over coverage.

Budget curves are means over seeds with the standard error. Calibration and risk are at one budget, over the rollouts of
all seeds. `memstore_rl.inspector.evaluation_charts` draws them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias, TypeVar

import numpy as np

from memstore.errors import InputError
from memstore.types import FloatVector
from memstore_gnn.evaluation.evaluate import EvaluationRow, Prediction, summary
from memstore_gnn.metrics import CalibrationBin, RiskPoint, calibration_curve, risk_coverage

SHOWN_BUDGET = 0.2
"""Budget of the calibration and risk curves; the nearest one is used if it was not evaluated."""
BINS = 10
"""Bins of the calibration curves."""
METRICS = {"auc": "AUC", "advantage_soft": "soft advantage"}
"""Metrics of the budget curves, with their names."""

PointT = TypeVar("PointT")
OfPredictors: TypeAlias = dict[str, dict[str, PointT]]
"""A value by data set and predictor."""


class BudgetPoint(NamedTuple):
    """A metric at a label budget: mean over seeds and its standard error; None if it is undefined."""

    budget: float
    mean: float | None
    error: float | None


class Curves(NamedTuple):
    """The curves of an evaluation."""

    budget: float
    """Budget of the calibration and risk curves."""
    budgets: OfPredictors[dict[str, list[BudgetPoint]]]
    """By metric, for those in `METRICS`."""
    calibration: OfPredictors[list[CalibrationBin]]
    risk_coverage: OfPredictors[list[RiskPoint]]


class CurveCollector:
    """Collects predictions as an evaluation makes them, and keeps those that its curves need."""

    def __init__(self, budgets: Sequence[float]) -> None:
        """Create a collector for an evaluation of these budgets."""
        self.budget = min(budgets, key=lambda budget: abs(budget - SHOWN_BUDGET))
        self._rows: list[EvaluationRow] = []
        self._shown: dict[tuple[str, str], list[tuple[FloatVector, FloatVector]]] = {}

    def add(self, made: Prediction) -> None:
        """Take note of a prediction."""
        self._rows.append(made.row)
        if made.row.budget == self.budget:
            own = self._shown.setdefault((made.row.dataset, made.row.predictor), [])
            own.append((made.probability, made.reward))

    def curves(self) -> Curves:
        """The curves of what was collected.

        Raises:
            InputError: nothing was.
        """
        if not self._rows:
            raise InputError("there are no predictions to plot; evaluate at least one predictor")
        return Curves(
            self.budget,
            _budget_curves(self._rows),
            self._curves(lambda probability, reward: calibration_curve(probability, reward, BINS)),
            self._curves(risk_coverage),
        )

    def _curves(self, curve: Callable[[FloatVector, FloatVector], list[PointT]]) -> OfPredictors[list[PointT]]:
        """A curve for each data set and predictor."""
        out: OfPredictors[list[PointT]] = {}
        for (dataset, predictor), parts in self._shown.items():
            probability, reward = (np.concatenate(values) for values in zip(*parts, strict=True))
            out.setdefault(dataset, {})[predictor] = curve(probability, reward)
        return out


def _budget_curves(rows: Sequence[EvaluationRow]) -> OfPredictors[dict[str, list[BudgetPoint]]]:
    out: OfPredictors[dict[str, list[BudgetPoint]]] = {}
    for cell in sorted(summary(rows), key=lambda cell: cell.budget):
        if cell.metric in METRICS:
            own = out.setdefault(cell.dataset, {}).setdefault(cell.predictor, {name: [] for name in METRICS})
            own[cell.metric].append(BudgetPoint(cell.budget, *map(_known, (cell.mean, cell.error))))
    return out


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value
