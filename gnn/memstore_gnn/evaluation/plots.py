"""Plots of an evaluation: metrics over label budgets, calibration, and risk over coverage.

Each file has one panel a data set. `budgets.png` shows AUC and soft advantage over the share of labels, as mean over
seeds with the standard error. `calibration.png` shows the share of right rollouts over the predicted probability.
`risk_coverage.png` shows the share of errors among the most confident predictions. The latter two are at one budget,
over the rollouts of all seeds. `curves.json` has the data of all curves.

The plots need matplotlib, which the extra `plots` installs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from memstore.errors import InputError
from memstore.types import FloatVector
from memstore_gnn.evaluation.evaluate import Prediction, SummaryRow, summary
from memstore_gnn.metrics import calibration_curve, risk_coverage
from memstore_gnn.scoring.output_file import need_matplotlib

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN_BUDGET = 0.2
"""Budget of the calibration and risk plots; the nearest one is used if it was not evaluated."""
BINS = 10
"""Bins of the calibration plot."""
WIDTH, HEIGHT = 4.2, 3.4
"""Size of one panel in inches."""
NAMES = {"auc": "AUC", "advantage_soft": "soft advantage"}


def check_plots(folder: Path) -> None:
    """Check before an evaluation that its plots can be written.

    Raises:
        InputError: matplotlib is not installed, or `folder` is a file.
    """
    need_matplotlib()
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; name a folder for the plots")


def draw_plots(predictions: Sequence[Prediction], folder: Path) -> list[Path]:
    """Draw the predictions of an evaluation.

    Returns:
        The files, in the order of the module's docstring.

    Raises:
        InputError: there are no predictions, or as in `check_plots`.
    """
    check_plots(folder)
    if not predictions:
        raise InputError("there are no predictions to plot; evaluate at least one predictor")
    folder.mkdir(parents=True, exist_ok=True)
    shown = _at_one_budget(predictions)
    budget = shown[0].row.budget
    curves = {
        "budgets": _budget_curves(predictions),
        "calibration": _curves(shown, lambda p, r: [[b.predicted, b.true, b.rollouts] for b in _bins(p, r)]),
        "risk_coverage": _curves(shown, lambda p, r: [list(point) for point in risk_coverage(p, r)]),
    }
    drawn = {
        "budgets.png": _draw_budgets(curves["budgets"]),
        "calibration.png": _draw_calibration(curves["calibration"], budget),
        "risk_coverage.png": _draw_risk(curves["risk_coverage"], budget),
    }
    for name, figure in drawn.items():
        figure.savefig(folder / name, dpi=120)
    (folder / "curves.json").write_text(json.dumps({"budget": budget, **curves}, indent=1) + "\n", encoding="utf-8")
    return [folder / name for name in (*drawn, "curves.json")]


Curves = dict[str, dict[str, Any]]
"""Points of each curve, by data set and predictor."""


def _at_one_budget(predictions: Sequence[Prediction]) -> list[Prediction]:
    budget = min({p.row.budget for p in predictions}, key=lambda b: abs(b - SHOWN_BUDGET))
    return [p for p in predictions if p.row.budget == budget]


def _bins(probability: FloatVector, reward: FloatVector) -> list[Any]:
    return list(calibration_curve(probability, reward, BINS))


def _curves(predictions: Sequence[Prediction], curve: Callable[[FloatVector, FloatVector], list[Any]]) -> Curves:
    """Compute a curve for each data set and predictor from the rollouts of all seeds."""
    parts: dict[tuple[str, str], list[Prediction]] = {}
    for made in predictions:
        parts.setdefault((made.row.dataset, made.row.predictor), []).append(made)
    out: Curves = {}
    for (dataset, predictor), own in parts.items():
        probability, reward = (np.concatenate([getattr(p, name) for p in own]) for name in ("probability", "reward"))
        out.setdefault(dataset, {})[predictor] = curve(probability, reward)
    return out


def _budget_curves(predictions: Sequence[Prediction]) -> Curves:
    """Points (budget, mean, standard error) of each metric in `NAMES`; the error is null for one seed."""
    out: Curves = {}
    for cell in summary(p.row for p in predictions):
        if cell.metric in NAMES:
            own = out.setdefault(cell.dataset, {}).setdefault(cell.predictor, {name: [] for name in NAMES})
            own[cell.metric].append(_point(cell))
    return out


def _point(cell: SummaryRow) -> list[float | None]:
    return [cell.budget, *(None if np.isnan(value) else value for value in (cell.mean, cell.error))]


def _figure(datasets: Sequence[str], rows: int = 1) -> tuple[Figure, list[list[Axes]]]:
    """Create a figure with one column a data set."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH * len(datasets), HEIGHT * rows), layout="constrained")
    axes = [[figure.add_subplot(rows, len(datasets), r * len(datasets) + c + 1) for c in range(len(datasets))]
            for r in range(rows)]  # fmt: skip
    for axis, dataset in zip(axes[0], datasets, strict=True):
        axis.set_title(dataset)
    return figure, axes


def _draw_budgets(curves: Curves) -> Figure:
    figure, axes = _figure(list(curves), rows=len(NAMES))
    for row, (metric, name) in zip(axes, NAMES.items(), strict=True):
        for axis, predictors in zip(row, curves.values(), strict=True):
            for predictor, own in predictors.items():
                points = sorted(point for point in own[metric] if point[1] is not None)
                budget, mean = [100 * p[0] for p in points], [p[1] for p in points]
                axis.errorbar(budget, mean, yerr=[p[2] or 0.0 for p in points], label=predictor, marker="o", capsize=2)
            axis.set_xlabel("labelled queries, %")
            axis.set_ylabel(name)
    axes[0][0].legend(fontsize="small")
    return figure


def _draw_calibration(curves: Curves, budget: float) -> Figure:
    figure, axes = _figure(list(curves))
    for axis, predictors in zip(axes[0], curves.values(), strict=True):
        axis.plot([0, 1], [0, 1], color="0.7", linewidth=1)
        for predictor, points in predictors.items():
            axis.plot([p[0] for p in points], [p[1] for p in points], label=predictor, marker="o")
        axis.set_xlabel(f"probability ({budget:.0%} labelled)")
        axis.set_ylabel("share of right rollouts")
    axes[0][0].legend(fontsize="small")
    return figure


def _draw_risk(curves: Curves, budget: float) -> Figure:
    figure, axes = _figure(list(curves))
    for axis, predictors in zip(axes[0], curves.values(), strict=True):
        for predictor, points in predictors.items():
            axis.plot([p[0] for p in points], [p[1] for p in points], label=predictor)
        axis.set_xlabel(f"coverage, most confident first ({budget:.0%} labelled)")
        axis.set_ylabel("share of errors")
        axis.set_ylim(bottom=0)
    axes[0][0].legend(fontsize="small")
    return figure
