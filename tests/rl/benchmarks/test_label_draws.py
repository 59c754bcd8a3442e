"""Splits and label budgets: seeded, nested, stratified by dataset, and identical to those of the reward model."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memstore.errors import InputError
from memstore.memory import Memory
from memstore.snapshots.aliases import first_datasets
from memstore_gnn.data.splits import label_budget
from memstore_rl.benchmarks.budget import SPLITS, Identified, cut, labelled

QUERIES = [Identified(f"q-{number}", "abc"[number % 3 if number < 60 else 0]) for number in range(100)]
SHARES = st.integers(0, 100).map(lambda percent: percent / 100)


@given(SHARES, SHARES, st.integers(0, 5))
def test_smaller_budget_is_a_subset_of_a_larger_one(one: float, other: float, seed: int) -> None:
    small, large = sorted((one, other))
    assert labelled(QUERIES, small, seed) <= labelled(QUERIES, large, seed)


@given(SHARES, st.integers(0, 5), st.permutations(QUERIES))
def test_order_of_the_source_does_not_matter(budget: float, seed: int, shuffled: list[Identified]) -> None:
    assert labelled(shuffled, budget, seed) == labelled(QUERIES, budget, seed)
    names = dict(zip(shuffled, cut(shuffled, 0.2, 0.1, seed), strict=True))
    assert names == dict(zip(QUERIES, cut(QUERIES, 0.2, 0.1, seed), strict=True))


@pytest.mark.parametrize("budget", [0.0, 0.1, 0.2, 0.5, 1.0])
def test_budget_is_stratified_by_dataset(budget: float) -> None:
    chosen = labelled(QUERIES, budget, seed=3)
    for dataset, size in (("a", 60), ("b", 20), ("c", 20)):
        assert sum(query.id in chosen for query in QUERIES if query.dataset == dataset) == round(size * budget)


def test_another_seed_labels_other_queries() -> None:
    assert labelled(QUERIES, 0.5, 0) != labelled(QUERIES, 0.5, 1)


@given(st.integers(0, 5))
def test_split_is_a_partition_stratified_by_dataset(seed: int) -> None:
    names = cut(QUERIES, validation=0.1, test=0.2, seed=seed)
    for dataset, size in (("a", 60), ("b", 20), ("c", 20)):
        drawn = [name for query, name in zip(QUERIES, names, strict=True) if query.dataset == dataset]
        assert [drawn.count(name) for name in SPLITS] == [size * 7 // 10, size // 10, size * 2 // 10]


def test_zero_shares_leave_everything_for_training() -> None:
    assert set(cut(QUERIES, validation=0.0, test=0.0, seed=0)) == {"train"}


@pytest.mark.parametrize(("validation", "test"), [(-0.1, 0.2), (0.5, 0.5), (0.0, 1.0), (0.7, 0.6)])
def test_shares_that_leave_no_training_data_are_rejected(validation: float, test: float) -> None:
    with pytest.raises(InputError, match="something to train on"):
        cut(QUERIES, validation, test, seed=0)


@pytest.mark.parametrize("budget", [-0.1, 1.1, float("nan")])
def test_budget_outside_0_to_1_is_rejected(budget: float) -> None:
    with pytest.raises(InputError, match="between 0 and 1"):
        labelled(QUERIES, budget, seed=0)


@pytest.mark.parametrize("budget", [0.1, 0.5])
def test_reward_model_sees_labels_of_the_same_queries(trained_memory: Memory, budget: float) -> None:
    snapshot = trained_memory.snapshot()
    ids, datasets = snapshot.queries["id"].to_pylist(), first_datasets(snapshot).tolist()
    queries = [Identified(query, dataset) for query, dataset in zip(ids, datasets, strict=True)]
    split = label_budget(snapshot, budget, seed=7).labelled
    seen = {query.id for query, is_labelled in zip(queries, split, strict=True) if is_labelled}
    assert labelled(queries, budget, seed=7) == seen
