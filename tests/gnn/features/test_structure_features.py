"""Structure features of a query with known votes, and of random groups."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memstore.snapshots.snapshot import Snapshot
from memstore_gnn.data.groups import Partition, groups_of
from memstore_gnn.data.table import FeatureTable
from memstore_gnn.features.structure import structure_features


def _features(snapshot: Snapshot) -> FeatureTable:
    return structure_features(snapshot, groups_of(snapshot))


def _by_sample(snapshot: Snapshot, values: np.ndarray) -> list[float]:
    order = np.argsort(snapshot.thinkings["sample_index"].to_numpy())
    return [round(float(v), 4) for v in values[order]]


@pytest.fixture
def votes(build_snapshot: Callable[..., Snapshot]) -> Snapshot:
    """Answers 7, 7, 7, 8 and none to one query, and a second query with one rollout."""
    values = ["7", "7", "7", "8", ""]
    rows = [{"query": "q", "value": v, "policy": p} for v, p in zip(values, "aabbb", strict=True)]
    return build_snapshot([*rows, {"query": "alone", "value": "1"}])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("share", [0.6, 0.6, 0.6, 0.2, 0.0, 1.0]),
        ("others_share", [0.5, 0.5, 0.5, 0.0, 0.0, 0.0]),
        ("majority", [1, 1, 1, 0, 0, 1]),
        ("majority_margin", [0.4, 0.4, 0.4, -0.4, -0.6, 1.0]),
        ("distinct", [0.4, 0.4, 0.4, 0.4, 0.4, 1.0]),
        ("first_share", [0.6, 0.6, 0.6, 0.6, 0.6, 1.0]),
        ("second_share", [0.2, 0.2, 0.2, 0.2, 0.2, 0.0]),
        ("rank", [0.0, 0.0, 0.0, 0.5, 1.0, 0.0]),
        ("pair_agreement", [0.3, 0.3, 0.3, 0.3, 0.3, 0.0]),
        ("answered_share", [0.8, 0.8, 0.8, 0.8, 0.8, 1.0]),
        ("share_of_answered", [0.75, 0.75, 0.75, 0.25, 0.0, 1.0]),
        # policy a answers 7 twice; policy b answers 7, 8 and nothing
        ("own_share_less_share", [0.4, 0.4, -0.2667, 0.1333, 0.0, 0.0]),
    ],
)
def test_votes(votes: Snapshot, name: str, expected: list[float]) -> None:
    assert _by_sample(votes, _features(votes).column(name)) == expected


def test_cosine_to_the_rollouts_of_the_same_answer_is_higher(build_snapshot: Callable[..., Snapshot]) -> None:
    rows = [{"query": "q", "value": v} for v in ("1", "1", "2", "2")]
    x = [[1, 0], [1, 0], [0, 1], [0, 1]]
    table = _features(build_snapshot(rows, {"q": [1, 0]}, x))
    np.testing.assert_allclose(table.column("cosine_same_less_other"), 1.0)
    np.testing.assert_allclose(table.column("cosine_centre"), 1 / 3, rtol=1e-6)
    assert sorted(table.column("cosine_query").tolist()) == [0, 0, 1, 1]


def test_the_policy_name_is_not_a_feature(build_snapshot: Callable[..., Snapshot]) -> None:
    rows = [
        {"query": f"q{i // 4}", "value": str(i % 3), "sample_index": i % 4, "policy": "abcd"[i % 4]} for i in range(40)
    ]
    named = _features(build_snapshot(rows))
    other = [row | {"policy": "wxyz"[i % 4]} for i, row in enumerate(rows)]
    renamed = _features(build_snapshot(other))
    assert sorted(map(tuple, named.values.tolist())) == sorted(map(tuple, renamed.values.tolist()))


def test_a_snapshot_without_rollouts_has_an_empty_table(build_snapshot: Callable[..., Snapshot]) -> None:
    table = _features(build_snapshot([]))
    assert table.values.shape == (0, len(table.names))


GROUPS = st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["", "1", "2", "3"])), min_size=1, max_size=25)


@settings(deadline=None, max_examples=60)
@given(rollouts=GROUPS)
def test_random_groups_have_finite_features_and_correct_votes(
    build_snapshot: Callable[..., Snapshot], rollouts: list[tuple[int, str]]
) -> None:
    snapshot = build_snapshot([{"query": f"q{q}", "value": v} for q, v in rollouts])
    table = _features(snapshot)
    assert np.isfinite(table.values).all()
    expected = [
        sum(r == (q, v) for r in rollouts) / sum(r[0] == q for r in rollouts) if v else 0.0 for q, v in rollouts
    ]
    assert _by_sample(snapshot, table.column("share")) == [round(e, 4) for e in expected]


@settings(deadline=None, max_examples=60)
@given(keys=st.lists(st.integers(0, 4), min_size=1, max_size=20), seed=st.integers(0, 99))
def test_partition_sums_equal_those_of_a_loop(keys: list[int], seed: int) -> None:
    cells, values = np.array(keys), np.random.default_rng(seed).normal(size=len(keys))
    part = Partition.of(cells)
    for i, key in enumerate(keys):
        mine, others = values[cells == key], np.delete(values, i)[np.delete(cells, i) == key]
        assert part.mean(values)[i] == pytest.approx(mine.mean())
        assert part.mean(values[:, None])[i, 0] == pytest.approx(mine.mean())
        assert part.maximum(values)[i] == mine.max()
        assert part.rank(values)[i] == (mine > values[i]).sum()
        assert part.mean_of_others(values, 9.0)[i] == pytest.approx(others.mean() if len(others) else 9.0)


def test_policy_groups_are_by_run_policy_and_step(build_snapshot: Callable[..., Snapshot]) -> None:
    told_apart = [{"run": "r2"}, {"policy": "p2"}, {"step": 3}, {}, {}]
    snapshot = build_snapshot([{"query": "q", "value": "1"} | row for row in told_apart])
    assert _by_sample(snapshot, groups_of(snapshot).policy_group.size) == [1, 1, 1, 2, 2]
