r"""Reliability of policies, estimated from verdicts and from agreement (Dawid and Skene, 1979).

Each query has one right answer. A policy gives it with probability :math:`r_p`, its reliability, and otherwise one of
:math:`m` wrong answers, so that a vote for an answer is evidence of

.. math::
    w_p = \max\big(w_{min},\; \log r_p - \log((1 - r_p) / m)\big)

EM alternates between the posterior of each answer, a softmax of :math:`\tau \sum w_p` over the answers of the query,
and the reliabilities. Answers with a verdict keep it. Departures from the textbook, each measured in
`research/seen_queries_log.md`:

- :math:`m` is estimated: it is the inverse of the chance that two wrong votes agree.
- Policies make the same mistakes, so votes are tempered (:math:`\tau`), and n rollouts of one policy for a query count
  as :math:`\sqrt n`.
- :math:`r_p` is shrunk towards the mean of all policies, and a vote never counts against its answer: where nothing can
  be estimated, the rule is that of ordinary votes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from memstore.types import FloatVector, IntVector

TEMPER = 0.5
"""tau, the factor on the evidence of votes."""
EM_TEMPER = 1.0
"""tau while reliabilities are estimated: a softer posterior takes right votes for wrong ones that agree."""
SHRINKAGE = 8.0
"""Rollouts of the mean policy that are added to each policy."""
LEAST_WEIGHT = 0.2
"""Least evidence of a vote."""
LEAST_MEAN_WEIGHT = 0.5
"""Least evidence of a vote by the mean policy. It bounds m from below, so that EM cannot end where no vote counts."""
WRONG_VALUES = 0.5
"""Factor on the estimated number of wrong answers; the estimate is high, because it takes errors as independent."""
NOBODY = 1.0
"""Evidence that no policy gave the right answer, on the scale of a softmax; used where votes become a probability."""
ROUNDS, TOLERANCE = 20, 1e-3
_RELIABILITY = (0.02, 0.98)
_COLLISION = (0.02, 0.9)
_FIRST_WRONG_VALUES = 6.0


@dataclass(frozen=True)
class Ballots:
    """Votes on answers.

    Attributes:
        policy: int64 [N], 0..P-1, the policy of each rollout.
        answer: int64 [N], 0..A-1, its answer; -1 without an answer.
        group: int64 [N], equal for the rollouts of one policy for one query.
        query: int64 [A], 0..Q-1, the query of each answer.
    """

    policy: IntVector
    answer: IntVector
    group: IntVector
    query: IntVector

    @property
    def share(self) -> FloatVector:
        """Weight of each rollout's vote, float64 [N]: n rollouts of a policy for a query count as sqrt(n)."""
        _, cell, count = np.unique(self.group, return_inverse=True, return_counts=True)
        return np.asarray(1.0 / np.sqrt(count[cell]), np.float64)


@dataclass(frozen=True)
class Reliabilities:
    """Estimated reliabilities.

    Attributes:
        policy: float64 [P], the probability that a rollout of each policy is right.
        mean: that of all rollouts.
        wrong_values: number of equally likely wrong answers.
        rollouts: int64 [P], rollouts of each policy.
        posterior: float64 [A], the probability that each answer is right.
    """

    policy: FloatVector
    mean: float
    wrong_values: float
    rollouts: IntVector
    posterior: FloatVector

    @property
    def error(self) -> FloatVector:
        """Standard error of each reliability, float64 [P], as if the rollouts were judged."""
        return np.sqrt(self.policy * (1.0 - self.policy) / (self.rollouts + SHRINKAGE))

    def evidence(self, reliability: FloatVector) -> FloatVector:
        """Evidence of a vote by policies of these reliabilities, float64 [N]; see the module's docstring."""
        wrong = (1.0 - reliability) / self.wrong_values
        return TEMPER * np.maximum(np.log(reliability) - np.log(wrong), LEAST_WEIGHT)


def fit_reliabilities(ballots: Ballots, verdict: FloatVector, policies: int) -> Reliabilities:
    """Estimate the reliability of each policy by EM.

    Args:
        verdict: float64 [A], 0 to 1 for answers that are judged, NaN for the others.
        policies: P, the number of policies.
    """
    answered = ballots.answer >= 0
    answer, voter = ballots.answer[answered], ballots.policy[answered]
    share, queries = ballots.share[answered], int(ballots.query.max(initial=-1)) + 1
    votes = np.bincount(answer, minlength=len(ballots.query)).astype(np.float64)
    size = _total(ballots.query, votes, queries)[ballots.query]
    rollouts = np.bincount(ballots.policy, minlength=policies)
    posterior = np.where(np.isfinite(verdict), verdict, votes / np.maximum(size, 1))
    wrong_values = _FIRST_WRONG_VALUES
    found = _reliabilities(_total(voter, posterior[answer], policies), rollouts, wrong_values, posterior)
    for _ in range(ROUNDS):
        least = math.exp(LEAST_MEAN_WEIGHT) * (1.0 - found.mean) / found.mean
        wrong_values = max(_wrong_values(ballots, votes, size, posterior), least)
        found = _reliabilities(_total(voter, posterior[answer], policies), rollouts, wrong_values, posterior)
        evidence = found.evidence(found.policy)[voter] * (EM_TEMPER / TEMPER)
        support = np.where(votes > 0, _total(answer, evidence * share, len(votes)), -np.inf)
        updated = posterior_of(support, ballots.query, queries, verdict)
        moved = np.abs(updated - posterior).max(initial=0.0)
        posterior = updated
        if moved < TOLERANCE:
            break
    return found


def posterior_of(
    support: FloatVector, query: IntVector, queries: int, verdict: FloatVector, nobody: float = -np.inf
) -> FloatVector:
    """Posterior of each answer, float64 [A]: a softmax over the answers of its query; verdicts are kept.

    Args:
        support: float64 [A], evidence of the votes for each answer; -inf for an answer that nobody gave.
        query: int64 [A]. queries: their number.
        verdict: float64 [A], NaN without one. A right verdict settles the query, a wrong one removes the answer.
        nobody: evidence that none of the answers is right.
    """
    settled = np.zeros(queries, np.bool_)
    settled[query[verdict > 0.5]] = True
    fixed = np.where(np.isfinite(verdict), verdict, np.where(settled[query], 0.0, np.nan))
    free = ~np.isfinite(fixed)
    open_ = free & np.isfinite(support)
    top = np.full(queries, nobody)
    np.maximum.at(top, query[open_], support[open_])
    highest = np.where(np.isfinite(top), top, 0.0)
    mass = np.where(open_, np.exp(np.where(open_, support - highest[query], 0.0)), 0.0)
    none = np.exp(nobody - highest)
    total = _total(query, mass, queries) + none
    return np.where(free, mass / np.maximum(total, 1e-300)[query], fixed)


def _total(cell: IntVector, values: FloatVector, cells: int) -> FloatVector:
    """Sum of the values of each cell, float64 [cells]."""
    return np.asarray(np.bincount(cell, values, cells), np.float64)


def _reliabilities(
    right: FloatVector, rollouts: IntVector, wrong_values: float, posterior: FloatVector
) -> Reliabilities:
    """Shrunken shares of right rollouts."""
    mean = float(np.clip(right.sum() / max(int(rollouts.sum()), 1), *_RELIABILITY))
    policy = np.clip((right + SHRINKAGE * mean) / (rollouts + SHRINKAGE), *_RELIABILITY)
    return Reliabilities(policy, mean, wrong_values, rollouts.astype(np.int64), posterior)


def _wrong_values(ballots: Ballots, votes: FloatVector, size: FloatVector, posterior: FloatVector) -> float:
    """Number of equally likely wrong answers: the inverse of the chance that two wrong votes agree."""
    pairs = votes * (votes - 1.0)
    of_query = np.bincount(ballots.query, pairs)[ballots.query] if len(pairs) else pairs
    wrong = size - votes
    agree = float((posterior * (of_query - pairs)).sum())
    possible = float((posterior * wrong * (wrong - 1.0)).sum())
    if possible <= 0.0:
        return _FIRST_WRONG_VALUES
    return max(WRONG_VALUES / float(np.clip(agree / possible, *_COLLISION)), 1.0)
