r"""Reliability of policies with an interval, for people to read; votes are weighted by `features.dawid_skene`.

EM takes the errors of policies as independent. Real policies make the same mistakes, and the wrong answer that most of
them give looks right. EM therefore finds only a part of the errors, the same part for all policies of a dataset: where
it expects an error rate :math:`e`, the rate is :math:`(1 + \psi)\, e`. The factor has a gamma distribution, which
begins with `UNSEEN_ERRORS` and learns from the judged queries of all policies, and then for each policy from its own.
The expected errors are those without the verdicts, and a query counts once, since its rollouts err together.

The interval is that of a beta distribution with the variance

.. math::
    \frac{r (1 - r)}{n + s} + (1 - j)^2 e^2\, \mathrm{Var}(\psi)

with :math:`r` the reliability, :math:`s` the shrinkage, :math:`j` the judged share of the policy's rollouts and
:math:`n` the effective number of judged, independent rollouts, at most their number :math:`N`:

.. math::
    n = r (1 - r)\, \frac{N^2 B}{(B + V)^2}, \qquad
    B = \sum_c (E_c - m_c\, r)^2, \qquad V = \sum_c V_c

The sums go over the policy's queries, with :math:`m_c` rollouts each, of which :math:`E_c \pm \sqrt{V_c}` are right by
the posterior of the answers. Of the spread :math:`B + V` over queries, which is large where a policy's rollouts of one
query are right or wrong together, :math:`V` is not known because answers are not judged, and the share
:math:`B / (B + V)` of the information is there (Louis, 1982). With verdicts on independent rollouts, n is N.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.special import betaincinv, ndtri

from memstore.types import BoolVector, FloatVector, IntVector
from memstore_gnn.features.dawid_skene import (
    EM_TEMPER,
    SHRINKAGE,
    TEMPER,
    Ballots,
    Reliabilities,
    fit_reliabilities,
    posterior_of,
)

COVERAGE = 0.9
"""Probability that a reliability is in its interval."""
TWO_SIDED = 2.0 * float(ndtri((1.0 + COVERAGE) / 2))
"""Width of an interval with this coverage in standard errors, for a normal distribution."""
UNSEEN_ERRORS = (0.15, 0.1)
"""Mean and standard deviation of psi without verdicts. Five sets of real policies had .24, .10, .08, .25 and .07
(`research/seen_queries_log.md`)."""
POLICY_SPREAD = 0.1
"""Standard deviation of psi between the policies of a dataset."""
_LEAST, _MOST = 0.005, 0.995


class PolicyReliability(NamedTuple):
    """Estimated probability that a rollout of each policy is right.

    Attributes:
        reliability: float64 [P]. A rollout without an answer is wrong.
        low, high: float64 [P], the interval with the probability `COVERAGE`.
        posterior: float64 [A], the probability that each answer is right.
    """

    reliability: FloatVector
    low: FloatVector
    high: FloatVector
    posterior: FloatVector


def policy_reliability(ballots: Ballots, verdict: FloatVector, policies: int) -> PolicyReliability:
    """Estimate the reliability of each policy; see the module's docstring.

    Args:
        verdict: float64 [A], 0 to 1 for answers that are judged, NaN for the others.
        policies: P, the number of policies.
    """
    found = fit_reliabilities(ballots, verdict, policies)
    judged = judged_answers(ballots, verdict)
    answered = ballots.answer >= 0
    answer, voter = ballots.answer[answered], ballots.policy[answered]
    known = judged[answer]
    wrong = 1.0 - found.posterior[answer]
    mean, deviation = _unseen_errors(ballots, found, judged, policies)
    silent = np.bincount(ballots.policy[~answered], minlength=policies)
    certain = silent + np.bincount(voter[known], wrong[known], policies)
    expected = np.bincount(voter[~known], wrong[~known], policies)
    errors = np.minimum(certain + (1.0 + mean) * expected, found.rollouts)
    average = errors.sum() / max(int(found.rollouts.sum()), 1)
    r = np.clip(1.0 - (errors + SHRINKAGE * average) / (found.rollouts + SHRINKAGE), _LEAST, _MOST)
    variance = r * (1.0 - r) / (effective_counts(ballots, found, r) + SHRINKAGE)
    variance += (deviation * expected / np.maximum(found.rollouts, 1)) ** 2
    counts = np.maximum(r * (1.0 - r) / variance - 1.0, 1.0)
    tail = (1.0 - COVERAGE) / 2
    low, high = (np.asarray(betaincinv(counts * r, counts * (1.0 - r), share)) for share in (tail, 1.0 - tail))
    return PolicyReliability(r, low, high, found.posterior)


def judged_answers(ballots: Ballots, verdict: FloatVector) -> BoolVector:
    """Answers that are judged, bool [A]. A right verdict judges all answers to its query."""
    settled = np.zeros(int(ballots.query.max(initial=-1)) + 1, np.bool_)
    settled[ballots.query[verdict > 0.5]] = True
    return np.isfinite(verdict) | settled[ballots.query]


def distinct_pairs(first: IntVector, second: IntVector) -> tuple[IntVector, IntVector, IntVector]:
    """The distinct pairs of two int64 [N] of numbers from 0, and how often each occurs."""
    size = int(second.max(initial=-1)) + 1
    pairs, count = np.unique(first * size + second, return_counts=True)
    return *np.divmod(pairs, max(size, 1)), count


def effective_counts(ballots: Ballots, found: Reliabilities, reliability: FloatVector) -> FloatVector:
    """Number of judged, independent rollouts that would tell as much of each policy, float64 [P]."""
    _, first, cell = np.unique(ballots.group, return_index=True, return_inverse=True)
    policy, policies = ballots.policy[first], len(reliability)
    rollouts = np.bincount(cell).astype(np.float64)
    answered = ballots.answer >= 0
    given, answer, count = distinct_pairs(cell[answered], ballots.answer[answered])
    posterior = found.posterior[answer]
    expected = np.bincount(given, count * posterior, len(first))
    missing = np.maximum(np.bincount(given, count**2 * posterior, len(first)) - expected**2, 0.0)
    between = np.bincount(policy, (expected - rollouts * reliability[policy]) ** 2, policies)
    total = np.maximum(between + np.bincount(policy, missing, policies), 1e-12)
    counts = reliability * (1.0 - reliability) * found.rollouts**2 * between / total**2
    return np.asarray(np.minimum(counts, found.rollouts), np.float64)


def _unseen_errors(
    ballots: Ballots, found: Reliabilities, judged: BoolVector, policies: int
) -> tuple[FloatVector, FloatVector]:
    """Mean and standard deviation of each policy's psi, float64 [P], given the judged answers (bool [A])."""
    known = ballots.answer >= 0
    known[known] = judged[ballots.answer[known]]
    answer, policy = ballots.answer[known], ballots.policy[known]
    errors = 1.0 - found.posterior[answer], 1.0 - _without_verdicts(ballots, found)[answer]
    a_query, a_cell = (_size(cell) for cell in (ballots.query[answer], ballots.group[known]))
    mean, deviation = 1.0 + UNSEEN_ERRORS[0], UNSEEN_ERRORS[1]
    pooled = _updated(mean, deviation**2, *((one / a_query).sum() for one in errors))
    own = (np.bincount(policy, one / a_cell, policies) for one in errors)
    each, variance = _updated(pooled[0], pooled[1] + POLICY_SPREAD**2, *own)
    return each - 1.0, np.sqrt(variance)


def _without_verdicts(ballots: Ballots, found: Reliabilities) -> FloatVector:
    """Posterior of each answer by the votes alone, float64 [A]."""
    answered = ballots.answer >= 0
    evidence = (found.evidence(found.policy)[ballots.policy] * (EM_TEMPER / TEMPER) * ballots.share)[answered]
    support = np.bincount(ballots.answer[answered], evidence, len(ballots.query)).astype(np.float64)
    nothing = np.full(len(support), np.nan)
    return posterior_of(support, ballots.query, int(ballots.query.max(initial=-1)) + 1, nothing)


def _size(cell: IntVector) -> FloatVector:
    """Number of elements in the cell of each element, float64 [N]."""
    _, place, count = np.unique(cell, return_inverse=True, return_counts=True)
    return np.asarray(count[place], np.float64)


def _updated(mean: Any, variance: Any, actual: Any, expected: Any) -> tuple[Any, Any]:
    """Mean and variance of a gamma distribution after `actual` errors where `expected` were expected."""
    shape, rate = mean**2 / variance + actual, mean / variance + expected
    return shape / rate, shape / rate**2
