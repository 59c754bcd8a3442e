"""Drives what both designs of verl 0.9 share: the group barrier over the service, without Ray.

tests/rl/trainers/verl drive verl's own agent loop and reward loop, and `memstore verl check` proves that a
configuration loads them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from memstore_rl.rewards.reward import Group, Reward, RewardQuery, Rollout
from memstore_rl.trainers.conformance.driver import GroupCase, Outcome
from memstore_rl.trainers.hook_settings import HookSettings
from memstore_rl.trainers.verl.group_barrier import GroupBarrier
from memstore_rl.trainers.verl.reply import Extra, reply
from memstore_rl.trainers.verl.rows import query_of
from memstore_rl.trainers.verl.scorers import open_scorer
from memstore_rl.trainers.verl.settings import HookSettings as VerlSettings
from memstore_rl.trainers.verl.settings import parse_settings

_SOURCES = {"ground_truth": "from_ground_truth", "remembered": "from_memory", "predicted": "from_model"}


class Driver:
    """See the module's docstring."""

    trainer = "verl"
    against = "the group barrier of both designs for verl 0.9; `memstore verl check` checks a configuration"
    may_refuse = False

    def train(self, groups: Sequence[GroupCase], settings: HookSettings) -> Outcome:
        """A batch whose rollouts arrive in turn, each waiting for its group."""
        return asyncio.run(_train(groups, settings))

    def evaluate(self, groups: Sequence[GroupCase], settings: HookSettings) -> Outcome:
        """A validation, each rollout on its own."""
        return asyncio.run(_evaluate(groups, settings))


async def _train(groups: Sequence[GroupCase], settings: HookSettings) -> Outcome:
    barrier = GroupBarrier(open_scorer(_verl(settings)), wait_s=600.0)
    size = settings.group_size or max(len(case.completions) for case in groups)
    longest = max(len(case.completions) for case in groups)
    rows = [(case, at) for at in reversed(range(longest)) for case in groups if at < len(case.completions)]
    for case in groups:
        for _ in range(size - len(case.completions)):  # a session that failed
            barrier.leave(case.name, size)
    arriving = [
        barrier.submit(case.name, size, _query(case, "train"), Rollout(case.completions[at], sample_index=None))
        for case, at in rows
    ]
    rewards = await asyncio.gather(*arriving)
    return _outcome(groups, rows, rewards)


async def _evaluate(groups: Sequence[GroupCase], settings: HookSettings) -> Outcome:
    scorer = open_scorer(_verl(settings))
    rows = [(case, at) for case in groups for at in range(len(case.completions))]
    rewards: list[Reward] = []
    for case, at in rows:
        group = Group(_query(case, "validation"), [Rollout(case.completions[at])], mode="oracle")
        rewards += await scorer.score_group(group, record=False)
    return _outcome(groups, rows, rewards)


def _verl(settings: HookSettings) -> VerlSettings:
    return parse_settings({"endpoint": settings.endpoint, "deadline_s": settings.deadline_s, "mean_only": True})


def _query(case: GroupCase, split: str) -> RewardQuery:
    prompt = [{"role": "user", "content": case.query}]
    return query_of(prompt, "sums", {"ground_truth": case.gold or ""}, {"split": split, "domain": "math"})


def _outcome(groups: Sequence[GroupCase], rows: Sequence[tuple[GroupCase, int]], rewards: Sequence[Reward]) -> Outcome:
    values = {case.name: [0.0] * len(case.completions) for case in groups}
    for (case, at), reward in zip(rows, rewards, strict=True):
        assert reward.value is not None
        values[case.name][at] = reward.value
    return Outcome(values, means_of_replies([reply(reward) for reward in rewards]))


def means_of_replies(replies: Sequence[Extra]) -> dict[str, float]:
    """The means of the numbers that verl logs for a batch, and the share of the source that it cannot represent."""
    count = len(replies)
    means = {f"{source}_share": sum(float(one[key]) for one in replies) / count for source, key in _SOURCES.items()}
    return means | {"unscored_share": sum(one["source"] == "unscored" for one in replies) / count}
