"""A reward of a verifier is None or a number from 0 to 1; all else is an error that names the verifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from memstore_rl.rewards.group import GroupScorer
from memstore_rl.rewards.reward import RewardQuery, Rollout
from memstore_rl.verifiers import Attempt, Verdict, Verifiers
from memstore_rl.verifiers.protocol import VerifierError


class Given:
    """Gives the same reward always."""

    def __init__(self, reward: Any) -> None:
        self.reward = reward

    def check(self, attempts: Sequence[Attempt]) -> list[Verdict]:
        return [Verdict(self.reward)] * len(attempts)

    def close(self) -> None:
        pass


@pytest.mark.parametrize("reward", [float("nan"), float("inf"), -0.5, 2, "1", [1.0]])
def test_an_invalid_reward_is_an_error(reward: object) -> None:
    query = RewardQuery("what is 1 + 1?", dataset="sums", domain="math", gold="2")
    with (
        GroupScorer(None, mode="oracle", verifiers=Verifiers({"math": Given(reward)})) as scorer,
        pytest.raises(VerifierError, match=r"the verifier Given of domain math gave the reward .* 'what is 1 \+ 1\?'"),
    ):
        scorer.score_group(query, [Rollout(answer="2")])


@pytest.mark.parametrize("reward", [0, 1, True, 0.5, np.float32(0.25), np.float64(1.0), None])
def test_a_valid_reward_is_taken(reward: Any) -> None:
    verifiers = Verifiers({"qa": Given(reward)})
    assert verifiers.check_all(["qa"], [Attempt("q", "a", "a")]) == [Verdict(reward)]
