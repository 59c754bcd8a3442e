"""Training: what it refuses, what it repeats, and that what it learns is worth more than counting votes."""

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
from memstore.snapshot import Snapshot
from memstore_gnn.calibrate import Calibration, fit_calibration
from memstore_gnn.evaluate import evaluate, rewards_of
from memstore_gnn.features.groups import query_of_thinkings
from memstore_gnn.features.structure import structure_features
from memstore_gnn.features.table import FeatureTable
from memstore_gnn.model.prior import VOTE_CENTRE, fit_prior
from memstore_gnn.model.settings import TrainSettings
from memstore_gnn.predictors.attention import Attention
from memstore_gnn.predictors.vote_share import VoteShare
from memstore_gnn.train import fit, train

QUICK = TrainSettings(members=2, epochs=20)


def test_training_cuts_by_query_and_reports_beside_simple_rules(make_world: Callable[..., Snapshot]) -> None:
    snapshot = make_world(queries=40)
    result = train(snapshot, budget=0.5, settings=QUICK, device="cpu")
    parts = [result.splits.train, result.splits.select, result.splits.report]
    assert [int(part.sum()) for part in parts] == [16, 4, 20]
    assert not (parts[0] & parts[1]).any()
    assert not (parts[2] & (parts[0] | parts[1])).any()
    assert result.model.card.queries == {"train": 16, "select": 4, "report": 20}
    assert [row.predictor for row in result.metrics] == ["vote_share", "logistic", "attention"]
    assert {row.queries for row in result.metrics} == {20}
    assert result.model.card.metrics[2]["auc"] == result.metrics[2].auc
    assert result.model.card.snapshot == snapshot.manifest.id


def test_the_same_seed_gives_the_same_model(trained: Any) -> None:
    again = fit(trained.snapshot, trained.reward, settings=trained.model.card.settings, device="cpu")
    assert again.card.id == trained.model.card.id
    for one, other in zip(trained.model.networks, again.networks, strict=True):
        for name, value in one.state_dict().items():
            assert torch.equal(value, other.state_dict()[name]), name
    other_seed = fit(trained.snapshot, trained.reward, seed=1, settings=trained.model.card.settings, device="cpu")
    assert other_seed.card.id != trained.model.card.id


def test_training_leaves_torchs_random_state_alone(make_world: Callable[..., Snapshot]) -> None:
    snapshot = make_world(queries=8)
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    fit(snapshot, rewards_of(snapshot), settings=QUICK, device="cpu")
    assert torch.equal(torch.rand(3), expected)


def test_batches_of_queries_train_as_the_whole_does(trained: Any) -> None:
    settings = replace(trained.model.card.settings, batch_rollouts=30)
    model = fit(trained.snapshot, trained.reward, settings=settings, device="cpu")
    probability = model.predict(trained.snapshot, model.recall(trained.snapshot, trained.reward))
    assert np.abs(probability - trained.probability())[trained.new].mean() < 0.05


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (lambda r, q: np.full_like(r, np.nan), "no label is visible"),
        (lambda r, q: np.where(q == 3, r, np.nan), "only one query is labelled"),
        (lambda r, q: np.where(np.isfinite(r), 1.0, np.nan), "visible labels say right"),
        (lambda r, q: np.where(np.isfinite(r), 0.0, np.nan), "visible labels say wrong"),
        (lambda r, q: r[:-1], "rewards do not fit a snapshot"),
        (lambda r, q: r + 1.0, "outside 0..1"),
    ],
)
def test_what_cannot_be_learnt_is_refused(trained: Any, reward: Callable[..., np.ndarray], message: str) -> None:
    labels = reward(trained.reward, query_of_thinkings(trained.snapshot))
    with pytest.raises(ModelError, match=message):
        fit(trained.snapshot, labels, settings=QUICK, device="cpu")


def test_a_memory_without_ground_truth_is_refused(build_snapshot: Callable[..., Snapshot]) -> None:
    for rows in ([], [{"query": "q", "value": "1", "reward": None}]):
        with pytest.raises(ModelError, match="no ground truth"):
            train(build_snapshot(rows), settings=QUICK)


def test_a_broken_vector_is_named(trained: Any) -> None:
    x = trained.snapshot.thinking_x.copy()
    x[4, 2] = np.nan
    broken = replace(trained.snapshot, thinking_x=x)
    name = trained.snapshot.thinkings["id"][4].as_py()
    with pytest.raises(ModelError, match=f"{name} is not finite"):
        fit(broken, rewards_of(broken), settings=QUICK, device="cpu")
    with pytest.raises(ModelError, match="is not finite"):
        trained.model.predict(broken, trained.model.recall(trained.snapshot, trained.reward))


def test_a_device_that_is_not_there_is_refused(trained: Any) -> None:
    with pytest.raises(ModelError, match="no device 'cuda:99'"):
        fit(trained.snapshot, trained.reward, settings=QUICK, device="cuda:99")


def test_groups_of_any_size_and_empty_answers_are_scored(build_snapshot: Callable[..., Snapshot]) -> None:
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
    probability = model.predict(snapshot, model.recall(snapshot, reward))
    assert ((probability > 0) & (probability < 1)).all()
    unseen = replace(snapshot, queries=_set(snapshot.queries, "domain", ["other"] * 12))
    assert np.isfinite(model.predict(unseen, model.recall(snapshot, reward))).all()


def _set(table: Any, name: str, values: list[str]) -> Any:
    return table.set_column(table.column_names.index(name), name, [values])


def test_few_labels_leave_the_prior_at_the_votes() -> None:
    """Two queries cannot outweigh the votes, whatever sixty random features say."""
    rng = np.random.default_rng(0)
    share = rng.uniform(size=20).astype(np.float32)
    noise = rng.normal(size=(20, 60)).astype(np.float32)
    names = (VOTE_CENTRE, *(f"noise{i}" for i in range(60)))
    table = FeatureTable(names, np.column_stack((share, noise)))
    query = np.repeat([0, 1], 10)
    label = (share > 0.5).astype(np.float64)
    fitted = fit_prior(table, label, query, ["math/sums"] * 20, query)
    logit = fitted.prior.logit(table, ["math/other"] * 20)
    assert np.corrcoef(logit, share)[0, 1] > 0.95


def test_a_dataset_has_its_own_base_rate_and_an_unseen_one_that_of_its_domain() -> None:
    """In `hard` nearly everything is wrong and in `easy` nearly everything right, whatever the votes say."""
    rng = np.random.default_rng(0)
    query = np.repeat(np.arange(200), 4)
    hard = query < 100
    label = (rng.random(800) < np.where(hard, 0.1, 0.9)).astype(np.float64)
    table = FeatureTable((VOTE_CENTRE, "noise"), rng.uniform(size=(800, 2)).astype(np.float32))
    places = np.where(hard, "math/hard", "math/easy").tolist()
    prior = fit_prior(table, label, query, places, query % 5).prior
    assert prior.places == ("", "math/easy", "math/hard")
    means = {name: prior.logit(table, [f"math/{name}"] * 800).mean() for name in ("easy", "hard", "new")}
    assert means["hard"] < -1.5 < means["new"] < 1.5 < means["easy"]


def test_calibration_fades_out_a_correction_that_does_not_help() -> None:
    rng = np.random.default_rng(0)
    query = np.repeat(np.arange(400), 5)
    prior = rng.normal(size=2000) * 2
    label = (rng.random(2000) < 1 / (1 + np.exp(-prior))).astype(np.float64)
    useless = fit_calibration(prior, rng.normal(size=2000) * 2, label, query)
    assert useless.trust < 0.1
    assert useless.slope == pytest.approx(1.0, abs=0.2)
    half, rest = prior / 2, prior / 2
    assert fit_calibration(half, rest, label, query).trust > 0.6
    few = fit_calibration(prior[:10], np.zeros(10), label[:10], query[:10])
    assert few.slope == pytest.approx(1.0, abs=0.25)
    assert Calibration(1.0, 0.5, 0.1).logit(np.ones(1), np.ones(1))[0] == pytest.approx(1.6)


@pytest.mark.parametrize("name", ["zeroeval__gsm8k", "mmlupro__mmlu_pro_ori"])
def test_on_real_rollouts_it_is_ahead_of_vote_share(
    build_snapshot: Callable[..., Snapshot], shared_data: Path, name: str
) -> None:
    """120 queries without vectors: what votes, texts and labels alone give."""
    with gzip.open(shared_data / "rollouts" / f"{name}.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file]
    chosen = set(sorted({row["query_id"] for row in rows})[:120])
    kept = [{**row, "value": row["answer"].strip()} for row in rows if row["query_id"] in chosen]
    predictors = [VoteShare(), Attention(TrainSettings(members=3, epochs=60), device="cpu")]
    table = evaluate(build_snapshot(kept), predictors, budgets=[0.4], seeds=[0, 1])
    auc = {p: np.mean([row.auc for row in table if row.predictor == p]) for p in ("vote_share", "attention")}
    assert auc["attention"] > auc["vote_share"]


def test_structure_alone_never_reads_a_label(trained: Any) -> None:
    blind = replace(trained.snapshot, thinkings=_set(trained.snapshot.thinkings, "reward", [None] * 180))
    assert np.array_equal(structure_features(blind).values, structure_features(trained.snapshot).values)
