"""Reliability: rollouts worded like those that agree get more weight, without labels or policy names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from memstore.snapshots.snapshot import Snapshot
from memstore_gnn.data.groups import Partition, groups_of, query_of_thinkings
from memstore_gnn.features.assemble import label_free
from memstore_gnn.features.reliability import fit_reliability, folds_of, reliability_table, texts_of, weighted_votes
from memstore_gnn.metrics import auc


@pytest.fixture(scope="module")
def memory(build_snapshot: Callable[..., Snapshot]) -> Snapshot:
    """120 queries: three rollouts that write `hence` are mostly correct, four that write `guess` are mostly wrong."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(120):
        for j in range(7):
            careful = j < 3
            right = rng.random() < (0.9 if careful else 0.3)
            value = "right" if right else f"wrong {rng.integers(0, 3)}"
            words = "we compute and hence conclude" if careful else "i would guess that"
            rows.append({"query": f"q{i}", "value": value, "thinking": f"{words} {i}", "reward": float(right)})
    return build_snapshot(rows)


def test_weighted_votes_are_better_than_plain_ones(memory: Snapshot) -> None:
    reward = memory.thinkings["reward"].to_numpy(zero_copy_only=False)
    made = label_free(memory).table
    careful = np.array(["hence" in text for text in memory.thinkings["text"].to_pylist()])
    assert made.column("skill")[careful].mean() > made.column("skill")[~careful].mean() + 0.2
    assert auc(made.column("skilled_share"), reward) > auc(made.column("share"), reward) + 0.02


def test_a_query_does_not_change_its_own_reliability(memory: Snapshot) -> None:
    """A changed vote in one query changes the reliability of other queries, and only the common scale of its own."""
    groups = groups_of(memory)
    fold = folds_of(memory)[groups.query_of]
    numbers = label_free(memory).table
    before = fit_reliability(texts_of(memory), numbers, groups, fold).reliability
    mine = query_of_thinkings(memory) == 0
    answer = groups.answer.cell.copy()
    answer[mine] = answer[mine].min()
    changed = fit_reliability(texts_of(memory), numbers, replace(groups, answer=Partition.of(answer)), fold).reliability
    ratio = changed / before
    np.testing.assert_allclose(ratio[mine], ratio[mine][0], rtol=1e-5)
    assert np.ptp(ratio[~mine]) > 1e-3


def test_uninformative_words_leave_the_votes_unchanged(build_snapshot: Callable[..., Snapshot]) -> None:
    rng = np.random.default_rng(3)
    rows = [
        {"query": f"q{i}", "value": str(rng.integers(0, 3)), "thinking": " ".join(rng.choice(list("abcdefgh"), 6))}
        for i in range(100)
        for _ in range(6)
    ]
    made = label_free(build_snapshot(rows)).table
    np.testing.assert_allclose(made.column("skilled_share"), made.column("share"), atol=0.03)


def test_equal_weights_give_plain_votes(memory: Snapshot) -> None:
    groups = groups_of(memory)
    share, others = weighted_votes(groups, np.full(memory.thinkings.num_rows, 3.0))
    np.testing.assert_allclose(share, groups.share)
    np.testing.assert_allclose(others, (groups.votes - 1) / (groups.query.size - 1))


def test_a_group_of_one_has_no_others(build_snapshot: Callable[..., Snapshot]) -> None:
    snapshot = build_snapshot([{"query": "q", "value": "1"}, {"query": "r", "value": ""}])
    table = reliability_table(groups_of(snapshot), np.array([0.3, -0.2]))
    np.testing.assert_array_equal(table.column("skilled_others"), [0, 0])
    assert sorted(table.column("skilled_share").tolist()) == [0, 1]


def test_features_are_computed_once(memory: Snapshot) -> None:
    assert label_free(memory) is label_free(memory)
