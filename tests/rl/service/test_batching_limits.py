"""Batcher: batches of waiting requests, limits of the queue, and failures."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from memstore_rl.service.batching import Batcher, QueueFull, ServiceStopping


def run_async(body: Callable[[], object]) -> None:
    asyncio.run(asyncio.wait_for(body(), 200))  # type: ignore[arg-type]


def double(items: list[int]) -> list[int]:
    return [2 * item for item in items]


async def wait_for(event: threading.Event) -> None:
    """Wait for an event of another thread without blocking the event loop."""
    assert await asyncio.to_thread(event.wait, 200)


async def with_batcher(batcher: Batcher[int, int], body: Callable[[], object]) -> None:
    running = asyncio.create_task(batcher.run())
    try:
        await body()  # type: ignore[misc]
    finally:
        batcher.stop()
        await running
        batcher.close()


def test_waiting_requests_form_one_batch() -> None:
    sizes: list[int] = []
    first = threading.Event()

    def work(items: list[int]) -> list[int]:
        sizes.append(len(items))
        if len(sizes) == 1:
            first.wait(200)
        return double(items)

    async def body() -> None:
        batcher = Batcher[int, int](work, max_batch=100, max_waiting=1000)

        async def ask() -> None:
            waiting = [asyncio.create_task(batcher.submit([n, -n], 2)) for n in range(20)]
            await asyncio.sleep(0)
            first.set()
            assert [await one for one in waiting] == [[2 * n, -2 * n] for n in range(20)]

        await with_batcher(batcher, ask)

    run_async(body)
    assert sizes == [40] or sizes[0] + sizes[1] == 40


def test_batch_limit_holds_except_for_a_single_larger_request() -> None:
    sizes: list[int] = []

    def work(items: list[int]) -> list[int]:
        sizes.append(len(items))
        return double(items)

    async def body() -> None:
        batcher = Batcher[int, int](work, max_batch=4, max_waiting=1000)

        async def ask() -> None:
            await asyncio.gather(*(batcher.submit(list(range(size)), size) for size in (9, 3, 3, 1, 2)))

        await with_batcher(batcher, ask)

    run_async(body)
    assert sizes == [9, 3, 4, 2]


def test_full_queue_rejects_with_retry_time() -> None:
    started, release = threading.Event(), threading.Event()

    def work(items: list[int]) -> list[int]:
        started.set()
        release.wait(200)
        return double(items)

    async def body() -> None:
        batcher = Batcher[int, int](work, max_batch=1, max_waiting=3)

        async def ask() -> None:
            in_progress = asyncio.create_task(batcher.submit([1], 1))
            await wait_for(started)
            waiting = [asyncio.create_task(batcher.submit([n], 1)) for n in range(3)]
            await asyncio.sleep(0)
            with pytest.raises(QueueFull, match=r"retry in \d") as rejected:
                await batcher.submit([9], 1)
            assert rejected.value.retry_after_s > 0
            release.set()
            assert await asyncio.gather(in_progress, *waiting) == [[2], [0], [2], [4]]
            assert await batcher.submit([5] * 50, 50) == [10] * 50  # an empty queue accepts any size

        await with_batcher(batcher, ask)

    run_async(body)


def test_failure_reaches_only_the_request_at_fault() -> None:
    def work(items: list[int]) -> list[int]:
        if 13 in items:
            raise ValueError("thirteen")
        return double(items)

    async def body() -> None:
        batcher = Batcher[int, int](work, max_batch=100, max_waiting=100)

        async def ask() -> None:
            outcomes = await asyncio.gather(*(batcher.submit([n], 1) for n in (1, 13, 2)), return_exceptions=True)
            assert outcomes[0] == [2]
            assert isinstance(outcomes[1], ValueError)
            assert outcomes[2] == [4]

        await with_batcher(batcher, ask)

    run_async(body)


def test_stop_answers_waiting_requests_and_rejects_new_ones() -> None:
    async def body() -> None:
        batcher = Batcher[int, int](double, max_batch=1, max_waiting=100)
        running = asyncio.create_task(batcher.run())
        waiting = [asyncio.create_task(batcher.submit([n], 1)) for n in range(5)]
        await asyncio.sleep(0)
        batcher.stop()
        with pytest.raises(ServiceStopping):
            await batcher.submit([1], 1)
        await running
        assert [await one for one in waiting] == [[0], [2], [4], [6], [8]]
        batcher.close()

    run_async(body)


def test_cancelled_request_is_not_scored() -> None:
    seen: list[int] = []
    started, release = threading.Event(), threading.Event()

    def work(items: list[int]) -> list[int]:
        started.set()
        release.wait(200)
        seen.extend(items)
        return double(items)

    async def body() -> None:
        batcher = Batcher[int, int](work, max_batch=1, max_waiting=100)

        async def ask() -> None:
            first = asyncio.create_task(batcher.submit([1], 1))
            await wait_for(started)
            second, third = (asyncio.create_task(batcher.submit([n], 1)) for n in (2, 3))
            await asyncio.sleep(0)
            second.cancel()
            first.cancel()  # already in progress: its result is discarded
            release.set()
            assert await third == [6]
            assert batcher.waiting == 0

        await with_batcher(batcher, ask)

    run_async(body)
    assert seen == [1, 3]


def test_next_batch_is_scored_during_a_commit() -> None:
    second = threading.Event()

    def work(items: list[int]) -> list[int]:
        if 2 in items:
            second.set()
        return double(items)

    def commit(results: list[int]) -> list[int]:
        # Blocks the commit of the first batch until the second one is being scored.
        assert second.wait(200)
        return [-result for result in results]

    async def body() -> None:
        batcher = Batcher[int, int](work, max_batch=1, max_waiting=100, commit=commit)

        async def ask() -> None:
            assert await asyncio.gather(*(batcher.submit([n], 1) for n in (1, 2, 3))) == [[-2], [-4], [-6]]

        await with_batcher(batcher, ask)

    run_async(body)


def test_failed_commit_returns_no_results_and_stop_waits_for_commits() -> None:
    def commit(results: list[int]) -> list[int]:
        if 4 in results:
            raise OSError("the disk is gone")
        return results

    async def body() -> None:
        batcher = Batcher[int, int](double, max_batch=1, max_waiting=100, commit=commit)
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

    run_async(body)
