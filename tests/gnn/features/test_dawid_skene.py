"""Reliability of policies: what EM recovers from agreement and from verdicts, and where it must not fail."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memstore_gnn.features.dawid_skene import NOBODY, Ballots, fit_reliabilities, posterior_of

SKILL = np.array([0.9, 0.8, 0.7, 0.4, 0.3])


def election(seed: int = 0, queries: int = 300, values: int = 6) -> tuple[Ballots, np.ndarray, np.ndarray]:
    """One rollout of each policy for each query; returns ballots, the right answer of each, and what is right."""
    rng = np.random.default_rng(seed)
    right = rng.random((queries, len(SKILL))) < SKILL
    value = np.where(right, 0, rng.integers(1, values, right.shape))
    policy = np.tile(np.arange(len(SKILL)), queries)
    query = np.repeat(np.arange(queries), len(SKILL))
    answer = query * values + value.ravel()
    of_answer = np.repeat(np.arange(queries), values)
    return Ballots(policy, answer, query * len(SKILL) + policy, of_answer), np.arange(queries) * values, right.ravel()


def none(ballots: Ballots) -> np.ndarray:
    return np.full(len(ballots.query), np.nan)


def test_agreement_orders_the_policies() -> None:
    ballots, _, _ = election()
    found = fit_reliabilities(ballots, none(ballots), len(SKILL))
    assert np.all(np.diff(found.policy) < 0)
    assert np.abs(found.policy - SKILL).max() < 0.15
    assert 2 < found.wrong_values < 3  # half of five, see WRONG_VALUES
    assert np.all(found.error < 0.03)


def test_verdicts_give_the_shares_of_right_rollouts() -> None:
    ballots, right, truth = election()
    verdict = np.zeros(len(ballots.query))
    verdict[right] = 1.0
    found = fit_reliabilities(ballots, verdict, len(SKILL))
    shares = truth.reshape(-1, len(SKILL)).mean(0)
    assert found.policy == pytest.approx(shares, abs=0.02)


def test_weighted_votes_beat_plain_votes() -> None:
    ballots, _, _ = election(seed=1)
    found = fit_reliabilities(ballots, none(ballots), len(SKILL))
    answers = len(ballots.query)
    weighted = np.bincount(ballots.answer, found.evidence(found.policy)[ballots.policy] * ballots.share, answers)
    plain = np.bincount(ballots.answer, minlength=answers)

    def accuracy(support: np.ndarray) -> float:
        by_query = support.reshape(-1, 6)
        won = by_query[:, 0] > by_query[:, 1:].max(1)
        tied = by_query[:, 0] == by_query[:, 1:].max(1)
        return float((won + 0.5 * tied).mean())

    assert accuracy(weighted) > accuracy(plain) + 0.02


def test_a_policy_without_rollouts_has_the_mean_reliability() -> None:
    ballots, _, _ = election(queries=20)
    found = fit_reliabilities(ballots, none(ballots), len(SKILL) + 1)
    assert found.policy[-1] == pytest.approx(found.mean)
    assert found.error[-1] > found.error[0]


def test_rollouts_of_one_policy_count_as_the_square_root_of_their_number() -> None:
    ballots = Ballots(np.zeros(5, int), np.array([0, 0, 0, 0, 1]), np.array([0, 0, 0, 0, 1]), np.array([0, 1]))
    assert ballots.share.tolist() == [0.5, 0.5, 0.5, 0.5, 1.0]


def test_verdicts_settle_and_remove_answers() -> None:
    query, nan = np.array([0, 0, 1, 1, 1, 2]), np.nan
    support = np.array([5.0, 0.0, 1.0, 1.0, 9.0, 0.0])
    found = posterior_of(support, query, 3, np.array([nan, 1.0, nan, nan, 0.0, nan]))
    assert found.tolist() == [0.0, 1.0, 0.5, 0.5, 0.0, 1.0]
    alone = posterior_of(np.array([0.0]), np.array([0]), 1, np.array([nan]), NOBODY)
    assert alone[0] == pytest.approx(1 / (1 + np.e))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-1, 5), st.sampled_from([None, 0.0, 1.0])), max_size=30))
def test_any_ballots_give_finite_reliabilities(rows: list[tuple[int, int, float | None]]) -> None:
    """Answers 0..5 belong to queries 0..2; -1 is no answer."""
    policy, answer = np.array([row[0] for row in rows], int), np.array([row[1] for row in rows], int)
    verdict = np.full(6, np.nan)
    for _, cell, label in rows:
        if cell >= 0 and label is not None:
            verdict[cell] = label
    of_answer = np.array([0, 0, 1, 1, 2, 2])
    query = np.where(answer >= 0, of_answer[answer], 3)
    with np.errstate(all="raise", under="ignore"):
        found = fit_reliabilities(Ballots(policy, answer, query * 4 + policy, of_answer), verdict, 4)
    assert np.all((found.policy >= 0.02) & (found.policy <= 0.98))
    assert np.all(np.isfinite(found.evidence(found.policy)))
    assert np.all(found.evidence(found.policy) > 0)
