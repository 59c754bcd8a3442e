"""Batches: what waits is scored together, what is too much is refused, a failure reaches who caused it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from memstore_rl.service.batching import Batcher, Full, Stopping


def go(body: Callable[[], object]) -> None:
    asyncio.run(asyncio.wait_for(body(), 200))  # type: ignore[arg-type]


def doubled(items: list[int]) -> list[int]:
    return [2 * item for item in items]


async def until(happened: threading.Event) -> None:
    """Return when another thread has said so; the event loop goes on meanwhile."""
    assert await asyncio.to_thread(happened.wait, 200)


async def with_batcher(batcher: Batcher[int, int], body: Callable[[], object]) -> None:
    running = asyncio.create_task(batcher.run())
    try:
        await body()  # type: ignore[misc]
    finally:
        batcher.stop()
        await running
        batcher.close()


def test_what_waits_meanwhile_is_one_batch() -> None:
    sizes: list[int] = []
    first = threading.Event()

    def work(items: list[int]) -> list[int]:
        sizes.append(len(items))
        if len(sizes) == 1:
            first.wait(200)
        return doubled(items)

    async def body() -> None:
        batcher = Batcher[int, int](work, max_batch=100, max_waiting=1000)

        async def ask() -> None:
            waiting = [asyncio.create_task(batcher.submit([n, -n], 2)) for n in range(20)]
            await asyncio.sleep(0)
            first.set()
            assert [await one for one in waiting] == [[2 * n, -2 * n] for n in range(20)]

        await with_batcher(batcher, ask)

    go(body)
    assert sizes == [40] or sizes[0] + sizes[1] == 40


def test_a_batch_has_its_limit_and_one_request_may_exceed_it_alone() -> None:
    sizes: list[int] = []

    def work(items: list[int]) -> list[int]:
        sizes.append(len(items))
        return doubled(items)

    async def body() -> None:
        batcher = Batcher[int, int](work, max_batch=4, max_waiting=1000)

        async def ask() -> None:
            await asyncio.gather(*(batcher.submit(list(range(size)), size) for size in (9, 3, 3, 1, 2)))

        await with_batcher(batcher, ask)

    go(body)
    assert sizes == [9, 3, 4, 2]


def test_too_much_is_refused_and_says_when_to_come_again() -> None:
    begun, gate = threading.Event(), threading.Event()

    def work(items: list[int]) -> list[int]:
        begun.set()
        gate.wait(200)
        return doubled(items)

    async def body() -> None:
        batcher = Batcher[int, int](work, max_batch=1, max_waiting=3)

        async def ask() -> None:
            under_way = asyncio.create_task(batcher.submit([1], 1))
            await until(begun)
            waiting = [asyncio.create_task(batcher.submit([n], 1)) for n in range(3)]
            await asyncio.sleep(0)
            with pytest.raises(Full, match=r"again in \d") as refused:
                await batcher.submit([9], 1)
            assert refused.value.retry_after_s > 0
            gate.set()
            assert await asyncio.gather(under_way, *waiting) == [[2], [0], [2], [4]]
            assert await batcher.submit([5] * 50, 50) == [10] * 50  # nothing waits: any size goes

        await with_batcher(batcher, ask)

    go(body)


def test_a_failure_reaches_only_its_cause() -> None:
    def work(items: list[int]) -> list[int]:
        if 13 in items:
            raise ValueError("thirteen")
        return doubled(items)

    async def body() -> None:
        batcher = Batcher[int, int](work, max_batch=100, max_waiting=100)

        async def ask() -> None:
            outcomes = await asyncio.gather(*(batcher.submit([n], 1) for n in (1, 13, 2)), return_exceptions=True)
            assert outcomes[0] == [2]
            assert isinstance(outcomes[1], ValueError)
            assert outcomes[2] == [4]

        await with_batcher(batcher, ask)

    go(body)


def test_stopping_answers_what_waits_and_takes_no_more() -> None:
    async def body() -> None:
        batcher = Batcher[int, int](doubled, max_batch=1, max_waiting=100)
        running = asyncio.create_task(batcher.run())
        waiting = [asyncio.create_task(batcher.submit([n], 1)) for n in range(5)]
        await asyncio.sleep(0)
        batcher.stop()
        with pytest.raises(Stopping):
            await batcher.submit([1], 1)
        await running
        assert [await one for one in waiting] == [[0], [2], [4], [6], [8]]
        batcher.close()

    go(body)


def test_who_went_away_is_not_scored() -> None:
    seen: list[int] = []
    begun, gate = threading.Event(), threading.Event()

    def work(items: list[int]) -> list[int]:
        begun.set()
        gate.wait(200)
        seen.extend(items)
        return doubled(items)

    async def body() -> None:
        batcher = Batcher[int, int](work, max_batch=1, max_waiting=100)

        async def ask() -> None:
            first = asyncio.create_task(batcher.submit([1], 1))
            await until(begun)
            second, third = (asyncio.create_task(batcher.submit([n], 1)) for n in (2, 3))
            await asyncio.sleep(0)
            second.cancel()
            first.cancel()  # under way already: its result is thrown away
            gate.set()
            assert await third == [6]
            assert batcher.waiting == 0

        await with_batcher(batcher, ask)

    go(body)
    assert seen == [1, 3]


def test_the_next_batch_is_worked_on_while_one_is_sealed() -> None:
    second = threading.Event()

    def work(items: list[int]) -> list[int]:
        if 2 in items:
            second.set()
        return doubled(items)

    def seal(results: list[int]) -> list[int]:
        # The first batch is not let go before the second one was worked on.
        assert second.wait(200)
        return [-result for result in results]

    async def body() -> None:
        batcher = Batcher[int, int](work, max_batch=1, max_waiting=100, seal=seal)

        async def ask() -> None:
            assert await asyncio.gather(*(batcher.submit([n], 1) for n in (1, 2, 3))) == [[-2], [-4], [-6]]

        await with_batcher(batcher, ask)

    go(body)


def test_what_cannot_be_sealed_is_not_given_out_and_a_stop_waits_for_it() -> None:
    def seal(results: list[int]) -> list[int]:
        if 4 in results:
            raise OSError("the disk is gone")
        return results

    async def body() -> None:
        batcher = Batcher[int, int](doubled, max_batch=1, max_waiting=100, seal=seal)
        running = asyncio.create_task(batcher.run())
        waiting = [asyncio.create_task(batcher.submit([n], 1)) for n in (1, 2, 3)]
        await asyncio.sleep(0)
        batcher.stop()
        await running
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert outcomes[0] == [2]
        assert isinstance(outcomes[1], OSError)
        assert outcomes[2] == [6]
        batcher.close()

    go(body)
