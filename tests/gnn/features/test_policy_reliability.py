"""Reliability of policies with an interval: its coverage on simulated policies, and what verdicts correct."""

from __future__ import annotations

import numpy as np
import pytest

from memstore_gnn.features.dawid_skene import SHRINKAGE, Ballots, fit_reliabilities
from memstore_gnn.features.policy_reliability import (
    PolicyReliability,
    effective_counts,
    judged_answers,
    policy_reliability,
)

WRONG = 5
"""Different wrong answers to each simulated query."""


class Policies:
    """Simulated policies with their votes.

    Args:
        reliability: float64 [P], the probability that a rollout is right.
        samples: rollouts of each policy for a query.
        together: whether a policy's rollouts of one query are right or wrong together.
        trap: share of the queries where all policies that are wrong give the same answer.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        reliability: np.ndarray,
        queries: int = 120,
        *,
        samples: int = 1,
        together: bool = False,
        trap: float = 0.0,
    ) -> None:
        shape = (queries, len(reliability), samples)
        chance = rng.random((*shape[:2], 1) if together else shape)
        right = np.broadcast_to(chance < reliability[:, None], shape)
        trapped = (rng.random(queries) < trap)[:, None, None]
        value = np.where(right, 0, np.where(trapped, 1, rng.integers(1, WRONG + 1, shape)))
        query, policy, _ = np.indices(shape)
        answers, answer = np.unique((query * (WRONG + 1) + value).ravel(), return_inverse=True)
        group = (query * len(reliability) + policy).ravel()
        self.ballots = Ballots(policy.ravel(), answer, group, answers // (WRONG + 1))
        self.truth = (answers % (WRONG + 1) == 0).astype(np.float64)
        self.shares = right.mean((0, 2))
        self.judged_queries = rng.random(queries)

    def estimate(self, judged: float) -> PolicyReliability:
        """The estimate with verdicts on this share of the queries."""
        return policy_reliability(self.ballots, self.verdict(judged), len(self.shares))

    def verdict(self, judged: float) -> np.ndarray:
        return np.where(self.judged_queries[self.ballots.query] < judged, self.truth, np.nan)


@pytest.mark.parametrize("judged", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("options", [{}, {"samples": 6, "together": True}, {"trap": 0.3}], ids=["", "together", "trap"])
def test_intervals_cover_the_reliabilities_of_simulated_policies(judged: float, options: dict[str, float]) -> None:
    rng, inside, width = np.random.default_rng(1), [], []
    for _ in range(30):
        reliability = rng.uniform(0.35, 0.9, 10)
        found = Policies(rng, reliability, **options).estimate(judged)  # type: ignore[arg-type]
        inside.append((found.low <= reliability) & (reliability <= found.high))
        width.append(found.high - found.low)
    assert 0.84 <= np.mean(inside) <= 0.97
    assert np.mean(width) < 0.28


def test_verdicts_correct_what_agreement_takes_for_right() -> None:
    """In half of the queries, all policies that are wrong give one wrong answer."""
    policies = Policies(np.random.default_rng(0), np.linspace(0.3, 0.45, 10), 500, trap=0.5)
    agreement = fit_reliabilities(policies.ballots, policies.verdict(0.2), 10).policy
    errors = [np.abs(policies.estimate(judged).reliability - policies.shares).mean() for judged in (0.0, 0.2, 1.0)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[1] < np.abs(agreement - policies.shares).mean() / 2
    assert errors[2] < 0.005


def test_a_policy_with_few_rollouts_is_near_the_mean_and_has_a_wide_interval() -> None:
    rng = np.random.default_rng(0)
    policies = Policies(rng, np.array([0.9, 0.9, 0.9, 0.9]), 200)
    few = (policies.ballots.policy != 3) | (policies.ballots.query[policies.ballots.answer] < 2)
    of_few = {name: getattr(policies.ballots, name)[few] for name in ("policy", "answer", "group")}
    found = policy_reliability(Ballots(**of_few, query=policies.ballots.query), policies.verdict(1.0), 4)
    assert found.reliability[3] == pytest.approx(0.9, abs=0.04)
    assert found.high[3] - found.low[3] > 2 * (found.high[0] - found.low[0])


def test_rollouts_without_an_answer_are_wrong() -> None:
    rng = np.random.default_rng(0)
    policies = Policies(rng, np.array([0.8, 0.8]), 300)
    ballots = policies.ballots
    silent = (ballots.policy == 0) & (ballots.query[ballots.answer] % 2 == 0)
    answer = np.where(silent, -1, ballots.answer)
    found = policy_reliability(Ballots(ballots.policy, answer, ballots.group, ballots.query), policies.verdict(1.0), 2)
    assert found.reliability == pytest.approx([0.4, 0.8], abs=0.05)


def test_effective_counts_are_the_judged_independent_rollouts() -> None:
    rng = np.random.default_rng(0)
    alone = Policies(rng, np.array([0.7, 0.5, 0.6]), 400)
    same = Policies(rng, np.array([0.7, 0.5, 0.6]), 400, samples=4, together=True)
    for policies, judged, rollouts in ((alone, 1.0, 400), (same, 1.0, 400), (alone, 0.0, 250)):
        found = fit_reliabilities(policies.ballots, policies.verdict(judged), 3)
        counts = effective_counts(policies.ballots, found, found.policy)
        assert counts.max() < (1.1 if judged else 0.95) * 400
        if judged:
            assert counts == pytest.approx(rollouts, rel=0.1)


def test_a_right_verdict_judges_all_answers_of_its_query() -> None:
    ballots = Ballots(*(np.array(one) for one in ([0, 1, 0, 1, 0], [0, 1, 2, 3, 4], [0, 1, 2, 3, 4], [0, 0, 1, 1, 2])))
    verdict = np.array([1.0, np.nan, 0.0, np.nan, np.nan])
    assert judged_answers(ballots, verdict).tolist() == [True, True, True, False, False]


def test_a_memory_without_votes_has_no_policies() -> None:
    nothing = np.zeros(0, np.int64)
    found = policy_reliability(Ballots(nothing, nothing, nothing, nothing), np.zeros(0), 0)
    assert [len(one) for one in found] == [0, 0, 0, 0]
    silent = policy_reliability(Ballots(np.array([0]), np.array([-1]), np.array([0]), nothing), np.zeros(0), 1)
    assert silent.low[0] <= silent.reliability[0] < 1 / SHRINKAGE
