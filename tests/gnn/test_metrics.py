"""The metrics on groups small enough to check by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from memstore_gnn import metrics

SQRT2 = math.sqrt(2)


@pytest.mark.parametrize(
    ("probability", "reward", "expected"),
    [
        ([0.9, 0.8, 0.2, 0.1], [1, 1, 0, 0], 1.0),
        ([0.1, 0.2, 0.8, 0.9], [1, 1, 0, 0], 0.0),
        ([0.5, 0.5, 0.5, 0.5], [1, 1, 0, 0], 0.5),  # all ties
        ([0.9, 0.3, 0.3, 0.1], [1, 1, 0, 0], 0.875),  # one tie among four pairs
    ],
)
def test_auc(probability: list[float], reward: list[float], expected: float) -> None:
    assert metrics.auc(np.array(probability), np.array(reward, float)) == pytest.approx(expected)


def test_auc_of_one_class_is_unknown() -> None:
    assert math.isnan(metrics.auc(np.array([0.1, 0.9]), np.ones(2)))


def test_pair_accuracy_counts_pairs_inside_queries_only() -> None:
    probability = np.array([0.9, 0.1, 0.4, 0.4, 0.2, 0.3])
    reward = np.array([1.0, 0.0, 1.0, 0.0, 1.0, 0.0])
    group = np.array([0, 0, 1, 1, 2, 2])
    assert metrics.pair_accuracy(probability, reward, group) == pytest.approx((1 + 0.5 + 0) / 3)


def test_pair_accuracy_without_a_pair_is_unknown() -> None:
    assert math.isnan(metrics.pair_accuracy(np.array([0.9, 0.1]), np.array([1.0, 0.0]), np.array([0, 1])))


def test_advantage_is_in_standard_deviations_and_zero_in_an_even_group() -> None:
    reward = np.array([1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0])
    group = np.array([0, 0, 1, 1, 2, 2, 2, 2])
    root3 = math.sqrt(3)
    expected = [1, -1, 0, 0, -1 / root3, -1 / root3, -1 / root3, root3]
    np.testing.assert_allclose(metrics.advantage(reward, group), expected)


@pytest.mark.parametrize(
    ("probability", "hard", "soft"),
    [
        ([0.9, 0.1, 0.7, 0.7], 1.0, 1.0),
        ([0.9, 0.6, 0.7, 0.7], 0.0, 1.0),  # cut at 0.5 nothing is left of the order
        ([0.1, 0.9, 0.7, 0.7], -1.0, -1.0),
        ([0.9, 0.1, 0.9, 0.1], 1 / SQRT2, 1 / SQRT2),  # a difference invented in the second group
        ([0.5, 0.5, 0.5, 0.5], 0.0, 0.0),
    ],
)
def test_advantage_cosine(probability: list[float], hard: float, soft: float) -> None:
    reward, group = np.array([1.0, 0.0, 1.0, 1.0]), np.array([0, 0, 1, 1])
    assert metrics.advantage_hard(np.array(probability), reward, group) == pytest.approx(hard)
    assert metrics.advantage_soft(np.array(probability), reward, group) == pytest.approx(soft)


def test_advantage_without_any_in_the_truth_is_unknown() -> None:
    assert math.isnan(metrics.advantage_soft(np.array([0.9, 0.1]), np.ones(2), np.zeros(2, int)))


def test_ece_weighs_bins_by_size() -> None:
    probability = np.array([0.95, 0.95, 0.95, 0.05])
    reward = np.array([1.0, 1.0, 0.0, 0.0])
    assert metrics.ece(probability, reward) == pytest.approx((abs(2.85 - 2) + abs(0.05 - 0)) / 4)


def test_ece_has_a_place_for_certainty() -> None:
    assert metrics.ece(np.array([1.0, 0.0]), np.array([1.0, 0.0])) == pytest.approx(0.0)


def test_brier() -> None:
    assert metrics.brier(np.array([0.8, 0.4]), np.array([1.0, 0.0])) == pytest.approx((0.04 + 0.16) / 2)


def test_calibration_curve_leaves_empty_bins_out() -> None:
    curve = metrics.calibration_curve(np.array([0.05, 0.95, 0.95]), np.array([0.0, 1.0, 0.0]), bins=10)
    assert [point.rollouts for point in curve] == [1, 2]
    assert curve[1].predicted == pytest.approx(0.95)
    assert curve[1].true == pytest.approx(0.5)


def test_risk_grows_with_coverage_when_sureness_means_something() -> None:
    probability = np.array([0.99, 0.01, 0.6, 0.4])
    reward = np.array([1.0, 0.0, 0.0, 1.0])
    points = metrics.risk_coverage(probability, reward, points=4)
    assert [(p.coverage, p.risk) for p in points] == [
        (0.25, 0.0),
        (0.5, 0.0),
        (0.75, pytest.approx(1 / 3)),
        (1.0, 0.5),
    ]


def test_the_area_under_risk_and_coverage_is_the_mean_risk() -> None:
    probability = np.array([0.99, 0.01, 0.6, 0.4])
    reward = np.array([1.0, 0.0, 0.0, 1.0])
    assert metrics.aurc(probability, reward) == pytest.approx((0 + 0 + 1 / 3 + 1 / 2) / 4)


def test_equally_sure_rollouts_are_taken_in_no_order() -> None:
    reward = np.array([1.0, 1.0, 0.0, 1.0])
    for order in ([0, 1, 2, 3], [2, 3, 0, 1]):
        points = metrics.risk_coverage(np.full(4, 0.9), reward[order], points=4)
        assert [p.risk for p in points] == pytest.approx([0.25] * 4)
    assert math.isnan(metrics.aurc(np.zeros(0), np.zeros(0)))
    assert metrics.risk_coverage(np.zeros(0), np.zeros(0)) == []
