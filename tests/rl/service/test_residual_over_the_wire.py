"""Residual rewards reach a client of the service as the scorer gives them, and silent groups are counted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

import httpx
import pytest

from memstore.errors import InputError
from memstore.memory import Memory
from memstore_rl.rewards.group import GroupScorer
from memstore_rl.rewards.reward import Group, Reward, RewardQuery, Rollout
from memstore_rl.service.client import RewardClient
from memstore_rl.trainers.trl import reward_function
from memstore_rl.trainers.verl.scorers import ServiceScorer
from memstore_rl.trainers.verl.settings import parse_settings

Served = Callable[..., AbstractContextManager[str]]


@pytest.fixture
def scorer(trained_memory: Memory) -> Iterator[GroupScorer]:
    """The scorer that `served` serves."""
    with GroupScorer.open(trained_memory, shaping="residual", residual_weight=2) as opened:
        yield opened


def without_latency(rewards: Sequence[Reward]) -> list[Reward]:
    return [replace(reward, latency_s=0.0) for reward in rewards]


def test_client_gets_the_residual_rewards(served: Served, scorer: GroupScorer, groups: list[Group]) -> None:
    unanimous = Group(RewardQuery("What is 20 + 3?", domain="math"), [Rollout(response="#### 23")] * 4)
    sent = [groups[0], groups[-1], unanimous]
    with served() as endpoint, RewardClient(endpoint) as client:
        received = client.score_groups(sent)
        metrics = dict(
            line.rsplit(" ", 1) for line in httpx.get(f"{endpoint}/metrics").text.splitlines() if line[0] != "#"
        )
    for rewards, own in zip(received, scorer.score_groups(sent), strict=True):
        assert without_latency(rewards) == without_latency(own)
        for reward in rewards:
            assert reward.probability is not None
            assert reward.by_votes is not None
            assert reward.value == pytest.approx(2 * (reward.probability - reward.by_votes), abs=1e-5)
    assert all(reward.silent for reward in received[2])
    silent = sum(rewards[0].silent for rewards in received)
    assert float(metrics["memstore_silent_groups_total"]) == silent


def test_trl_refuses_the_residual_of_a_service_where_it_divides_by_the_deviation(served: Served) -> None:
    rows = {
        "prompts": ["What is 2 + 3?"] * 2,
        "data_source": ["sums"] * 2,
        "reward_model": [{"ground_truth": ""}] * 2,
        "extra_info": [{"split": "train", "query_id": "q", "domain": "math"}] * 2,
    }
    with served() as endpoint, RewardClient(endpoint) as client:
        with pytest.raises(InputError, match="does not divide by the standard deviation"):
            reward_function(client, scale_rewards="group")(completions=["#### 5", "#### 6"], **rows)
        rewards = reward_function(client, scale_rewards="none")(completions=["#### 5", "#### 6"], **rows)
    assert None not in rewards


def test_verl_refuses_the_residual_of_a_service_where_it_divides_by_the_deviation(
    served: Served, groups: list[Group]
) -> None:
    async def score(endpoint: str, mean_only: bool) -> list[Reward]:
        settings = parse_settings({"endpoint": endpoint, "mean_only": mean_only})
        return await ServiceScorer(settings).score_group(groups[0], record=False)

    with served() as endpoint:
        with pytest.raises(InputError, match=r"shaping residual of the service needs .* another --shaping"):
            asyncio.run(score(endpoint, False))
        rewards = asyncio.run(score(endpoint, True))
    assert {reward.source for reward in rewards} == {"predicted"}
