"""pass@k and majority@k of one query, compared with enumeration of all subsets of k samples."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction
from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import hypergeom

from memstore_rl.grade.estimators import AnswerVotes, majority_at_k, pass_at_k, winning_probabilities

SAMPLES = st.lists(st.tuples(st.sampled_from(["a", "b", "c", "d", ""]), st.booleans()), min_size=1, max_size=9)
"""Samples of one query: the answer ("" for none), and whether it is correct."""


def votes_of(samples: list[tuple[str, bool]]) -> tuple[list[AnswerVotes], int]:
    """The votes of each answer, and the number of samples without an answer."""
    given_answers = Counter(answer for answer, _ in samples if answer)
    correct = Counter(answer for answer, is_correct in samples if answer and is_correct)
    return [AnswerVotes(n, correct[a] / n) for a, n in given_answers.items()], sum(not answer for answer, _ in samples)


def enumerated_majority(samples: list[tuple[str, bool]], k: int) -> Fraction:
    """The mean over all subsets of k samples; ties are split, and a winner counts with its share of correct samples."""
    accuracy = {}
    for answer in {answer for answer, _ in samples if answer}:
        own = [is_correct for other, is_correct in samples if other == answer]
        accuracy[answer] = Fraction(sum(own), len(own))
    subsets = list(combinations(range(len(samples)), k))
    total = Fraction(0)
    for subset in subsets:
        ballots = Counter(samples[index][0] for index in subset if samples[index][0])
        top = max(ballots.values(), default=0)
        winners = [answer for answer, number in ballots.items() if number == top]
        total += sum((accuracy[answer] for answer in winners), Fraction(0)) / max(len(winners), 1)
    return total / len(subsets)


@given(st.lists(st.booleans(), min_size=1, max_size=10), st.data())
@settings(deadline=None)
def test_pass_at_k_is_the_share_of_subsets_with_a_correct_sample(correct: list[bool], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(correct)))
    subsets = list(combinations(correct, k))
    expected = Fraction(sum(any(subset) for subset in subsets), len(subsets))
    assert pass_at_k(len(correct), sum(correct), k) == pytest.approx(float(expected), abs=1e-12)


@given(SAMPLES, st.data())
@settings(max_examples=300, deadline=None)
def test_majority_at_k_is_the_mean_over_all_subsets(samples: list[tuple[str, bool]], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(samples)))
    expected = float(enumerated_majority(samples, k))
    assert majority_at_k(*votes_of(samples), k) == pytest.approx(expected, abs=1e-9)


@given(SAMPLES)
@settings(deadline=None)
def test_majority_at_1_is_the_accuracy(samples: list[tuple[str, bool]]) -> None:
    votes, unanswered = votes_of(samples)
    correct = sum(is_correct for answer, is_correct in samples if answer)
    assert majority_at_k(votes, unanswered, 1) == pytest.approx(correct / len(samples))


@given(st.lists(st.integers(1, 30), min_size=1, max_size=8), st.integers(0, 30), st.data())
@settings(max_examples=50, deadline=None)
def test_winning_probabilities_sum_to_one_unless_nobody_votes(
    sizes: list[int], unanswered: int, data: st.DataObject
) -> None:
    total = sum(sizes) + unanswered
    k = data.draw(st.integers(1, total))
    probabilities = winning_probabilities(tuple(sorted(sizes)), unanswered, k)
    nobody = math.comb(unanswered, k) / math.comb(total, k)
    assert sum(probabilities[size] for size in sizes) == pytest.approx(1 - nobody, abs=1e-9)
    ordered = [probabilities[size] for size in sorted(set(sizes))]
    assert all(less <= more + 1e-12 for less, more in pairwise(ordered))


def test_ties_are_split() -> None:
    assert majority_at_k([AnswerVotes(2, 1.0), AnswerVotes(2, 0.0)], 0, 4) == 0.5
    assert majority_at_k([AnswerVotes(2, 1.0), AnswerVotes(2, 0.0), AnswerVotes(2, 0.0)], 1, 7) == pytest.approx(1 / 3)


def test_a_large_minority_of_correct_answers_wins_over_scattered_wrong_ones() -> None:
    votes = [AnswerVotes(30, 1.0), *(AnswerVotes(1, 0.0) for _ in range(70))]
    assert majority_at_k(votes, 0, 100) == 1.0
    assert majority_at_k(votes, 0, 20) > pass_at_k(100, 30, 1)


def test_a_query_without_votes_is_wrong() -> None:
    assert majority_at_k([], 5, 3) == 0.0
    assert majority_at_k([AnswerVotes(1, 1.0)], 9, 10) == 1.0
    assert majority_at_k([AnswerVotes(1, 1.0)], 9, 5) == pytest.approx(0.5)


def test_thousands_of_samples() -> None:
    assert pass_at_k(5_000, 1, 2_500) == pytest.approx(0.5)
    ahead = hypergeom.sf(7, 5_000, 3_000, 15)
    assert majority_at_k([AnswerVotes(3_000, 1.0), AnswerVotes(2_000, 0.0)], 0, 15) == pytest.approx(ahead, abs=1e-9)
    few_wrong = math.comb(1_000, 3) / math.comb(4_000, 3)
    assert pass_at_k(4_000, 3_000, 3) == pytest.approx(1 - few_wrong)
