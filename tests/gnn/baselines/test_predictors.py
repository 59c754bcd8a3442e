"""Predictors on a memory with an informative majority, with one label, with one class, and without labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from memstore.errors import ModelError
from memstore.snapshots.snapshot import Snapshot
from memstore.types import FloatVector
from memstore_gnn.baselines.constant import Constant
from memstore_gnn.baselines.knn import NearestNeighbours
from memstore_gnn.baselines.label_propagation import LabelPropagation
from memstore_gnn.baselines.logistic import Boosting, Logistic
from memstore_gnn.baselines.vote_share import VoteShare
from memstore_gnn.data.groups import query_of_thinkings
from memstore_gnn.data.labels import rewards_of
from memstore_gnn.data.predictor import Predictor
from memstore_gnn.evaluation.evaluate import hide_labels
from memstore_gnn.metrics import auc
from memstore_gnn.models.map_logistic import MapLogistic
from memstore_gnn.models.newton import solve
from memstore_gnn.models.prior import LabelledSet, SharedPrior, train_prior

PREDICTORS = [Constant(), VoteShare(), NearestNeighbours(), LabelPropagation(), Logistic(), Boosting(), MapLogistic()]


@pytest.fixture(scope="module")
def memory(build_snapshot: Callable[..., Snapshot]) -> Snapshot:
    """60 queries in groups of 1 to 8; wrong answers scatter and have other vectors; some rollouts have no answer."""
    rng = np.random.default_rng(1)
    rows, vectors = [], []
    for i in range(60):
        skill = rng.uniform(0.2, 0.95)
        for _ in range(rng.integers(1, 9)):
            right = rng.random() < skill
            value = "42" if right else ("" if rng.random() < 0.2 else str(rng.integers(0, 9)))
            rows.append({"query": f"q{i}", "value": value, "thinking": f"6 * 7 = {value}", "reward": float(right)})
            vectors.append(rng.normal(size=6) + 2 * right)
    x = np.array(vectors)
    at = {f"q{i}": rng.normal(size=6) for i in range(60)}
    unit = {text: v / np.linalg.norm(v) for text, v in at.items()}
    return build_snapshot(rows, unit, list(x / np.linalg.norm(x, axis=1, keepdims=True)))


def _predict(predictor: Predictor, memory: Snapshot, shown: np.ndarray) -> FloatVector:
    """Probabilities with visible labels of the queries in `shown` (bool [Q])."""
    reward = np.where(shown[query_of_thinkings(memory)], rewards_of(memory), np.nan)
    select = shown & (np.arange(len(shown)) % 5 == 0)
    return predictor.fit_predict(hide_labels(memory), reward, shown & ~select, select, 0)


@pytest.mark.parametrize("predictor", PREDICTORS, ids=lambda p: p.name)
@pytest.mark.parametrize("count", [0, 1, 2, 30, 60])
def test_every_rollout_has_a_probability(memory: Snapshot, predictor: Predictor, count: int) -> None:
    shown = np.arange(memory.queries.num_rows) < count
    probability = _predict(predictor, memory, shown)
    assert probability.shape == (memory.thinkings.num_rows,)
    assert np.isfinite(probability).all()
    assert probability.min() >= 0
    assert probability.max() <= 1
    np.testing.assert_array_equal(probability, _predict(predictor, memory, shown))


@pytest.mark.parametrize("predictor", PREDICTORS, ids=lambda p: p.name)
@pytest.mark.parametrize("label", [0.0, 1.0])
def test_labels_of_one_class_are_accepted(memory: Snapshot, predictor: Predictor, label: float) -> None:
    query = query_of_thinkings(memory)
    shown = np.arange(memory.queries.num_rows) < 20
    reward = np.where(shown[query], label, np.nan)
    probability = predictor.fit_predict(hide_labels(memory), reward, shown, np.zeros_like(shown), 0)
    assert np.isfinite(probability).all()


@pytest.mark.parametrize(
    ("predictor", "least"),
    [
        (VoteShare(), 0.7),
        (NearestNeighbours(), 0.8),
        (LabelPropagation(), 0.8),
        (Logistic(), 0.9),
        (MapLogistic(), 0.9),
    ],
    ids=lambda p: getattr(p, "name", p),
)
def test_predictors_reach_a_minimal_auc(memory: Snapshot, predictor: Predictor, least: float) -> None:
    shown = np.arange(memory.queries.num_rows) % 2 == 0
    report = ~shown[query_of_thinkings(memory)]
    assert auc(_predict(predictor, memory, shown)[report], rewards_of(memory)[report]) > least


def test_map_logistic_without_labels_equals_the_votes(memory: Snapshot) -> None:
    shown = np.zeros(memory.queries.num_rows, bool)
    assert auc(_predict(MapLogistic(), memory, shown), rewards_of(memory)) > 0.7


def test_held_out_logits_exist_for_labelled_rollouts_only(memory: Snapshot) -> None:
    shown = np.arange(memory.queries.num_rows) < 30
    reward = np.where(shown[query_of_thinkings(memory)], rewards_of(memory), np.nan)
    fitted = MapLogistic().fit(memory, reward, 0)
    np.testing.assert_array_equal(np.isfinite(fitted.held_out), np.isfinite(reward))
    assert np.isfinite(fitted.logit).all()


def test_newton_finds_the_penalised_optimum() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 3))
    label = (rng.random(50) < 0.5).astype(float)
    weight, penalty, centre = rng.uniform(0.5, 2, 50), np.array([1.0, 5.0, 1e9]), np.array([0.0, 1.0, 2.0])
    found = solve(x, label, weight, penalty, centre)
    probability = 1 / (1 + np.exp(-x @ found))
    gradient = x.T @ (weight * (probability - label)) + penalty * (found - centre)
    np.testing.assert_allclose(gradient[:2], 0, atol=1e-6)
    assert found[2] == pytest.approx(2.0, abs=1e-6)


def test_prior_is_loaded_as_saved(memory: Snapshot, tmp_path: Path) -> None:
    learned = LabelledSet.of(memory, rewards_of(memory))
    prior = train_prior([learned], {"data": ["toy"]})
    prior.save(tmp_path / "prior.safetensors")
    loaded = SharedPrior.load(tmp_path / "prior.safetensors")
    logit = prior.logit(learned.free, learned.domain)
    np.testing.assert_array_equal(loaded.logit(learned.free, learned.domain), logit)
    assert loaded.card == {"data": ["toy"]}
    assert loaded.inverse_temperature == prior.inverse_temperature
    assert set(prior.inverse_temperature) == set(learned.domain)
    assert auc(logit, rewards_of(memory)) > 0.8


def test_damaged_prior_raises(memory: Snapshot, tmp_path: Path) -> None:
    path = tmp_path / "prior.safetensors"
    with pytest.raises(ModelError, match="cannot be read"):
        SharedPrior.load(path)
    train_prior([LabelledSet.of(memory, rewards_of(memory))]).save(path)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ModelError, match="cannot be read"):
        SharedPrior.load(path)


def test_prior_without_labels_raises(memory: Snapshot) -> None:
    with pytest.raises(ModelError, match="ground truth"):
        train_prior([LabelledSet.of(memory, np.full(memory.thinkings.num_rows, np.nan))])


def test_prior_is_the_prediction_without_labels(memory: Snapshot) -> None:
    learned = LabelledSet.of(memory, rewards_of(memory))
    prior = replace(train_prior([learned]), inverse_temperature=dict.fromkeys(learned.domain, 2.0))
    probability = _predict(MapLogistic(prior), memory, np.zeros(memory.queries.num_rows, bool))
    logit = prior.logit(learned.free, learned.domain)
    np.testing.assert_allclose(probability, 1 / (1 + np.exp(-logit)), rtol=1e-6)
    elsewhere = prior.logit(learned.free, np.full(len(logit), "a domain that no set had", dtype=object))
    np.testing.assert_allclose(logit, 2.0 * elsewhere)
