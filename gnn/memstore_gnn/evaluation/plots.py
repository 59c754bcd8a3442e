"""What an evaluation found, as pictures: label budgets, calibration, risk against coverage.

Three files in a folder, each with one small picture a dataset: `budgets.png` (AUC and soft advantage over the share
of labels, mean over seeds with the standard error), `calibration.png` (how often the rollouts of a probability are
right) and `risk_coverage.png` (how many are wrong among those a predictor is surest of). The latter two are at one
budget, all seeds together. The same curves are beside them as `curves.json`.

matplotlib draws them; it comes with the extra `plots` and nothing else needs it.
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
from memstore_gnn.scoring.targets import need_matplotlib

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN_BUDGET = 0.2
"""The budget of the calibration and risk pictures, or the one nearest to it."""
BINS = 10
WIDTH, HEIGHT = 4.2, 3.4
"""Inches of one small picture."""
NAMES = {"auc": "AUC", "advantage_soft": "soft advantage"}


def check_plots(folder: Path) -> None:
    """Fail before the work rather than after it.

    Raises:
        InputError: matplotlib is not installed, or something else than a folder is in the way.
    """
    need_matplotlib()
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; name a folder for the plots")


def draw_plots(predictions: Sequence[Prediction], folder: Path) -> list[Path]:
    """Draw what was kept of an evaluation; the files, in the order of the module's docstring.

    Raises:
        InputError: nothing was kept, or as `check_plots`.
    """
    check_plots(folder)
    if not predictions:
        raise InputError("there is nothing to draw: the evaluation measured no predictor")
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
"""By dataset, then by predictor."""


def _at_one_budget(predictions: Sequence[Prediction]) -> list[Prediction]:
    budget = min({p.row.budget for p in predictions}, key=lambda b: abs(b - SHOWN_BUDGET))
    return [p for p in predictions if p.row.budget == budget]


def _bins(probability: FloatVector, reward: FloatVector) -> list[Any]:
    return list(calibration_curve(probability, reward, BINS))


def _curves(predictions: Sequence[Prediction], curve: Callable[[FloatVector, FloatVector], list[Any]]) -> Curves:
    """A curve for each dataset and predictor, from the rollouts of all seeds."""
    parts: dict[tuple[str, str], list[Prediction]] = {}
    for made in predictions:
        parts.setdefault((made.row.dataset, made.row.predictor), []).append(made)
    out: Curves = {}
    for (dataset, predictor), own in parts.items():
        probability, reward = (np.concatenate([getattr(p, name) for p in own]) for name in ("probability", "reward"))
        out.setdefault(dataset, {})[predictor] = curve(probability, reward)
    return out


def _budget_curves(predictions: Sequence[Prediction]) -> Curves:
    """For each metric of `NAMES` rows of budget, mean and standard error (null for one seed)."""
    out: Curves = {}
    for cell in summary(p.row for p in predictions):
        if cell.metric in NAMES:
            own = out.setdefault(cell.dataset, {}).setdefault(cell.predictor, {name: [] for name in NAMES})
            own[cell.metric].append(_point(cell))
    return out


def _point(cell: SummaryRow) -> list[float | None]:
    return [cell.budget, *(None if np.isnan(value) else value for value in (cell.mean, cell.error))]


def _figure(datasets: Sequence[str], rows: int = 1) -> tuple[Figure, list[list[Axes]]]:
    """A figure with a column a dataset."""
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
        axis.set_ylabel("share that is right")
    axes[0][0].legend(fontsize="small")
    return figure


def _draw_risk(curves: Curves, budget: float) -> Figure:
    figure, axes = _figure(list(curves))
    for axis, predictors in zip(axes[0], curves.values(), strict=True):
        for predictor, points in predictors.items():
            axis.plot([p[0] for p in points], [p[1] for p in points], label=predictor)
        axis.set_xlabel(f"coverage, surest first ({budget:.0%} labelled)")
        axis.set_ylabel("share that is wrong")
        axis.set_ylim(bottom=0)
    axes[0][0].legend(fontsize="small")
    return figure
