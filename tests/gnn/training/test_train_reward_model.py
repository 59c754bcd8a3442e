"""Training: errors, determinism, and quality compared with vote share."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from memstore.errors import ModelError
from memstore.snapshots.aliases import first_datasets
from memstore.snapshots.snapshot import Snapshot
from memstore_gnn.baselines.vote_share import VoteShare
from memstore_gnn.data.groups import groups_of, query_of_thinkings
from memstore_gnn.data.labels import rewards_of
from memstore_gnn.evaluation.evaluate import evaluate
from memstore_gnn.evaluation.own_model import OwnModel
from memstore_gnn.features.structure import structure_features
from memstore_gnn.metrics import advantage_soft
from memstore_gnn.models.calibration import Calibration, fit_calibration, sigmoid
from memstore_gnn.models.checkpoint import load_model, save_model
from memstore_gnn.models.map_logistic import MapLogistic
from memstore_gnn.models.prior import SharedPrior
from memstore_gnn.models.settings import TrainSettings
from memstore_gnn.training.fit import fit
from memstore_gnn.verbs import train_snapshot

QUICK = TrainSettings(members=2, epochs=20)


def test_training_splits_by_query_and_reports_next_to_baselines(make_world: Callable[..., Snapshot]) -> None:
    snapshot = make_world(queries=40)
    result = train_snapshot(snapshot, budget=0.5, settings=QUICK, device="cpu")
    parts = [result.splits.train, result.splits.select, result.splits.report]
    assert [int(part.sum()) for part in parts] == [16, 4, 20]
    assert not (parts[0] & parts[1]).any()
    assert not (parts[2] & (parts[0] | parts[1])).any()
    assert result.model.card.queries == {"train": 16, "select": 4, "report": 20}
    assert [row.predictor for row in result.metrics] == ["vote_share", "logistic", "memstore"]
    assert {row.queries for row in result.metrics} == {20}
    assert result.model.card.metrics[2]["auc"] == result.metrics[2].auc
    assert result.model.card.snapshot == snapshot.manifest.id


def test_same_seed_gives_the_same_model(trained: Any) -> None:
    again = fit(trained.snapshot, trained.reward, settings=trained.model.card.settings, device="cpu")
    assert again.card.id == trained.model.card.id
    assert np.array_equal(again.base.weights, trained.model.base.weights)
    other_seed = fit(trained.snapshot, trained.reward, seed=1, settings=trained.model.card.settings, device="cpu")
    assert other_seed.card.id != trained.model.card.id


def test_training_preserves_torchs_random_state(make_world: Callable[..., Snapshot]) -> None:
    snapshot = make_world(queries=8)
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    fit(snapshot, rewards_of(snapshot), settings=QUICK, device="cpu")
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (lambda r, q: np.full_like(r, np.nan), "training can see no label"),
        (lambda r, q: np.where(q == 3, r, np.nan), "only one query is labelled"),
        (lambda r, q: np.where(np.isfinite(r), 1.0, np.nan), "visible labels are right"),
        (lambda r, q: np.where(np.isfinite(r), 0.0, np.nan), "visible labels are wrong"),
        (lambda r, q: r[:-1], "rewards do not fit a snapshot"),
        (lambda r, q: r + 1.0, "outside 0..1"),
    ],
)
def test_labels_that_cannot_be_fitted_raise(trained: Any, reward: Callable[..., np.ndarray], message: str) -> None:
    labels = reward(trained.reward, query_of_thinkings(trained.snapshot))
    with pytest.raises(ModelError, match=message):
        fit(trained.snapshot, labels, settings=QUICK, device="cpu")


def test_empty_memory_raises(build_snapshot: Callable[..., Snapshot]) -> None:
    with pytest.raises(ModelError, match="no rollouts"):
        train_snapshot(build_snapshot([]), settings=QUICK)


def test_memory_without_ground_truth_gets_the_shipped_prior(build_snapshot: Callable[..., Snapshot]) -> None:
    values = ["1", "1", "1", "2"]
    snapshot = build_snapshot([{"query": f"q{n}", "value": v, "reward": None} for n in range(6) for v in values])
    result = train_snapshot(snapshot, settings=QUICK, device="cpu")
    model = result.model
    probability = model.predict(snapshot, model.label_context(snapshot, rewards_of(snapshot)))
    assert model.card.id.startswith("prior-")
    assert not model.correction.networks
    assert not result.metrics
    assert not result.splits.labelled.any()
    agreed = groups_of(snapshot).votes > 1
    assert probability[agreed].min() > 0.5 > probability[~agreed].max()


def test_without_labels_the_shipped_inverse_temperature_scales_the_logit(
    build_snapshot: Callable[..., Snapshot], tmp_path: Path
) -> None:
    logit = {}
    for domain in ("math", "a domain without data sets"):
        rows = [{"query": f"q{n}", "value": v, "reward": None, "domain": domain} for n in range(6) for v in "1112"]
        snapshot = build_snapshot(rows)
        save_model(train_snapshot(snapshot, settings=QUICK, device="cpu").model, tmp_path)
        model = load_model(tmp_path)
        probability = model.predict(snapshot, model.label_context(snapshot, rewards_of(snapshot)))
        logit[domain] = np.log(probability / (1.0 - probability))
    scaled, plain = logit.values()
    np.testing.assert_allclose(scaled, SharedPrior.shipped().inverse_temperature["math"] * plain)


def test_error_names_the_node_of_a_vector_that_is_not_finite(trained: Any) -> None:
    x = trained.snapshot.thinking_x.copy()
    x[4, 2] = np.nan
    broken = replace(trained.snapshot, thinking_x=x)
    name = trained.snapshot.thinkings["id"][4].as_py()
    with pytest.raises(ModelError, match=f"{name} is not finite"):
        fit(broken, rewards_of(broken), settings=QUICK, device="cpu")
    with pytest.raises(ModelError, match="is not finite"):
        trained.model.predict(broken, trained.model.label_context(trained.snapshot, trained.reward))


def test_unknown_device_raises(trained: Any) -> None:
    with pytest.raises(ModelError, match="no device 'cuda:99'"):
        fit(trained.snapshot, trained.reward, settings=QUICK, device="cuda:99")


def test_groups_of_any_size_and_missing_answers_are_scored(build_snapshot: Callable[..., Snapshot]) -> None:
    rng = np.random.default_rng(0)
    rows, vectors = [], []
    for number in range(12):
        for _ in range(1 + 3 * (number % 4)):
            right = rng.random() < 0.5
            value = "" if rng.random() < 0.2 else str(number if right else number + 1)
            rows.append({"query": f"q{number}", "value": value, "reward": float(right), "dataset": f"d{number % 3}"})
            rows[-1]["domain"] = ("math", "qa", "code")[number % 3]
            vectors.append(rng.normal(size=4) if rng.random() < 0.8 else None)
    snapshot = build_snapshot(rows, None, vectors)
    reward = np.where(query_of_thinkings(snapshot) < 8, rewards_of(snapshot), np.nan)
    model = fit(snapshot, reward, settings=QUICK, device="cpu")
    probability = model.predict(snapshot, model.label_context(snapshot, reward))
    assert ((probability > 0) & (probability < 1)).all()
    unseen = replace(snapshot, queries=_set(snapshot.queries, "domain", ["other"] * 12))
    assert np.isfinite(model.predict(unseen, model.label_context(snapshot, reward))).all()


def _set(table: Any, name: str, values: list[str]) -> Any:
    return table.set_column(table.column_names.index(name), name, [values])


@pytest.fixture(scope="module")
def two_datasets(build_snapshot: Callable[..., Snapshot]) -> Snapshot:
    """Nine of ten rollouts are right in `easy` and one of ten in `hard`, with the same agreement in both."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(120):
        dataset, skill = (("easy", 0.9), ("hard", 0.1))[number % 2]
        crowd = rng.random() < skill
        for sample in range(5):
            agrees = rng.random() < 0.8
            right = crowd if agrees else not crowd
            value = str(number) if agrees else str(number + 1)
            rows.append({"query": f"{dataset} {number}", "dataset": dataset, "value": value, "reward": float(right)})
            rows[-1]["thinking"] = f"sample {sample}"
    return build_snapshot(rows)


def test_data_sets_have_their_own_coefficients(two_datasets: Snapshot) -> None:
    snapshot = two_datasets
    model = fit(snapshot, rewards_of(snapshot), settings=QUICK, device="cpu")
    datasets = first_datasets(snapshot)
    hard = (datasets == "hard")[query_of_thinkings(snapshot)]
    probability = model.predict(snapshot, model.label_context(snapshot, rewards_of(snapshot)))
    assert len(model.base.strata) == 3
    assert probability[~hard].mean() > 0.6 > 0.4 > probability[hard].mean()
    unseen = replace(snapshot, datasets=_set(snapshot.datasets, "name", ["new", "newer"]))
    between = model.predict(unseen, model.label_context(snapshot, rewards_of(snapshot))).mean()
    assert probability[hard].mean() < between < probability[~hard].mean()


def test_base_stays_at_the_votes_if_nothing_is_better(build_snapshot: Callable[..., Snapshot]) -> None:
    """Only votes are informative: texts and vectors are noise, so held-out queries show no gain."""
    rng = np.random.default_rng(5)
    rows, vectors = [], []
    for number in range(40):
        for _ in range(6):
            right = rng.random() < 0.7
            value = "right" if right else f"wrong {rng.integers(0, 3)}"
            words = " ".join(rng.choice(list("abcdefgh"), 5))
            rows.append({"query": f"q{number}", "value": value, "thinking": words, "reward": float(right)})
            vectors.append(rng.normal(size=4))
    snapshot = build_snapshot(rows, None, vectors)
    reward = np.where(query_of_thinkings(snapshot) < 20, rewards_of(snapshot), np.nan)
    report = ~np.isfinite(reward)
    probability = sigmoid(MapLogistic().fit(snapshot, reward, 0).logit)
    votes = VoteShare().fit_predict(snapshot, reward, np.ones(40, bool), np.zeros(40, bool), 0)
    query, truth = query_of_thinkings(snapshot)[report], rewards_of(snapshot)[report]
    ours, theirs = (advantage_soft(p[report], truth, query) for p in (probability, votes))
    assert ours > theirs - 0.01


def test_calibration_is_shrunk_to_the_base() -> None:
    rng = np.random.default_rng(0)
    query = np.repeat(np.arange(400), 5)
    base = rng.normal(size=2000) * 2
    label = (rng.random(2000) < 1 / (1 + np.exp(-base))).astype(np.float64)
    assert fit_calibration(base, label, query).slope == pytest.approx(1.0, abs=0.2)
    assert fit_calibration(base * 3, label, query).slope == pytest.approx(1 / 3, abs=0.1)
    assert fit_calibration(base[:10], label[:10], query[:10]).slope == pytest.approx(1.0, abs=0.25)
    assert Calibration(0.5, 0.1).logit(np.ones(1))[0] == pytest.approx(0.6)


@pytest.mark.parametrize("name", ["zeroeval__gsm8k", "mmlupro__mmlu_pro_ori"])
def test_model_is_better_than_vote_share_on_real_rollouts(
    build_snapshot: Callable[..., Snapshot], shared_data: Path, name: str
) -> None:
    """120 queries without vectors: votes, texts and labels only."""
    with gzip.open(shared_data / "rollouts" / f"{name}.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file]
    chosen = set(sorted({row["query_id"] for row in rows})[:120])
    kept = [{**row, "value": row["answer"].strip()} for row in rows if row["query_id"] in chosen]
    predictors = [VoteShare(), OwnModel(TrainSettings(members=3, epochs=60), device="cpu")]
    table = evaluate(build_snapshot(kept), predictors, budgets=[0.4], seeds=[0, 1])
    auc = {p: np.mean([row.auc for row in table if row.predictor == p]) for p in ("vote_share", "memstore")}
    assert auc["memstore"] > auc["vote_share"]


def test_structure_features_do_not_read_labels(trained: Any) -> None:
    blind = replace(trained.snapshot, thinkings=_set(trained.snapshot.thinkings, "reward", [None] * 180))
    hidden, shown = (structure_features(one, groups_of(one)).values for one in (blind, trained.snapshot))
    assert np.array_equal(hidden, shown)
