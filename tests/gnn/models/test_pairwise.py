"""Weight of the features within a group, estimated from held-out pairs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memstore.types import FloatVector, IntVector
from memstore_gnn.models.inputs import read_target
from memstore_gnn.models.pairwise import PAIRS, Pairs, within_group_weight

QUERIES, GROUP = 200, 6


def labelled(seed: int = 0) -> tuple[FloatVector, IntVector]:
    rng = np.random.default_rng(seed)
    return (rng.random(QUERIES * GROUP) < 0.5).astype(np.float64), np.repeat(np.arange(QUERIES), GROUP)


def test_pairs_belong_to_one_query_and_every_query_has_the_same_weight() -> None:
    label, query = np.array([1.0, 0.0, 0.0, 1.0, 1.0, 0.0]), np.array([7, 7, 7, 3, 3, 5])
    pairs = Pairs.of(label, query)
    assert set(zip(pairs.right.tolist(), pairs.wrong.tolist(), strict=True)) == {(0, 1), (0, 2)}
    longer = Pairs.of(np.append(label, 0.0), np.append(query, 3))
    assert longer.weight[query[longer.right] == 3].sum() == pytest.approx(pairs.weight.sum())


def test_pairs_of_a_large_group_are_sampled() -> None:
    label = (np.arange(400) % 2).astype(np.float64)
    pairs = Pairs.of(label, np.zeros(400, np.int64))
    assert len(pairs.right) == PAIRS.max_pairs
    assert label[pairs.right].all()
    assert not label[pairs.wrong].any()


def test_informative_features_have_a_large_weight_and_noise_a_small_one() -> None:
    label, query = labelled()
    rng = np.random.default_rng(1)
    votes = 2.0 * label + rng.normal(size=len(label))
    informative, noise = label + rng.normal(size=len(label)), rng.normal(size=len(label))
    pairs = Pairs.of(label, query)
    assert within_group_weight(pairs, votes, informative, expected=1.0) > 0.5
    assert within_group_weight(pairs, votes, noise, expected=1.0) < 0.3
    assert within_group_weight(pairs, votes, -informative, expected=1.0) == 0.0
    assert within_group_weight(pairs, votes, 0.1 * informative, expected=1.0) == PAIRS.max_weight


@given(st.floats(0.0, PAIRS.max_weight))
def test_weight_without_pairs_is_the_expected_one(expected: float) -> None:
    label, query = np.ones(4), np.array([0, 0, 1, 1])
    assert within_group_weight(Pairs.of(label, query), label, label, expected) == expected


def test_weight_is_independent_of_query_difficulty() -> None:
    label, query = labelled()
    rng = np.random.default_rng(2)
    votes, features = label + rng.normal(size=len(label)), label + rng.normal(size=len(label))
    difficulty = 5.0 * rng.normal(size=QUERIES)[query]
    pairs = Pairs.of(label, query)
    weight = within_group_weight(pairs, votes, features, expected=1.0)
    shifted = within_group_weight(pairs, votes + difficulty, features - difficulty, expected=1.0)
    assert shifted == pytest.approx(weight, abs=1e-6)


def test_base_with_zero_feature_weight_orders_by_votes_and_keeps_the_group_mean(trained: Any) -> None:
    base, part = trained.model.base, trained.model.label_context(trained.snapshot, trained.reward).part
    target = read_target(trained.snapshot, part)
    query = target.free.groups.query
    full, votes_only = (
        replace(base, feature_weight=np.full(len(base.strata), weight)).logit(target.free, target.near, target.strata)
        for weight in (1.0, 0.0)
    )
    assert query.mean(votes_only) == pytest.approx(query.mean(full), abs=1e-9)
    votes = replace(base, weights=np.where(np.arange(base.weights.shape[1]) < 2, base.weights, 0.0))
    by_votes = votes.logit(target.free, target.near, target.strata)
    assert votes_only - query.mean(votes_only) == pytest.approx(by_votes - query.mean(by_votes), abs=1e-9)
    assert np.abs(full - votes_only).max() > 1e-3
