"""A run that is told to end does so in good order: by Ctrl-C, as asyncio does it, and by SIGTERM in the same way.

A program that handles SIGTERM by raising would raise in the middle of whatever task runs at that instant, and leave the
others without an end. Here the tasks are cancelled first, and the program's own handler is called when they are gone.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Coroutine
from types import FrameType


def run_to_an_end(work: Coroutine[None, None, None]) -> None:
    """`asyncio.run`, with the order above. Where the program leaves SIGTERM alone, so does this."""
    in_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM) if in_main else None
    if not callable(handler):
        asyncio.run(work)
        return
    told: list[FrameType | None] = []

    async def ending() -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def end(number: int, frame: FrameType | None) -> None:
            told.append(frame)
            if not loop.is_closed():
                loop.call_soon_threadsafe(task.cancel)

        signal.signal(signal.SIGTERM, end)
        await work

    try:
        asyncio.run(ending())
    except asyncio.CancelledError:
        if not told:
            raise
    finally:
        signal.signal(signal.SIGTERM, handler)
    if told:
        handler(signal.SIGTERM, told[0])
