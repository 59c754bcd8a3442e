"""A client that sends expensive requests delays another client by less than the budget of one group."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from memstore.runtime.fair_queue import CpuAccount
from memstore.runtime.processes import WorkerPool
from memstore_rl.rewards.group import GroupScorer
from memstore_rl.rewards.reward import Group
from memstore_rl.rewards.tasks import VerifiedGroup
from memstore_rl.service.batching import QueueFull
from memstore_rl.service.clients import ClientKey, Clients
from memstore_rl.service.service import MAX_VERIFYING, RewardService
from memstore_rl.service.wire import GroupIn, QueryIn, RolloutIn, ScoreRequest
from memstore_rl.verifiers.math import MathVerifier
from memstore_rl.verifiers.standard import Verifiers

GROUP_SECONDS = 2.0


def request(run: str | None, gold: str, *answers: str, text: str = "?") -> ScoreRequest:
    query = QueryIn(text=text, domain="math", gold=gold)
    rollouts = tuple(RolloutIn(answer=answer, run=run) for answer in answers)
    return ScoreRequest(groups=(GroupIn(query=query, rollouts=rollouts, record=False),))


def bomb(number: int) -> ScoreRequest:
    """A group of formulas that burn their CPU limits."""
    answers = [f"9^{{9^{{9^{{{number + 4}}}}}}}+{name}" for name in "abcd"]
    return request("bombs", f"x+{number}", *answers, text=f"bomb {number}")


class Metered(WorkerPool):
    """A pool that notes the CPU seconds of bombs."""

    used = 0.0

    def request(self, line: bytes, timeout_s: float, account: CpuAccount | None = None) -> bytes | None:
        response = super().request(line, timeout_s, account)
        if "9^" in json.loads(line)[1] and response is not None:
            self.used += float(response.split()[1])
        return response


def test_300_bombs_of_a_client_delay_another_client_by_less_than_the_budget_of_a_group(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("memstore_rl.verifiers.math.WorkerPool", Metered)
    verifier = MathVerifier(group_seconds=GROUP_SECONDS, processes=1)
    workers: Any = verifier._workers

    async def run() -> float:
        with GroupScorer(None, mode="oracle", verifiers=Verifiers({"math": verifier})) as scorer:
            service = RewardService(scorer, None)
            service.start()
            bombs = [asyncio.create_task(service.score(bomb(number), "host")) for number in range(300)]
            while workers._queue.waiting < 40:  # the first ones have their threads
                await asyncio.sleep(0.01)
            before = workers.used
            found = await service.score(request("innocent", "x+1", "1+x", "x+2", "x+x", "2"), "host")
            used = float(workers.used - before)
            assert [reward.value for reward in found.rewards[0]] == [1.0, 0.0, 0.0, 0.0]
            assert not any(task.done() for task in bombs[MAX_VERIFYING // 4 :])
            for task in bombs:
                task.cancel()
            await asyncio.to_thread(verifier.close)
            await asyncio.gather(*bombs, return_exceptions=True)
            await service.stop()
            return used

    assert asyncio.run(run()) < GROUP_SECONDS


class Held:
    """A scorer whose verification waits at a gate."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.entered: list[str] = []

    def verify(self, groups: Sequence[Group]) -> list[VerifiedGroup]:
        self.entered.append(groups[0].query.text)
        assert groups[0].query.text == "innocent" or self.gate.wait(200)
        return [VerifiedGroup(group, None, 0.0) for group in groups]  # type: ignore[arg-type]

    def score_verified(self, groups: Sequence[VerifiedGroup]) -> list[list[Any]]:
        return [[] for _ in groups]

    def mark_recorded(self, groups: Sequence[VerifiedGroup], rewards: Sequence[Sequence[Any]]) -> None:
        pass


async def until_sent(service: RewardService, scorer: Held, rollouts: int, entered: int) -> None:
    """Wait until requests with so many rollouts came, and so many are verified. All that may be verified then is."""
    while service._clients.rollouts < rollouts or len(scorer.entered) < entered:
        await asyncio.sleep(0.001)


def test_a_client_holds_a_quarter_of_the_threads() -> None:
    async def run() -> None:
        scorer = Held()
        service = RewardService(scorer, None)
        held = [asyncio.create_task(service._verify(bomb(n), ClientKey("h", frozenset()), 4)) for n in range(300)]
        await until_sent(service, scorer, 1200, MAX_VERIFYING // 4)
        assert len(scorer.entered) == MAX_VERIFYING // 4
        for key in (ClientKey("h", frozenset(["other"])), ClientKey("other", frozenset())):
            await service._verify(request("r", "1", "1", text="innocent"), key, 1)
        scorer.gate.set()
        await asyncio.gather(*held)
        assert len(scorer.entered) == 302
        assert service._clients.rollouts == 0

    asyncio.run(run())


def test_rollouts_of_one_client_do_not_use_up_the_limit_of_another() -> None:
    async def run() -> None:
        scorer = Held()
        service = RewardService(scorer, None, max_waiting=40)
        greedy, other = ClientKey("greedy", frozenset()), ClientKey("other", frozenset())
        held = [asyncio.create_task(service._verify(bomb(n), greedy, 20)) for n in range(2)]
        await until_sent(service, scorer, 40, 2)
        with pytest.raises(QueueFull):
            await service._verify(bomb(3), greedy, 1)
        held += [asyncio.create_task(service._verify(bomb(n), other, 5)) for n in range(2)]
        await until_sent(service, scorer, 50, 4)
        with pytest.raises(QueueFull):
            await service._verify(bomb(6), other, 1)
        scorer.gate.set()
        await asyncio.gather(*held)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("one", "another", "same"),
    [
        (("h", "a"), ("h", "a"), True),
        (("h", "a"), ("h", "b"), False),
        (("h", "a"), ("g", "a"), False),
        (("h", None), ("h", None), True),
        (("h", None), ("h", "a"), False),
    ],
)
def test_a_client_is_a_host_with_its_runs(one: tuple[str, str], another: tuple[str, str], same: bool) -> None:
    keys = [ClientKey.of(request(run, "1", "1"), host) for host, run in (one, another)]
    assert (keys[0] == keys[1]) is same


def test_a_new_client_starts_with_the_least_use_of_the_others() -> None:
    async def run() -> None:
        clients = Clients(8)
        keys = [ClientKey(name, frozenset()) for name in "abc"]
        with contextlib.ExitStack() as open_requests:
            first = open_requests.enter_context(clients.request(keys[0], 1))
            assert first.account.occupied == 0.0
            first.account.note(0, 50.0)
            second = open_requests.enter_context(clients.request(keys[1], 1))
            assert second.account.occupied == 50.0
            second.account.note(0, 20.0)
            third = open_requests.enter_context(clients.request(keys[2], 1))
            assert third.account.occupied == 50.0
            assert open_requests.enter_context(clients.request(keys[1], 3)) is second
            assert clients.rollouts == 6
        with clients.request(keys[1], 1) as back:
            assert back.account.occupied == 0.0

    asyncio.run(run())
