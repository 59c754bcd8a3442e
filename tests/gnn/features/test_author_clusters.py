"""Author clusters: separated by style where policies differ, with vote weights from agreement and labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from memstore.snapshots.snapshot import Snapshot
from memstore_gnn.data.groups import query_of_thinkings
from memstore_gnn.data.hetero import subgraph
from memstore_gnn.data.labels import rewards_of
from memstore_gnn.features.assemble import LabelFree, label_free, with_reliability
from memstore_gnn.features.reliability import CLUSTER_VOTES, cluster_votes_table
from memstore_gnn.models.inputs import labelled_part, read_target

WAYS = {
    "careful": "We compute step by step. Therefore, the result is {}.",
    "loud": "WOW!!! easy one: {} ## done ##",
    "terse": "= {}",
    "chatty": "well, I think maybe it could be {}, you know, perhaps",
}


def rows_of(queries: int, policies: bool = True) -> list[dict[str, Any]]:
    """The careful policy is always correct; all others agree on a wrong answer for half of the queries."""
    rng = np.random.default_rng(3)
    rows = []
    for number in range(queries):
        misled = number % 2
        for policy, way in WAYS.items():
            right = policy == "careful" or not misled
            value = str(100 + number if right else 7)
            rows.append(
                {
                    "query": f"question {number}",
                    "value": value,
                    "thinking": way.format(value) + " " * int(rng.integers(0, 2)),
                    "policy": policy if policies else "one",
                    "reward": float(right),
                }
            )
    return rows


@pytest.fixture(scope="module")
def memory(build_snapshot: Callable[..., Snapshot]) -> Snapshot:
    return build_snapshot(rows_of(40))


@pytest.fixture(scope="module")
def free(memory: Snapshot) -> LabelFree:
    return label_free(memory)


def test_each_policy_is_a_cluster(memory: Snapshot, free: LabelFree) -> None:
    policy, cluster = np.array(memory.thinkings["policy"].to_pylist()), free.membership.argmax(axis=1)
    assert free.membership.shape == (160, 4)
    np.testing.assert_allclose(free.membership.sum(axis=1), 0, atol=1e-9)
    assert [len(set(cluster[policy == name])) for name in WAYS] == [1] * 4
    assert len({cluster[policy == name][0] for name in WAYS}) == 4


def test_one_policy_has_no_clusters(build_snapshot: Callable[..., Snapshot]) -> None:
    free = label_free(build_snapshot(rows_of(10, policies=False)))
    assert free.membership.shape == (40, 0)
    np.testing.assert_array_equal(cluster_votes_table(free.groups, np.zeros(40)).column(CLUSTER_VOTES), 0)


def test_labels_change_the_vote_weights(memory: Snapshot, free: LabelFree) -> None:
    reward = np.where(query_of_thinkings(memory) < 30, rewards_of(memory), np.nan)
    policy = np.array(memory.thinkings["policy"].to_pylist())
    parts = (labelled_part(memory, labels, free.reliability) for labels in (np.full(160, np.nan), reward))
    before, after = (np.einsum("tk,tk->t", free.membership, part.cluster_weights[free.fold]) for part in parts)
    assert before[policy == "careful"].mean() < before[policy == "terse"].mean()
    assert after[policy == "careful"].mean() > after[policy == "terse"].mean() + 0.05


def test_own_labels_do_not_reach_a_rollout(memory: Snapshot, free: LabelFree) -> None:
    reward = rewards_of(memory)
    one = query_of_thinkings(memory) == memory.queries["text"].to_pylist().index("question 5")
    turned = np.where(one, 1.0 - reward, reward)
    moved = [
        read_target(memory, labelled_part(memory, labels, free.reliability)).near.column(CLUSTER_VOTES)
        for labels in (reward, turned)
    ]
    np.testing.assert_array_equal(moved[0][one], moved[1][one])
    assert np.abs(moved[0] - moved[1]).max() > 1e-3


def test_a_group_alone_has_the_same_memberships(memory: Snapshot, free: LabelFree) -> None:
    one = memory.queries["id"].to_pylist()[7]
    alone = with_reliability(subgraph(memory, [one]), free.reliability)
    np.testing.assert_allclose(alone.membership, free.membership[query_of_thinkings(memory) == 7], atol=1e-12)
