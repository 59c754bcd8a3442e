"""Label budgets: nested, by query, and stratified by dataset."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memstore.errors import InputError
from memstore.snapshots.aliases import first_datasets
from memstore.snapshots.snapshot import Snapshot
from memstore_gnn.data.splits import label_budget


@pytest.fixture(scope="module")
def snapshot(build_snapshot: Callable[..., Snapshot]) -> Snapshot:
    """60 labelled queries of one dataset, 15 of another, 5 without labels; two rollouts each."""
    sizes = (("large", 60, 1.0), ("small", 15, 0.0), ("unlabelled", 5, None))
    rows = [
        {"query": f"{name} {i}", "dataset": name, "value": str(j), "reward": reward}
        for name, count, reward in sizes
        for i in range(count)
        for j in range(2)
    ]
    return build_snapshot(rows)


@settings(deadline=None, max_examples=30)
@given(low=st.floats(0, 1), high=st.floats(0, 1), seed=st.integers(0, 1000))
def test_a_smaller_budget_is_part_of_a_larger_one(snapshot: Snapshot, low: float, high: float, seed: int) -> None:
    low, high = sorted((low, high))
    small, large = label_budget(snapshot, low, seed), label_budget(snapshot, high, seed)
    assert not (small.train & ~large.train).any()
    assert not (small.select & ~large.select).any()


@settings(deadline=None, max_examples=30)
@given(budget=st.floats(0, 1), seed=st.integers(0, 1000))
def test_the_parts_are_disjoint_and_contain_all_labelled_queries(snapshot: Snapshot, budget: float, seed: int) -> None:
    split = label_budget(snapshot, budget, seed)
    parts = split.train.astype(int) + split.select + split.report
    labelled = np.array([d != "unlabelled" for d in first_datasets(snapshot)])
    np.testing.assert_array_equal(parts, labelled.astype(int))


def test_each_dataset_is_split_and_a_fifth_selects(snapshot: Snapshot) -> None:
    split = label_budget(snapshot, 0.2, seed=0)
    datasets = first_datasets(snapshot)
    assert [int(split.labelled[datasets == d].sum()) for d in ("large", "small", "unlabelled")] == [12, 3, 0]
    assert int(split.select[datasets == "large"].sum()) == 2


def test_any_budget_over_zero_labels_a_query(snapshot: Snapshot) -> None:
    assert label_budget(snapshot, 1e-6, seed=0).labelled.sum() == 2
    assert label_budget(snapshot, 0.0, seed=0).labelled.sum() == 0


def test_another_seed_labels_other_queries(snapshot: Snapshot) -> None:
    assert (label_budget(snapshot, 0.2, 0).labelled != label_budget(snapshot, 0.2, 1).labelled).any()


@pytest.mark.parametrize("budget", [-0.1, 1.5, float("nan")])
def test_a_budget_outside_0_to_1_is_refused(snapshot: Snapshot, budget: float) -> None:
    with pytest.raises(InputError, match="share between 0 and 1"):
        label_budget(snapshot, budget, 0)


def test_a_snapshot_without_ground_truth_is_refused(build_snapshot: Callable[..., Snapshot]) -> None:
    with pytest.raises(InputError, match="no ground truth"):
        label_budget(build_snapshot([{"query": "q", "value": "1"}]), 0.2, 0)
