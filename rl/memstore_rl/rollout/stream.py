"""What a task hands over, in batches: as much as is there whenever the other side is ready, and no more than fits.

The one that hands over waits while there is no room, so neither side runs away from the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeAlias, TypeVar

Item = TypeVar("Item")
Put: TypeAlias = Callable[[Item], Awaitable[None]]


async def batches(work: Callable[[Put[Item]], Awaitable[None]], room: int) -> AsyncGenerator[list[Item], None]:
    """Run `work` beside the caller; yield what it puts, in order, then raise what it raised.

    What was put before an error is yielded before the error is raised. Leaving the loop cancels `work`.
    """
    items: asyncio.Queue[Any] = asyncio.Queue(room)
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
