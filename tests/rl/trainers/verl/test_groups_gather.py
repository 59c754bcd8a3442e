"""The gate: rollouts wait for their siblings, and what does not come holds nobody up for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memstore_rl.rewards.reward import Group, Reward, RewardQuery, Rollout
from memstore_rl.trainers.verl.group_barrier import GroupBarrier

QUERY = RewardQuery("what is 2 + 3 ?")


class Recording:
    """Gives each rollout its response's number as reward, and keeps the groups it was asked about."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.groups: list[Group] = []
        self._failure = failure

    async def score_group(self, group: Group, *, record: bool = True) -> Sequence[Reward]:
        self.groups.append(group)
        await asyncio.sleep(0)
        if self._failure is not None:
            raise self._failure
        short = len(group.rollouts) < (group.expected or 0)
        return [
            Reward(float(rollout.response or ""), "predicted", 0.5, len(group.rollouts), short, None, None, 0.0)
            for rollout in group.rollouts
        ]


def rollout(number: int) -> Rollout:
    return Rollout(response=str(number))


def test_rollouts_get_their_own_reward_when_the_group_is_complete() -> None:
    async def run() -> list[Reward]:
        gate = GroupBarrier(scorer, wait_s=60)
        return await asyncio.gather(*(gate.submit("q", 3, QUERY, rollout(n)) for n in (7, 8, 9)))

    scorer = Recording()
    assert [reward.value for reward in asyncio.run(run())] == [7, 8, 9]
    assert [len(group.rollouts) for group in scorer.groups] == [3]


def test_a_group_waits_until_the_last_one_is_there() -> None:
    async def run() -> None:
        gate = GroupBarrier(scorer, wait_s=60)
        first = asyncio.create_task(gate.submit("q", 2, QUERY, rollout(1)))
        await asyncio.sleep(0.01)
        assert not first.done()
        assert gate.waiting == 1
        await gate.submit("q", 2, QUERY, rollout(2))
        assert (await first).value == 1
        assert gate.waiting == 0

    scorer = Recording()
    asyncio.run(run())


@pytest.mark.parametrize("leaves_first", [True, False])
def test_a_group_shrinks_at_once_when_a_rollout_will_not_come(leaves_first: bool) -> None:
    async def run() -> Reward:
        gate = GroupBarrier(scorer, wait_s=60)
        if leaves_first:
            gate.leave("q", 2)
        task = asyncio.create_task(gate.submit("q", 2, QUERY, rollout(1)))
        await asyncio.sleep(0)
        if not leaves_first:
            gate.leave("q", 2)
        return await task

    scorer = Recording()
    reward = asyncio.run(run())
    assert reward.group_size == 1
    assert reward.short


def test_a_group_of_which_none_comes_is_never_scored() -> None:
    async def run() -> int:
        gate = GroupBarrier(scorer, wait_s=60)
        gate.leave("q", 2)
        gate.leave("q", 2)
        await asyncio.sleep(0)
        return gate.waiting

    scorer = Recording()
    assert asyncio.run(run()) == 0
    assert scorer.groups == []


def test_a_group_that_nobody_joins_any_more_is_scored_short_and_late_ones_together() -> None:
    async def run() -> list[Reward]:
        gate = GroupBarrier(scorer, wait_s=0.05)
        early = asyncio.create_task(gate.submit("q", 3, QUERY, rollout(1)))
        assert (await early).short
        late = await asyncio.gather(*(gate.submit("q", 3, QUERY, rollout(n)) for n in (2, 3)))
        return [early.result(), *late]

    scorer = Recording()
    assert [reward.value for reward in asyncio.run(run())] == [1, 2, 3]
    assert [(len(group.rollouts), group.expected) for group in scorer.groups] == [(1, 3), (2, 3)]


def test_each_rollout_of_a_group_that_cannot_be_scored_gets_the_reason() -> None:
    async def run() -> list[object]:
        gate = GroupBarrier(Recording(ValueError("the service is gone")), wait_s=60)
        asked = (gate.submit("q", 2, QUERY, rollout(n)) for n in range(2))
        return list(await asyncio.gather(*asked, return_exceptions=True))

    assert [str(outcome) for outcome in asyncio.run(run())] == ["the service is gone"] * 2


def test_one_that_gives_up_waiting_does_not_take_the_group_with_it() -> None:
    async def run() -> Reward:
        gate = GroupBarrier(scorer, wait_s=60)
        gone = asyncio.create_task(gate.submit("q", 2, QUERY, rollout(1)))
        await asyncio.sleep(0)
        gone.cancel()
        return await gate.submit("q", 2, QUERY, rollout(2))

    scorer = Recording()
    assert asyncio.run(run()).value == 2


@given(order=st.permutations([group for group in range(12) for _ in range(4)]))
@settings(max_examples=25, deadline=None)
def test_in_any_order_every_group_is_full_and_every_rollout_gets_its_own(order: list[int]) -> None:
    async def run() -> list[Reward]:
        gate = GroupBarrier(scorer, wait_s=60)
        asked = (gate.submit(f"q{group}", 4, QUERY, rollout(place)) for place, group in enumerate(order))
        return await asyncio.gather(*asked)

    scorer = Recording()
    assert [reward.value for reward in asyncio.run(run())] == list(range(len(order)))
    assert [len(group.rollouts) for group in scorer.groups] == [4] * 12
