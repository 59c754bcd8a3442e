"""A bounded queue between a producer task and its consumer, read in batches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeAlias, TypeVar

Item = TypeVar("Item")
Put: TypeAlias = Callable[[Item], Awaitable[None]]


async def batches(work: Callable[[Put[Item]], Awaitable[None]], max_items: int) -> AsyncGenerator[list[Item], None]:
    """Run `work` as a task; yield the items that it puts, in order, then raise its error if it failed.

    Each batch holds all items that are waiting. The producer waits while `max_items` are waiting. Items put before an
    error are yielded before the error is raised. Closing the generator cancels `work`.
    """
    items: asyncio.Queue[Any] = asyncio.Queue(max_items)
    end = object()

    async def run() -> None:
        try:
            await work(items.put)
        except Exception:
            await items.put(end)
            raise
        await items.put(end)

    task = asyncio.create_task(run())
    try:
        ended = False
        while not ended:
            batch = [await items.get()]
            with suppress(asyncio.QueueEmpty):
                while True:
                    batch.append(items.get_nowait())
            ended = batch[-1] is end
            if ended:
                batch.pop()
            if batch:
                yield batch
        await task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await task
