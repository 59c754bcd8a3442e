"""A run that is told to end, by Ctrl-C or by SIGTERM, does so in good order.

A program that handles a signal by raising would raise in the middle of whatever task runs at that instant, and leave
the others without an end; asyncio sees to that only for Ctrl-C, and only where the program has left it to Python. Here
the tasks are cancelled first, and the program's own handler is called when they are gone.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Coroutine
from types import FrameType


def run_to_an_end(work: Coroutine[None, None, None]) -> None:
    """`asyncio.run`, with the order above. A signal that the program ignores or leaves alone stays as it is."""
    in_main = threading.current_thread() is threading.main_thread()
    found = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM) if in_main}
    handlers = {number: handler for number, handler in found.items() if callable(handler)}
    told: list[tuple[int, FrameType | None]] = []

    async def ending() -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def end(number: int, frame: FrameType | None) -> None:
            told.append((number, frame))
            if not loop.is_closed():
                loop.call_soon_threadsafe(task.cancel)

        for number in handlers:
            signal.signal(number, end)
        await work

    try:
        asyncio.run(ending())
    except asyncio.CancelledError:
        if not told:
            raise
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if told:
        first, frame = told[0]
        handlers[signal.Signals(first)](first, frame)
