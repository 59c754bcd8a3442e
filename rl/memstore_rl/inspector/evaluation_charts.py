"""Charts of an evaluation: for the page *Evaluation*, and as files of `memstore evaluate --plots`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from markupsafe import Markup

from memstore.errors import InputError
from memstore_gnn.evaluation.curves import METRICS, BudgetPoint, Curves
from memstore_gnn.metrics import CalibrationBin, RiskPoint
from memstore_rl.inspector.charts import Point, chart_file, line_chart

FIRST = "memstore"
"""The predictor that is drawn first: the model of `memstore train`."""
FILES = ("budgets.svg", "calibration.svg", "risk_coverage.svg", "curves.json")
DIAGONAL = (Point(0, 0), Point(1, 1))

PointT = TypeVar("PointT")


def check_folder(folder: Path) -> None:
    """Check before an evaluation that its charts can be written.

    Raises:
        InputError: `folder` is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; name a folder for the plots")


def write_charts(curves: Curves, folder: Path) -> list[Path]:
    """Write the charts of an evaluation as SVG, each file with those of all datasets, and the points as JSON.

    Raises:
        InputError: `folder` is a file.
    """
    check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    named = {
        f"{dataset}: {METRICS[metric]} over the share of labels": chart
        for dataset in curves.budgets
        for metric, chart in budget_charts(curves, dataset).items()
    }
    calibration = {f"{dataset}: calibration": calibration_chart(curves, dataset) for dataset in curves.calibration}
    risk = {f"{dataset}: risk over coverage": risk_chart(curves, dataset) for dataset in curves.risk_coverage}
    contents = (*map(chart_file, (named, calibration, risk)), json.dumps(curves._asdict(), indent=1) + "\n")
    paths = [folder / name for name in FILES]
    for path, content in zip(paths, contents, strict=True):
        path.write_text(content, encoding="utf-8")
    return paths


def budget_charts(curves: Curves, dataset: str) -> dict[str, Markup]:
    """Each metric over the share of labels, by the metric's name."""
    return {metric: _budget_chart(_first(curves.budgets[dataset]), metric, dataset) for metric in METRICS}


def _budget_chart(
    of_predictors: Mapping[str, Mapping[str, Sequence[BudgetPoint]]], metric: str, dataset: str
) -> Markup:
    lines = {
        predictor: [Point(100 * point.budget, point.mean) for point in own[metric] if point.mean is not None]
        for predictor, own in of_predictors.items()
    }
    lowest = min((point.y for line in lines.values() for point in line), default=0.0)
    return line_chart(
        lines,
        title=f"{METRICS[metric]} over the share of labels, {dataset}",
        x_name="labelled queries, %",
        y_name=METRICS[metric],
        y_range=(min(0.0, math.floor(10 * lowest) / 10) if metric != "auc" else min(0.5, lowest), 1.0),
    )


def calibration_chart(curves: Curves, dataset: str) -> Markup:
    """The share of right rollouts over the predicted probability; the diagonal is perfect calibration."""
    bins: Mapping[str, Sequence[CalibrationBin]] = _first(curves.calibration[dataset])
    return line_chart(
        {predictor: [Point(one.predicted, one.true) for one in own] for predictor, own in bins.items()},
        title=f"Calibration at {curves.budget:.0%} labelled, {dataset}",
        x_name=f"predicted probability ({curves.budget:.0%} labelled)",
        y_name="share of right rollouts",
        x_range=(0, 1),
        y_range=(0, 1),
        guide=DIAGONAL,
    )


def risk_chart(curves: Curves, dataset: str) -> Markup:
    """The share of errors among the most confident predictions."""
    lines: Mapping[str, Sequence[RiskPoint]] = _first(curves.risk_coverage[dataset])
    highest = max((point.risk for own in lines.values() for point in own), default=0.0)
    return line_chart(
        {predictor: [Point(point.coverage, point.risk) for point in own] for predictor, own in lines.items()},
        title=f"Risk over coverage at {curves.budget:.0%} labelled, {dataset}",
        x_name=f"coverage, most confident first ({curves.budget:.0%} labelled)",
        y_name="share of errors",
        x_range=(0, 1),
        y_range=(0, max(0.1, math.ceil(10 * highest) / 10)),
    )


def _first(of_predictors: Mapping[str, PointT]) -> dict[str, PointT]:
    """The predictors, memstore's own first."""
    return dict(sorted(of_predictors.items(), key=lambda one: one[0] != FIRST))
