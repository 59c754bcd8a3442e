"""Plots of an evaluation: files, curves and errors."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from memstore.errors import InputError
from memstore.snapshots.snapshot import Snapshot
from memstore_gnn.baselines.constant import Constant
from memstore_gnn.baselines.vote_share import VoteShare
from memstore_gnn.evaluation.evaluate import EvaluationRow, Prediction, evaluate
from memstore_gnn.evaluation.plots import check_plots, draw_plots
from memstore_gnn.metrics import auc

FILES = ["budgets.png", "calibration.png", "risk_coverage.png", "curves.json"]


@pytest.fixture(scope="module")
def kept(build_snapshot: Callable[..., Snapshot]) -> list[Prediction]:
    """Predictions for two data sets of 30 queries with 5 rollouts, two predictors, two budgets and two seeds."""
    rng = np.random.default_rng(0)
    rows = []
    for dataset in ("one", "two"):
        for number in range(30):
            for _ in range(5):
                right = rng.random() < 0.6
                value = "1" if right else str(rng.integers(2, 6))
                rows.append(
                    {"query": f"{dataset} {number}", "dataset": dataset, "value": value, "reward": float(right)}
                )
    made: list[Prediction] = []
    evaluate(build_snapshot(rows), [Constant(), VoteShare()], budgets=[0.2, 0.5], seeds=[0, 1], keep=made.append)
    return made


def test_kept_predictions_give_the_metrics_of_their_row(kept: list[Prediction]) -> None:
    for made in kept:
        assert len(made.probability) == len(made.reward) == len(made.query) == made.row.rollouts
        assert auc(made.probability, made.reward) == made.row.auc
        assert len(np.unique(made.query)) == made.row.queries


def test_plots_and_curves_are_written(kept: list[Prediction], tmp_path: Path) -> None:
    files = draw_plots(kept, tmp_path / "plots")
    assert [path.name for path in files] == FILES
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in files[:3])
    curves = json.loads(files[3].read_text(encoding="utf-8"))
    assert curves["budget"] == 0.2
    assert list(curves["budgets"]) == list(curves["calibration"]) == list(curves["risk_coverage"]) == ["one", "two"]
    points = curves["budgets"]["one"]["vote_share"]["auc"]
    own = [k.row.auc for k in kept if (k.row.dataset, k.row.predictor, k.row.budget) == ("one", "vote_share", 0.2)]
    assert points[0] == pytest.approx([0.2, np.mean(own), np.std(own, ddof=1) / np.sqrt(2)])
    assert [point[0] for point in points] == [0.2, 0.5]
    assert sum(b[2] for b in curves["calibration"]["two"]["vote_share"]) == 2 * 24 * 5
    assert curves["risk_coverage"]["two"]["constant"][-1][0] == 1.0


def test_single_seed_has_no_error_and_undefined_metric_no_point(kept: list[Prediction], tmp_path: Path) -> None:
    first = kept[0]
    unknown = Prediction(EvaluationRow(**{**vars(first.row), "auc": float("nan")}), *first[1:])
    curves = json.loads(draw_plots([unknown], tmp_path)[3].read_text(encoding="utf-8"))
    own = curves["budgets"][first.row.dataset][first.row.predictor]
    assert own["auc"] == [[0.2, None, None]]
    assert own["advantage_soft"][0][2] is None


def test_missing_matplotlib_raises_with_the_install_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(InputError, match=r"memstore\[plots\]"):
        check_plots(tmp_path)


def test_file_at_the_folder_and_empty_predictions_raise(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        check_plots(tmp_path / "file")
    with pytest.raises(InputError, match="no predictions to plot"):
        draw_plots([], tmp_path)
