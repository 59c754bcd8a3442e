"""How far features are trusted inside a group: as far as they order held-out pairs, and the group's level is kept."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memstore.types import FloatVector, IntVector
from memstore_gnn.models.inputs import read_target
from memstore_gnn.models.order import MOST, MOST_PAIRS, Pairs, trust_in_order

QUERIES, GROUP = 200, 6


def labelled(seed: int = 0) -> tuple[FloatVector, IntVector]:
    rng = np.random.default_rng(seed)
    return (rng.random(QUERIES * GROUP) < 0.5).astype(np.float64), np.repeat(np.arange(QUERIES), GROUP)


def test_pairs_are_of_one_query_and_each_query_weighs_alike() -> None:
    label, query = np.array([1.0, 0.0, 0.0, 1.0, 1.0, 0.0]), np.array([7, 7, 7, 3, 3, 5])
    pairs = Pairs.of(label, query)
    assert set(zip(pairs.right.tolist(), pairs.wrong.tolist(), strict=True)) == {(0, 1), (0, 2)}
    longer = Pairs.of(np.append(label, 0.0), np.append(query, 3))
    assert longer.weight[query[longer.right] == 3].sum() == pytest.approx(pairs.weight.sum())


def test_of_a_large_group_some_pairs_are_drawn() -> None:
    label = (np.arange(400) % 2).astype(np.float64)
    pairs = Pairs.of(label, np.zeros(400, np.int64))
    assert len(pairs.right) == MOST_PAIRS
    assert label[pairs.right].all()
    assert not label[pairs.wrong].any()


def test_features_that_order_are_trusted_and_noise_is_not() -> None:
    label, query = labelled()
    rng = np.random.default_rng(1)
    votes = 2.0 * label + rng.normal(size=len(label))
    tells, noise = label + rng.normal(size=len(label)), rng.normal(size=len(label))
    pairs = Pairs.of(label, query)
    assert trust_in_order(pairs, votes, tells, expected=1.0) > 0.5
    assert trust_in_order(pairs, votes, noise, expected=1.0) < 0.3
    assert trust_in_order(pairs, votes, -tells, expected=1.0) == 0.0
    assert trust_in_order(pairs, votes, 0.1 * tells, expected=1.0) == MOST


@given(st.floats(0.0, MOST))
def test_labels_that_make_no_pair_change_nothing(expected: float) -> None:
    label, query = np.ones(4), np.array([0, 0, 1, 1])
    assert trust_in_order(Pairs.of(label, query), label, label, expected) == expected


def test_how_hard_a_query_is_does_not_count() -> None:
    label, query = labelled()
    rng = np.random.default_rng(2)
    votes, said = label + rng.normal(size=len(label)), label + rng.normal(size=len(label))
    hardness = 5.0 * rng.normal(size=QUERIES)[query]
    pairs = Pairs.of(label, query)
    trust = trust_in_order(pairs, votes, said, expected=1.0)
    assert trust_in_order(pairs, votes + hardness, said - hardness, expected=1.0) == pytest.approx(trust, abs=1e-6)


def test_a_base_without_trust_keeps_the_votes_order_and_its_own_level(trained: Any) -> None:
    base, part = trained.model.base, trained.model.recall(trained.snapshot, trained.reward).part
    target = read_target(trained.snapshot, part)
    query = target.free.groups.query
    said, plain = (
        replace(base, order=np.full(len(base.places), order)).logit(target.free, target.near, target.places)
        for order in (1.0, 0.0)
    )
    assert query.mean(plain) == pytest.approx(query.mean(said), abs=1e-9)
    votes = replace(base, weights=np.where(np.arange(base.weights.shape[1]) < 2, base.weights, 0.0))
    by_votes = votes.logit(target.free, target.near, target.places)
    assert plain - query.mean(plain) == pytest.approx(by_votes - query.mean(by_votes), abs=1e-9)
    assert np.abs(said - plain).max() > 1e-3
