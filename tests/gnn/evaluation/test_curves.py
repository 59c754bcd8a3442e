"""Curves of an evaluation, and the file beside a model that keeps them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from memstore.errors import InputError
from memstore.memory import Memory
from memstore.snapshots.snapshot import Snapshot
from memstore.testing.embedder import HashEmbedder
from memstore_gnn.baselines.constant import Constant
from memstore_gnn.baselines.vote_share import VoteShare
from memstore_gnn.evaluation.curves import CurveCollector, Curves
from memstore_gnn.evaluation.evaluate import EvaluationRow, Prediction, evaluate
from memstore_gnn.evaluation.kept import (
    FILE,
    RUNS,
    KeptEvaluations,
    keep_comparison,
    keep_situations,
    place_of,
    read_kept,
)
from memstore_gnn.evaluation.situations import SituationRow
from memstore_gnn.metrics import auc


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


def curves_of(predictions: list[Prediction]) -> Curves:
    collector = CurveCollector([made.row.budget for made in predictions])
    for made in predictions:
        collector.add(made)
    return collector.curves()


def test_curves(kept: list[Prediction]) -> None:
    curves = curves_of(kept)
    assert curves.budget == 0.2
    assert list(curves.budgets) == list(curves.calibration) == list(curves.risk_coverage) == ["one", "two"]
    points = curves.budgets["one"]["vote_share"]["auc"]
    own = [k.row.auc for k in kept if (k.row.dataset, k.row.predictor, k.row.budget) == ("one", "vote_share", 0.2)]
    assert points[0] == pytest.approx((0.2, np.mean(own), np.std(own, ddof=1) / np.sqrt(2)))
    assert [point.budget for point in points] == [0.2, 0.5]
    assert sum(one.rollouts for one in curves.calibration["two"]["vote_share"]) == 2 * 24 * 5
    assert curves.risk_coverage["two"]["constant"][-1].coverage == 1.0


def test_single_seed_has_no_error_and_undefined_metric_no_mean(kept: list[Prediction]) -> None:
    first = kept[0]
    own = curves_of([unknown_auc(first)]).budgets[first.row.dataset][first.row.predictor]
    assert own["auc"] == [(0.2, None, None)]
    assert own["advantage_soft"][0].error is None


def test_no_predictions_raise() -> None:
    with pytest.raises(InputError, match="no predictions to plot"):
        CurveCollector([0.2]).curves()


def unknown_auc(made: Prediction) -> Prediction:
    return Prediction(EvaluationRow(**{**vars(made.row), "auc": math.nan}), *made[1:])


def test_evaluations_are_read_back_newest_first(kept: list[Prediction], tmp_path: Path) -> None:
    path = tmp_path / FILE
    assert read_kept(path) == KeptEvaluations()
    situation = SituationRow("labelled", "kNN", 0, 3, 12, 0.7, 0.5, 0.1, math.nan)
    keep_situations(path, [situation, situation._replace(seed=1, auc=0.9)])
    for number in range(RUNS + 1):
        keep_comparison(path, [made.row for made in kept[number:]], curves_of(kept[number:]))
    found = read_kept(path)
    assert [len(run.rows) for run in found.comparisons] == [len(kept) - number for number in range(RUNS, 0, -1)]
    assert found.comparisons[-1].rows == [made.row for made in kept[1:]]
    assert found.comparisons[-1].curves == curves_of(kept[1:])
    [row] = found.situations[0].rows
    assert (row.seed, row.auc) == (-1, pytest.approx(0.8))
    assert math.isnan(row.gap)
    assert [one.name for one in tmp_path.iterdir()] == [FILE]


def test_undefined_figures_are_null(kept: list[Prediction], tmp_path: Path) -> None:
    made = unknown_auc(kept[0])
    keep_comparison(tmp_path / FILE, [made.row], curves_of([made]))
    document = json.loads((tmp_path / FILE).read_bytes())
    assert (document["version"], document["comparisons"][0]["rows"][0]["auc"]) == (1, None)
    assert math.isnan(read_kept(tmp_path / FILE).comparisons[0].rows[0].auc)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "is damaged; delete it, and run memstore evaluate again"),
        ("[1, 2]", "is damaged"),
        ('{"format": "memstore-evaluation", "version": 1}', "is damaged"),
        (
            '{"format": "memstore-evaluation", "version": 1, "comparisons": [{"rows": [3]}], "situations": []}',
            "is damaged",
        ),
        ('{"format": "memstore-evaluation", "version": 2}', "was written by a newer version of memstore"),
    ],
)
def test_a_file_that_cannot_be_read_says_what_to_do(tmp_path: Path, content: str, sentence: str) -> None:
    (tmp_path / FILE).write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=sentence):
        read_kept(tmp_path / FILE)
    assert (tmp_path / FILE).read_text(encoding="utf-8") == content


def test_without_a_model_nothing_is_kept(tmp_path: Path) -> None:
    with Memory.open(tmp_path / "memory", create=True, embedder=HashEmbedder()) as memory:
        assert "has no reward model; add rollouts" in str(place_of(memory))
