"""Bootstrap intervals and the permutation test, on small hand-made metrics."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from memstore_rl.grade.compare import MAX_EXACT_QUERIES, PERMUTATIONS, difference, p_values, paired
from memstore_rl.grade.intervals import bootstrap, drawn_sums
from memstore_rl.grade.metrics import Stratum, ratios, totals

COUNTS = st.lists(st.tuples(st.integers(1, 3), st.integers(0, 3)), min_size=1, max_size=7)
"""Judged samples of a query, and correct ones (capped at the judged ones)."""


def stratum(counts: list[tuple[int, int]], dataset: str = "set") -> Stratum:
    """One metric, accuracy: correct over judged samples."""
    correct = np.array([[float(min(n, c))] for n, c in counts])
    judged = np.array([[float(n)] for n, _ in counts])
    return Stratum(dataset, tuple(f"q{number:03d}" for number in range(len(counts))), correct, judged)


def test_means_over_datasets() -> None:
    strata = [stratum([(2, 2), (1, 0)], "a"), stratum([(4, 1)], "b")]
    a, b, weighted, macro = ratios(*totals(strata))[:, 0]
    assert (a, b) == (2 / 3, 1 / 4)
    assert weighted == 3 / 7
    assert macro == pytest.approx((2 / 3 + 1 / 4) / 2)


def test_a_dataset_without_the_metric_is_in_no_mean() -> None:
    absent = Stratum("b", ("q",), np.zeros((1, 1)), np.zeros((1, 1)))
    a, b, weighted, macro = ratios(*totals([stratum([(2, 1)], "a"), absent]))[:, 0]
    assert np.isnan(b)
    assert a == weighted == macro == 0.5


def test_a_draw_takes_queries_with_all_their_samples() -> None:
    numerator, denominator = drawn_sums(stratum([(1, 1), (10, 0), (100, 50)]), 500, seed=3)
    for correct, judged in zip(numerator[:, 0], denominator[:, 0], strict=True):
        hundreds, rest = divmod(int(judged), 100)
        tens, ones = divmod(rest, 10)
        assert hundreds + tens + ones == 3
        assert correct == 50 * hundreds + ones


def test_the_interval_matches_the_normal_approximation() -> None:
    counts = [(1, int(number < 240)) for number in range(400)]
    intervals = bootstrap([stratum(counts)], seed=1)
    error = (0.6 * 0.4 / 400) ** 0.5
    assert intervals.low[0, 0] == pytest.approx(0.6 - 1.96 * error, abs=0.006)
    assert intervals.high[0, 0] == pytest.approx(0.6 + 1.96 * error, abs=0.006)


def test_95_percent_of_intervals_contain_the_true_value() -> None:
    random = np.random.default_rng(0)
    covered = 0
    for trial in range(300):
        accuracy = random.beta(2, 2, size=80)
        counts = [(4, int(correct)) for correct in random.binomial(4, accuracy)]
        intervals = bootstrap([stratum(counts)], draws=400, seed=trial)
        covered += intervals.low[0, 0] <= 0.5 <= intervals.high[0, 0]
    assert 0.91 <= covered / 300 <= 0.98


def test_intervals_need_two_queries_and_do_not_depend_on_other_datasets() -> None:
    alone = bootstrap([stratum([(5, 3)])])
    assert np.isnan(alone.low).all()
    assert np.isnan(alone.high).all()
    one, other = stratum([(1, 1), (1, 0), (1, 1)], "a"), stratum([(2, 1), (2, 2)], "b")
    both = bootstrap([one, other], seed=5)
    assert both.low[0] == bootstrap([one], seed=5).low[0]
    assert both.high[1] == bootstrap([other], seed=5).high[0]


@given(COUNTS, st.data())
@settings(max_examples=60, deadline=None)
def test_p_is_the_share_of_permutations_with_as_large_a_difference(
    counts: list[tuple[int, int]], data: st.DataObject
) -> None:
    others = data.draw(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 3)), min_size=len(counts), max_size=7))
    first, second = stratum(counts), stratum(others[: len(counts)])
    observed = first.numerator.sum() / first.denominator.sum() - second.numerator.sum() / second.denominator.sum()
    as_large = 0
    permutations = list(product([False, True], repeat=len(counts)))
    for swapped in permutations:
        flip = np.array(swapped)[:, None]
        own = [
            np.where(flip, getattr(second, name), getattr(first, name)).sum() for name in ("numerator", "denominator")
        ]
        other = [
            np.where(flip, getattr(first, name), getattr(second, name)).sum() for name in ("numerator", "denominator")
        ]
        as_large += abs(own[0] / own[1] - other[0] / other[1]) >= abs(observed) - 1e-12
    p = p_values([first], [second])
    assert p == pytest.approx(np.full((3, 1), as_large / len(permutations)))


@pytest.mark.parametrize(("better", "worse"), [(9, 2), (5, 5), (60, 40), (30, 10)])
def test_with_one_sample_per_query_it_is_mcnemars_test(better: int, worse: int) -> None:
    agreed = 50
    first = stratum([(1, 1)] * agreed + [(1, 1)] * better + [(1, 0)] * worse)
    second = stratum([(1, 1)] * agreed + [(1, 0)] * better + [(1, 1)] * worse)
    exact = binomtest(better, better + worse).pvalue
    margin = (
        1e-9
        if better + worse <= MAX_EXACT_QUERIES
        else 4 * (exact * (1 - exact) / PERMUTATIONS) ** 0.5 + 2 / PERMUTATIONS
    )
    assert p_values([first], [second])[0, 0] == pytest.approx(exact, abs=margin)


def test_query_difficulty_cancels() -> None:
    random = np.random.default_rng(2)
    difficulty = random.random(200)
    first = stratum([(8, round(8 * value)) for value in difficulty])
    second = stratum([(8, max(0, round(8 * value) - 1)) for value in difficulty])
    found = difference([paired(first, second)], seed=0)
    alone = bootstrap([first])
    assert found.value[0, 0] == pytest.approx(first.numerator.mean() / 8 - second.numerator.mean() / 8)
    assert found.intervals.high[0, 0] - found.intervals.low[0, 0] < 0.2 * (alone.high[0, 0] - alone.low[0, 0])
    assert found.intervals.low[0, 0] <= found.value[0, 0] <= found.intervals.high[0, 0]
    assert found.p[0, 0] == 1 / (PERMUTATIONS + 1)


def test_a_policy_does_not_differ_from_itself() -> None:
    same = stratum([(2, 1), (2, 2), (2, 0)])
    found = difference([paired(same, same)])
    assert (found.value == 0).all()
    assert (found.p == 1).all()
    assert (found.intervals.low == 0).all()
    assert (found.intervals.high == 0).all()


def test_only_common_queries_are_paired() -> None:
    first = stratum([(1, 1), (1, 1), (1, 0)])
    second = stratum([(1, 0), (1, 0)])._replace(queries=("q002", "q007"))
    pair = paired(first, second)
    assert pair.first.queries == pair.second.queries == ("q002",)
    assert (pair.only_first, pair.only_second) == (2, 1)
    assert difference([pair]).value[0, 0] == 0.0


def test_a_metric_that_one_side_lacks_is_removed_from_both() -> None:
    first = stratum([(1, 1), (1, 1)])
    second = stratum([(1, 0), (1, 1)])
    second.denominator[0] = second.numerator[0] = 0
    pair = paired(first, second)
    assert pair.first.denominator[:, 0].tolist() == pair.second.denominator[:, 0].tolist() == [0, 1]
    assert pair.first.numerator[:, 0].tolist() == [0, 1]
