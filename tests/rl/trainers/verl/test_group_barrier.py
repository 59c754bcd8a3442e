"""Group barrier: rollouts wait for their group, and missing rollouts do not block it forever."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memstore_rl.rewards.reward import Group, Reward, RewardQuery, Rollout
from memstore_rl.trainers.verl.group_barrier import GroupBarrier

QUERY = RewardQuery("what is 2 + 3 ?")


class RecordingScorer:
    """Rewards each rollout with the number in its response, and records the groups."""

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


def test_rollouts_get_their_own_reward() -> None:
    async def run() -> list[Reward]:
        barrier = GroupBarrier(scorer, wait_s=60)
        return await asyncio.gather(*(barrier.submit("q", 3, QUERY, rollout(n)) for n in (7, 8, 9)))

    scorer = RecordingScorer()
    assert [reward.value for reward in asyncio.run(run())] == [7, 8, 9]
    assert [len(group.rollouts) for group in scorer.groups] == [3]


def test_group_waits_for_its_last_rollout() -> None:
    async def run() -> None:
        barrier = GroupBarrier(scorer, wait_s=60)
        first = asyncio.create_task(barrier.submit("q", 2, QUERY, rollout(1)))
        await asyncio.sleep(0)  # run the task up to its wait
        assert not first.done()
        assert barrier.waiting == 1
        await barrier.submit("q", 2, QUERY, rollout(2))
        assert (await first).value == 1
        assert barrier.waiting == 0

    scorer = RecordingScorer()
    asyncio.run(run())


@pytest.mark.parametrize("leaves_first", [True, False])
def test_group_shrinks_when_a_rollout_leaves(leaves_first: bool) -> None:
    async def run() -> Reward:
        barrier = GroupBarrier(scorer, wait_s=60)
        if leaves_first:
            barrier.leave("q", 2)
        task = asyncio.create_task(barrier.submit("q", 2, QUERY, rollout(1)))
        await asyncio.sleep(0)
        if not leaves_first:
            barrier.leave("q", 2)
        return await task

    scorer = RecordingScorer()
    reward = asyncio.run(run())
    assert reward.group_size == 1
    assert reward.short


def test_empty_group_is_not_scored() -> None:
    async def run() -> int:
        barrier = GroupBarrier(scorer, wait_s=60)
        barrier.leave("q", 2)
        barrier.leave("q", 2)
        await asyncio.sleep(0)
        return barrier.waiting

    scorer = RecordingScorer()
    assert asyncio.run(run()) == 0
    assert scorer.groups == []


def test_timed_out_group_is_short_and_late_rollouts_form_a_group() -> None:
    async def run() -> list[Reward]:
        barrier = GroupBarrier(scorer, wait_s=0.05)
        early = asyncio.create_task(barrier.submit("q", 3, QUERY, rollout(1)))
        assert (await early).short
        late = await asyncio.gather(*(barrier.submit("q", 3, QUERY, rollout(n)) for n in (2, 3)))
        return [early.result(), *late]

    scorer = RecordingScorer()
    assert [reward.value for reward in asyncio.run(run())] == [1, 2, 3]
    assert [(len(group.rollouts), group.expected) for group in scorer.groups] == [(1, 3), (2, 3)]


def test_failure_reaches_each_rollout_of_the_group() -> None:
    async def run() -> list[object]:
        barrier = GroupBarrier(RecordingScorer(ValueError("the service is gone")), wait_s=60)
        submitted = (barrier.submit("q", 2, QUERY, rollout(n)) for n in range(2))
        return list(await asyncio.gather(*submitted, return_exceptions=True))

    assert [str(outcome) for outcome in asyncio.run(run())] == ["the service is gone"] * 2


def test_cancelled_rollout_does_not_cancel_its_group() -> None:
    async def run() -> Reward:
        barrier = GroupBarrier(scorer, wait_s=60)
        cancelled = asyncio.create_task(barrier.submit("q", 2, QUERY, rollout(1)))
        await asyncio.sleep(0)
        cancelled.cancel()
        return await barrier.submit("q", 2, QUERY, rollout(2))

    scorer = RecordingScorer()
    assert asyncio.run(run()).value == 2


@given(order=st.permutations([group for group in range(12) for _ in range(4)]))
@settings(max_examples=25, deadline=None)
def test_groups_are_complete_in_any_order(order: list[int]) -> None:
    async def run() -> list[Reward]:
        barrier = GroupBarrier(scorer, wait_s=60)
        submitted = (barrier.submit(f"q{group}", 4, QUERY, rollout(index)) for index, group in enumerate(order))
        return await asyncio.gather(*submitted)

    scorer = RecordingScorer()
    assert [reward.value for reward in asyncio.run(run())] == list(range(len(order)))
    assert [len(group.rollouts) for group in scorer.groups] == [4] * 12
