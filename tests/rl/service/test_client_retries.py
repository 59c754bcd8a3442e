"""Clients go on by themselves while the service is away or busy, and give up loudly when the deadline has passed."""

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
from memstore.testing.ports import free_port
from memstore_rl.rewards.reward import Group, Query, Reward, Rollout
from memstore_rl.service.client import AsyncRewardClient, RewardClient, ServiceError

Served = Callable[..., AbstractContextManager[str]]
Ask = Callable[..., list[list[Reward]]]


def ask_sync(endpoint: str, groups: list[Group], **options: Any) -> list[list[Reward]]:
    with RewardClient(endpoint, **options) as client:
        return client.score_groups(groups)


def ask_async(endpoint: str, groups: list[Group], **options: Any) -> list[list[Reward]]:
    async def ask() -> list[list[Reward]]:
        async with AsyncRewardClient(endpoint, **options) as client:
            return await client.score_groups(groups)

    return asyncio.run(ask())


both = pytest.mark.parametrize("ask", [ask_sync, ask_async])


@both
def test_rewards_are_those_of_the_service(ask: Ask, served: Served, make_group: Callable[..., Group]) -> None:
    with served(token="t-1") as endpoint:
        rewards = ask(endpoint + "/", [make_group("a?", (1, 2)), make_group("b?", (3,))], token="t-1")
    assert [[reward.value for reward in group] for group in rewards] == [[1.0, 2.0], [3.0]]
    assert rewards[0][0].probability == 0.5


@both
def test_a_service_that_comes_later_is_waited_for(ask: Ask, served: Served, make_group: Callable[..., Group]) -> None:
    port, found = free_port(), []
    thread = threading.Thread(
        target=lambda: found.extend(ask(f"http://127.0.0.1:{port}", [make_group()], deadline_s=200))
    )
    thread.start()
    time.sleep(0.5)
    with served(port=port):
        thread.join(200)
    assert [reward.value for reward in found[0]] == [3.0, 5.0]


@both
def test_a_service_that_stays_away_is_one_sentence(ask: Ask, make_group: Callable[..., Group]) -> None:
    endpoint, started = f"http://127.0.0.1:{free_port()}", time.monotonic()
    with pytest.raises(ServiceError, match=rf"{endpoint} did not answer within 1 s .*memstore serve") as error:
        ask(endpoint, [make_group()], deadline_s=1)
    assert time.monotonic() - started < 200  # it does not go on
    assert "\n" not in str(error.value)


@both
def test_one_that_hangs_is_given_up_at_the_deadline(ask: Ask, make_group: Callable[..., Group]) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,  # takes the connection and never answers
        pytest.raises(ServiceError, match="did not answer within 1 s"),
    ):
        ask(f"http://127.0.0.1:{silent.getsockname()[1]}", [make_group()], deadline_s=1)


@both
def test_a_busy_service_is_asked_again(ask: Ask, served: Served, scorer: Any, make_group: Callable[..., Group]) -> None:
    scorer.pause_s = 0.1
    with served(max_batch=1, max_waiting=1) as endpoint:
        outcomes: list[float | None] = []

        def one(length: int) -> None:
            [[reward]] = ask(endpoint, [make_group("a?", (length,))], deadline_s=200)
            outcomes.append(reward.value)

        threads = [threading.Thread(target=one, args=(length,)) for length in range(1, 9)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(200)
    assert sorted(value or 0 for value in outcomes) == [1, 2, 3, 4, 5, 6, 7, 8]


@both
def test_what_is_refused_for_good_is_not_asked_again(
    ask: Ask, served: Served, scorer: Any, make_group: Callable[..., Group]
) -> None:
    scorer.broken = "broken"
    with served(token="t-1") as endpoint:
        with pytest.raises(InputError, match="'broken' cannot be scored"):
            ask(endpoint, [make_group("broken")], token="t-1")
        assert scorer.batches == [1]
        with pytest.raises(ServiceError, match="refused this client: the token is missing or wrong") as refused:
            ask(endpoint, [make_group()], token="wrong-token")
        assert "wrong-token" not in str(refused.value)


@both
def test_what_cannot_be_sent_is_told_before_it_is(ask: Ask) -> None:
    good = Group(Query("?"), [Rollout(response="x")])
    for groups, says in (
        ([good, Group(Query("?"), [])], r"groups\.1\.rollouts is empty; send at least one$"),
        ([], "groups is empty; send at least one$"),
        ([Group(Query(" "), good.rollouts)], r"groups\.0\.query\.text is blank; it must say something$"),
        (
            [Group(Query("?"), [Rollout(thinking="x")])],
            r"groups\.0\.rollouts\.0: a rollout needs a response, or an answer$",
        ),
    ):
        with pytest.raises(InputError, match=f"these groups cannot be sent to be scored: {says}"):
            ask("http://127.0.0.1:9", groups)


@both
@pytest.mark.parametrize(
    ("endpoint", "options", "says"),
    [
        ("127.0.0.1:9", {}, "'127.0.0.1:9' is no address of a reward service; it looks like http://"),
        ("http://", {}, "'http://' is no address"),
        ("http://127.0.0.1:port", {}, "is no address"),
        (None, {}, "None is no address"),
        ("http://127.0.0.1:9", {"token": "schlüssel"}, "the token holds a blank or a character that is not ASCII"),
        ("http://127.0.0.1:9", {"token": "right\n"}, "the token holds a blank"),
        ("http://127.0.0.1:9", {"token": ""}, "the token is empty"),
        ("http://127.0.0.1:9", {"deadline_s": 0}, "a deadline of 0 s leaves no time"),
    ],
)
def test_a_client_that_could_never_ask_is_not_made(ask: Ask, endpoint: Any, options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says) as told:
        ask(endpoint, [Group(Query("?"), [Rollout(response="x")])], **options)
    assert "schlüssel" not in str(told.value)


def test_something_else_that_answers(make_group: Callable[..., Group]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:

        def answer() -> None:
            connection, _ = other.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

        threading.Thread(target=answer).start()
        with pytest.raises(ServiceError, match="no reward service"):
            ask_sync(f"http://127.0.0.1:{other.getsockname()[1]}", [make_group()])
