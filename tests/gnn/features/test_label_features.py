"""Features of nearby labels; those of the rollout's own query are never read."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memstore.errors import InputError
from memstore.snapshots.snapshot import Snapshot
from memstore_gnn.data.groups import groups_of, query_of_thinkings
from memstore_gnn.features.labels import label_features


def _cloud(build: Callable[..., Snapshot], queries: int, size: int, seed: int) -> Snapshot:
    rng = np.random.default_rng(seed)
    unit = rng.normal(size=(queries + queries * size, 8))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    rows = [{"query": f"q{i}", "value": str(j % 2)} for i in range(queries) for j in range(size)]
    return build(rows, {f"q{i}": unit[i] for i in range(queries)}, list(unit[queries:]))


@settings(deadline=None, max_examples=40)
@given(queries=st.integers(1, 6), size=st.integers(1, 4), seed=st.integers(0, 10_000), data=st.data())
def test_own_labels_never_reach_own_rollouts(
    build_snapshot: Callable[..., Snapshot], queries: int, size: int, seed: int, data: st.DataObject
) -> None:
    """The features of a query do not depend on its own labels."""
    snapshot = _cloud(build_snapshot, queries, size, seed)
    query = query_of_thinkings(snapshot)
    rng = np.random.default_rng(seed)
    reward = np.where(rng.random(len(query)) < 0.6, (rng.random(len(query)) < 0.5).astype(float), np.nan)
    mine = query == data.draw(st.integers(0, queries - 1))
    changed = reward.copy()
    changed[mine] = np.where(np.isfinite(reward[mine]), 1 - reward[mine], np.nan)
    before, after = (label_features(snapshot, labels, groups_of(snapshot)) for labels in (reward, changed))
    np.testing.assert_array_equal(before.values[mine], after.values[mine])


def test_the_nearest_labels_count_most(build_snapshot: Callable[..., Snapshot]) -> None:
    rows = [{"query": q, "value": "1"} for q in ("new", "near", "far")]
    at = {"new": [1.0, 0.0], "near": [1.0, 0.0], "far": [0.0, 1.0]}
    snapshot = build_snapshot(rows, at, [at[row["query"]] for row in rows])
    texts = np.array(snapshot.queries["text"].to_pylist())[query_of_thinkings(snapshot)]
    reward = np.select([texts == "near", texts == "far"], [1.0, 0.0], np.nan)
    table = label_features(snapshot, reward, groups_of(snapshot))
    expected = 1 / (1 + np.exp(-1 / 0.1))
    assert table.column("near_query_label")[texts == "new"][0] == pytest.approx(expected)
    assert table.column("near_thinking_label")[texts == "new"][0] == pytest.approx(expected)
    assert table.column("near_query_cosine")[texts == "new"][0] == pytest.approx(0.5)
    assert table.column("near_query_label")[texts == "near"][0] == pytest.approx(0.0)


def test_without_labels_the_features_are_constant(build_snapshot: Callable[..., Snapshot]) -> None:
    snapshot = _cloud(build_snapshot, 3, 2, 0)
    table = label_features(snapshot, np.full(6, np.nan), groups_of(snapshot))
    assert (table.column("near_query_label") == 0.5).all()
    assert (table.column("near_thinking_cosine") == 0.0).all()


def test_rewards_of_another_length_are_refused(build_snapshot: Callable[..., Snapshot]) -> None:
    snapshot = _cloud(build_snapshot, 3, 2, 0)
    with pytest.raises(InputError, match="3 rewards do not fit a snapshot of 6"):
        label_features(snapshot, np.zeros(3), groups_of(snapshot))
