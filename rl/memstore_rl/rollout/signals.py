"""Run a coroutine and shut it down cleanly on Ctrl-C or SIGTERM.

A signal handler that raises would raise inside whichever task is running and leave the other tasks unfinished. asyncio
prevents this for Ctrl-C only, and only with Python's default handler. Here a signal first cancels the tasks; the
program's own handler runs after they have ended.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Coroutine
from types import FrameType


def run_until_signal(work: Coroutine[None, None, None]) -> None:
    """`asyncio.run` that cancels all tasks before the program's signal handler runs.

    Signals that the program ignores or leaves at their default are not touched.
    """
    in_main = threading.current_thread() is threading.main_thread()
    installed = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM) if in_main}
    handlers = {number: handler for number, handler in installed.items() if callable(handler)}
    received: list[tuple[int, FrameType | None]] = []

    async def cancellable() -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def cancel(number: int, frame: FrameType | None) -> None:
            received.append((number, frame))
            if not loop.is_closed():
                loop.call_soon_threadsafe(task.cancel)

        for number in handlers:
            signal.signal(number, cancel)
        await work

    try:
        asyncio.run(cancellable())
    except asyncio.CancelledError:
        if not received:
            raise
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if received:
        first, frame = received[0]
        handlers[signal.Signals(first)](first, frame)
