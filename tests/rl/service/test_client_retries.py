"""Clients retry while the service is down or busy, and raise at the deadline."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest

from memstore.errors import InputError
from memstore.testing.servers.ports import free_port
from memstore_rl.rewards.reward import Group, Reward, RewardQuery, Rollout
from memstore_rl.service.client import AsyncRewardClient, RewardClient, ServiceError

Served = Callable[..., AbstractContextManager[str]]
Score = Callable[..., list[list[Reward]]]


def score_sync(endpoint: str, groups: list[Group], **options: Any) -> list[list[Reward]]:
    with RewardClient(endpoint, **options) as client:
        return client.score_groups(groups)


def score_async(endpoint: str, groups: list[Group], **options: Any) -> list[list[Reward]]:
    async def score() -> list[list[Reward]]:
        async with AsyncRewardClient(endpoint, **options) as client:
            return await client.score_groups(groups)

    return asyncio.run(score())


both = pytest.mark.parametrize("score", [score_sync, score_async])


@both
def test_client_returns_the_rewards(score: Score, served: Served, make_group: Callable[..., Group]) -> None:
    with served(token="t-1") as endpoint:
        rewards = score(endpoint + "/", [make_group("a?", (1, 2)), make_group("b?", (3,))], token="t-1")
    assert [[reward.value for reward in group] for group in rewards] == [[1.0, 2.0], [3.0]]
    assert rewards[0][0].probability == 0.5


@both
def test_client_waits_for_a_service_that_starts_later(
    score: Score, served: Served, make_group: Callable[..., Group]
) -> None:
    port, found = free_port(), []
    thread = threading.Thread(
        target=lambda: found.extend(score(f"http://127.0.0.1:{port}", [make_group()], deadline_s=200))
    )
    thread.start()
    time.sleep(0.5)
    with served(port=port):
        thread.join(200)
    assert [reward.value for reward in found[0]] == [3.0, 5.0]


@both
def test_service_that_stays_down_is_an_error_at_the_deadline(score: Score, make_group: Callable[..., Group]) -> None:
    endpoint, started = f"http://127.0.0.1:{free_port()}", time.monotonic()
    with pytest.raises(ServiceError, match=rf"{endpoint} did not answer within 1 s .*memstore serve") as error:
        score(endpoint, [make_group()], deadline_s=1)
    assert time.monotonic() - started < 200
    assert "\n" not in str(error.value)


@both
def test_service_that_hangs_is_an_error_at_the_deadline(score: Score, make_group: Callable[..., Group]) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,  # accepts the connection and never responds
        pytest.raises(ServiceError, match="did not answer within 1 s"),
    ):
        score(f"http://127.0.0.1:{silent.getsockname()[1]}", [make_group()], deadline_s=1)


@both
def test_busy_service_is_retried(score: Score, served: Served, scorer: Any, make_group: Callable[..., Group]) -> None:
    scorer.pause_s = 0.1
    with served(max_batch=1, max_waiting=1) as endpoint:
        outcomes: list[float | None] = []

        def one(length: int) -> None:
            [[reward]] = score(endpoint, [make_group("a?", (length,))], deadline_s=200)
            outcomes.append(reward.value)

        threads = [threading.Thread(target=one, args=(length,)) for length in range(1, 9)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(200)
    assert sorted(value or 0 for value in outcomes) == [1, 2, 3, 4, 5, 6, 7, 8]


@both
def test_permanent_rejection_is_not_retried(
    score: Score, served: Served, scorer: Any, make_group: Callable[..., Group]
) -> None:
    scorer.broken = "broken"
    with served(token="t-1") as endpoint:
        with pytest.raises(InputError, match="'broken' cannot be scored"):
            score(endpoint, [make_group("broken")], token="t-1")
        assert scorer.batches == [1]
        with pytest.raises(ServiceError, match="rejected this client: the token is missing or wrong") as rejected:
            score(endpoint, [make_group()], token="wrong-token")
        assert "wrong-token" not in str(rejected.value)


@both
def test_invalid_groups_are_rejected_before_sending(score: Score) -> None:
    good = Group(RewardQuery("?"), [Rollout(response="x")])
    for groups, message in (
        ([good, Group(RewardQuery("?"), [])], r"groups\.1\.rollouts is empty; send at least one$"),
        ([], "groups is empty; send at least one$"),
        ([Group(RewardQuery(" "), good.rollouts)], r"groups\.0\.query\.text is blank; give a text$"),
        (
            [Group(RewardQuery("?"), [Rollout(thinking="x")])],
            r"groups\.0\.rollouts\.0: a rollout needs a response, or an answer$",
        ),
    ):
        with pytest.raises(InputError, match=f"these groups cannot be sent: {message}"):
            score("http://127.0.0.1:9", groups)


@both
@pytest.mark.parametrize(
    ("endpoint", "options", "message"),
    [
        ("127.0.0.1:9", {}, "'127.0.0.1:9' is not an address of a reward service; use one like http://"),
        ("http://", {}, "'http://' is not an address"),
        ("http://127.0.0.1:port", {}, "is not an address"),
        (None, {}, "None is not an address"),
        ("http://127.0.0.1:9", {"token": "schlüssel"}, "the token holds white space or a character that is not ASCII"),
        ("http://127.0.0.1:9", {"token": "right\n"}, "the token holds white space"),
        ("http://127.0.0.1:9", {"token": ""}, "the token is empty"),
        ("http://127.0.0.1:9", {"deadline_s": 0}, "a deadline of 0 s leaves no time"),
    ],
)
def test_invalid_client_settings_are_rejected(
    score: Score, endpoint: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message) as error:
        score(endpoint, [Group(RewardQuery("?"), [Rollout(response="x")])], **options)
    assert "schlüssel" not in str(error.value)


def test_server_that_is_no_reward_service(make_group: Callable[..., Group]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:

        def answer() -> None:
            connection, _ = other.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

        threading.Thread(target=answer).start()
        with pytest.raises(ServiceError, match="is not a reward service"):
            score_sync(f"http://127.0.0.1:{other.getsockname()[1]}", [make_group()])
