"""What training measures on held-out queries is what scoring gives: trust in plain counts, and risks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from memstore.snapshots.snapshot import Snapshot
from memstore_gnn.data.groups import groups_of, query_of_thinkings
from memstore_gnn.data.labels import rewards_of
from memstore_gnn.data.separate import separate_groups
from memstore_gnn.data.verdicts import Verdicts
from memstore_gnn.models.calibration import sigmoid
from memstore_gnn.models.network import Correction
from memstore_gnn.models.settings import TrainSettings
from memstore_gnn.scoring.other_policies import stored_votes
from memstore_gnn.scoring.score import predict_memory
from memstore_gnn.training.fit import fit

Build = Callable[..., Snapshot]
QUICK = TrainSettings(members=2, epochs=5)
QUERIES, LABELLED = 120, 60


def row(query: int, policy: str, value: str, right: bool) -> dict[str, Any]:
    return {"query": f"query {query}?", "policy": policy, "value": value, "reward": float(right)}


def by_counts(chance: np.random.Generator) -> list[dict[str, Any]]:
    """Six policies vote for one of two answers; an answer is right as often as its share of the votes."""
    rows = []
    for query in range(QUERIES):
        given = chance.random(6) < chance.random()
        first = chance.random() < given.mean()
        rows += [row(query, f"p{n}", str(int(one)), bool(one == first)) for n, one in enumerate(given)]
    return rows


def by_reliability(chance: np.random.Generator) -> list[dict[str, Any]]:
    """Two policies are nearly always right; four are seldom right, and make the same mistake."""
    rows = []
    for query in range(QUERIES):
        wrong = str(chance.integers(1, 4))
        for n in range(6):
            right = chance.random() < (0.95 if n < 2 else 0.3)
            rows.append(row(query, f"p{n}", "0" if right else wrong, right))
    return rows


def seen(snapshot: Snapshot) -> np.ndarray:
    return np.where(query_of_thinkings(snapshot) < LABELLED, rewards_of(snapshot), np.nan)


def test_plain_counts_are_trusted_where_they_predict_better(build_snapshot: Build) -> None:
    found = {}
    for rule in (by_counts, by_reliability):
        snapshot = build_snapshot(rule(np.random.default_rng(0)))
        found[rule] = fit(snapshot, seen(snapshot), settings=QUICK, device="cpu").correction.counts
    assert found[by_counts].get("toy", 0.0) >= 0.5
    assert found[by_reliability].get("toy", 0.0) <= 0.25


def test_few_labelled_queries_trust_reliabilities(build_snapshot: Build) -> None:
    snapshot = build_snapshot(by_counts(np.random.default_rng(0)))
    reward = np.where(query_of_thinkings(snapshot) < 8, rewards_of(snapshot), np.nan)
    assert not fit(snapshot, reward, settings=QUICK, device="cpu").correction.counts


def test_with_full_trust_a_group_of_one_has_the_log_odds_of_its_share(build_snapshot: Build) -> None:
    rows = [row(0, f"p{n}", value, False) for n, value in enumerate(["1", "1", "2", ""])]
    stored = stored_votes(build_snapshot(rows), Verdicts())
    new = build_snapshot([row(0, "new", "1", False)])
    found = stored.adjust(np.array([0.2]), new, Correction(counts={"toy": 1.0}))
    assert found == pytest.approx(sigmoid(np.log([(3 + 0.5) / (2 + 0.5)])))
    half = stored.adjust(np.array([0.2]), new, Correction(counts={"toy": 0.5, "another": 1.0}))
    none = stored.adjust(np.array([0.2]), new)
    odds = [float(np.log(p[0] / (1 - p[0]))) for p in (found, half, none)]
    assert odds[1] == pytest.approx((odds[0] + odds[2]) / 2)


def test_risks_are_those_of_scores_with_stored_votes(build_snapshot: Build) -> None:
    snapshot = build_snapshot(by_reliability(np.random.default_rng(1)))
    reward = seen(snapshot)
    model, known = fit(snapshot, reward, settings=QUICK, device="cpu"), np.isfinite(reward)
    scores = predict_memory(model, snapshot, reward, np.ones(len(reward), np.bool_))
    (first, *_) = model.card.risks
    assert first["coverage"] == 1.0
    errors = {
        name: np.mean((scores > 0.5)[part] != (rewards_of(snapshot) > 0.5)[part])
        for name, part in (("labelled", known), ("others", ~known))
    }
    assert first["risk"] == pytest.approx(errors["labelled"], abs=0.03)
    assert first["risk"] == pytest.approx(errors["others"], abs=0.1)
    apart = separate_groups(snapshot, groups_of(snapshot).policy_group.cell)
    alone = model.predict(apart, model.label_context(snapshot, reward))
    assert np.mean((alone > 0.5)[known] != (reward > 0.5)[known]) > first["risk"] + 0.05
