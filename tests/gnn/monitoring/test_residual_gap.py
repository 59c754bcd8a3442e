"""Gap of the residual within groups, and its interval over queries."""

from __future__ import annotations

import math

import numpy as np
import pytest

from memstore_gnn.monitoring.residual_gap import group_gap, interval


def test_gap_is_the_difference_of_the_residual_between_right_and_wrong() -> None:
    found = group_gap(
        np.array([0.5, 0.6, 0.3, 0.4]), np.array([0.7, 0.7, 0.2, 0.1]), np.array([0, 0, 1, 2]), np.array([0, 0, 1, 0.0])
    )
    assert found.gap == pytest.approx(0.1 - (-0.2 - 0.1 + 0.3) / 3)
    assert found.majority_wrong
    assert found.mixed
    assert found.auc == 0.0


@pytest.mark.parametrize(
    ("vote", "truth", "wrong"),
    [
        ([0, 0, 1, 2], [1, 1, 0, 0], False),
        ([0, 0, 1, 2], [0, 0, 0, 1], True),
        ([0, 0, 1, 1], [0, 0, 1, 1], False),  # a tie that the right answer shares
        ([0, 0, 1, 1, 2], [0, 0, 0, 0, 1], True),
        ([0, 1, 2, 3], [0, 0, 1, 0], False),  # no two agree
    ],
)
def test_majority_is_wrong_if_no_most_frequent_answer_is_right(
    vote: list[int], truth: list[float], wrong: bool
) -> None:
    chance = np.linspace(0.1, 0.9, len(vote))
    assert group_gap(chance, chance, np.array(vote), np.array(truth)).majority_wrong is wrong


@pytest.mark.parametrize("truth", [0.0, 1.0])
def test_group_with_one_truth_has_no_gap(truth: float) -> None:
    found = group_gap(np.full(3, 0.5), np.full(3, 0.4), np.arange(3), np.full(3, truth))
    assert math.isnan(found.gap)
    assert not found.mixed
    assert not found.majority_wrong


def test_interval_covers_the_mean_as_often_as_it_says() -> None:
    """1,000 draws of 20 queries with a shared part in the gaps of each: coverage within four standard errors."""
    chance = np.random.default_rng(0)
    query = np.repeat(np.arange(20), 3)
    covered = 0
    for _ in range(1000):
        gaps = 0.05 + 0.2 * chance.standard_normal(20)[query] + 0.2 * chance.standard_normal(60)
        found = interval(gaps, query)
        covered += found.low <= 0.05 <= found.high
    assert 0.86 <= covered / 1000 <= 0.94


def test_repeated_groups_of_a_query_do_not_narrow_the_interval() -> None:
    gaps, query = np.array([0.1, -0.2, 0.4]), np.array(["a", "b", "c"], dtype=object)
    once, often = interval(gaps, query), interval(np.repeat(gaps, 50), np.repeat(query, 50))
    assert once[:4] == pytest.approx(often[:4])
    assert (often.groups, often.queries) == (150, 3)


def test_interval_without_data() -> None:
    assert math.isnan(interval(np.zeros(0), np.zeros(0, np.int64)).mean)
    one = interval(np.array([0.1, 0.3]), np.array([7, 7]))
    assert one.mean == pytest.approx(0.2)
    assert math.isnan(one.low)
