"""pass@k and majority@k of one query, held to enumeration of all choices of k samples."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction
from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import hypergeom

from memstore_rl.grade.estimates import Vote, majority_at_k, pass_at_k, winning_chances

SAMPLES = st.lists(st.tuples(st.sampled_from(["a", "b", "c", "d", ""]), st.booleans()), min_size=1, max_size=9)
"""Samples of one query: the answer ("" for none), and whether it is right."""


def votes_of(samples: list[tuple[str, bool]]) -> tuple[list[Vote], int]:
    """The answers as they vote, and how many samples are silent."""
    given_answers = Counter(answer for answer, _ in samples if answer)
    right = Counter(answer for answer, is_right in samples if answer and is_right)
    return [Vote(n, right[a] / n) for a, n in given_answers.items()], sum(not answer for answer, _ in samples)


def enumerated_majority(samples: list[tuple[str, bool]], k: int) -> Fraction:
    """The vote of every choice of k samples; ties are shared, and a winner is worth the share of its samples."""
    worth = {}
    for answer in {answer for answer, _ in samples if answer}:
        own = [is_right for other, is_right in samples if other == answer]
        worth[answer] = Fraction(sum(own), len(own))
    choices = list(combinations(range(len(samples)), k))
    total = Fraction(0)
    for chosen in choices:
        ballots = Counter(samples[place][0] for place in chosen if samples[place][0])
        top = max(ballots.values(), default=0)
        winners = [answer for answer, number in ballots.items() if number == top]
        total += sum((worth[answer] for answer in winners), Fraction(0)) / max(len(winners), 1)
    return total / len(choices)


@given(st.lists(st.booleans(), min_size=1, max_size=10), st.data())
@settings(deadline=None)
def test_pass_at_k_is_the_share_of_choices_with_a_right_one(right: list[bool], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(right)))
    choices = list(combinations(right, k))
    expected = Fraction(sum(any(chosen) for chosen in choices), len(choices))
    assert pass_at_k(len(right), sum(right), k) == pytest.approx(float(expected), abs=1e-12)


@given(SAMPLES, st.data())
@settings(max_examples=300, deadline=None)
def test_majority_at_k_is_the_mean_over_all_choices(samples: list[tuple[str, bool]], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(samples)))
    expected = float(enumerated_majority(samples, k))
    assert majority_at_k(*votes_of(samples), k) == pytest.approx(expected, abs=1e-9)


@given(SAMPLES)
@settings(deadline=None)
def test_a_vote_of_one_is_that_one(samples: list[tuple[str, bool]]) -> None:
    votes, silent = votes_of(samples)
    heard = sum(is_right for answer, is_right in samples if answer)
    assert majority_at_k(votes, silent, 1) == pytest.approx(heard / len(samples))


@given(st.lists(st.integers(1, 30), min_size=1, max_size=8), st.integers(0, 30), st.data())
@settings(max_examples=50, deadline=None)
def test_somebody_wins_unless_nobody_votes(sizes: list[int], silent: int, data: st.DataObject) -> None:
    everyone = sum(sizes) + silent
    k = data.draw(st.integers(1, everyone))
    chance = winning_chances(tuple(sorted(sizes)), silent, k)
    nobody = math.comb(silent, k) / math.comb(everyone, k)
    assert sum(chance[size] for size in sizes) == pytest.approx(1 - nobody, abs=1e-9)
    ordered = [chance[size] for size in sorted(set(sizes))]
    assert all(less <= more + 1e-12 for less, more in pairwise(ordered))


def test_ties_are_shared() -> None:
    assert majority_at_k([Vote(2, 1.0), Vote(2, 0.0)], 0, 4) == 0.5
    assert majority_at_k([Vote(2, 1.0), Vote(2, 0.0), Vote(2, 0.0)], 1, 7) == pytest.approx(1 / 3)


def test_a_large_minority_of_right_answers_wins_over_scattered_wrong_ones() -> None:
    votes = [Vote(30, 1.0), *(Vote(1, 0.0) for _ in range(70))]
    assert majority_at_k(votes, 0, 100) == 1.0
    assert majority_at_k(votes, 0, 20) > pass_at_k(100, 30, 1)


def test_silence_loses() -> None:
    assert majority_at_k([], 5, 3) == 0.0
    assert majority_at_k([Vote(1, 1.0)], 9, 10) == 1.0
    assert majority_at_k([Vote(1, 1.0)], 9, 5) == pytest.approx(0.5)


def test_thousands_of_samples_are_no_trouble() -> None:
    assert pass_at_k(5_000, 1, 2_500) == pytest.approx(0.5)
    ahead = hypergeom.sf(7, 5_000, 3_000, 15)
    assert majority_at_k([Vote(3_000, 1.0), Vote(2_000, 0.0)], 0, 15) == pytest.approx(ahead, abs=1e-9)
    few_wrong = math.comb(1_000, 3) / math.comb(4_000, 3)
    assert pass_at_k(4_000, 3_000, 3) == pytest.approx(1 - few_wrong)
