"""End a server while work in the background is still running."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
PATIENCE_S = 1.0
"""Seconds before a person is told what the process waits for."""
STOPPED = 130
"""Exit code of a process that was stopped by a signal, as of the commands."""


@contextmanager
def ending() -> Iterator[None]:
    """Wait for work in the background; meanwhile Ctrl-C or SIGTERM ends the process at once.

    A thread cannot be interrupted, and the memory must not be closed under it. What was labelled is written already, so
    nothing is lost with the process. Outside of the main thread, which alone gets signals, this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _leave) for number in SIGNALS}
    notice = threading.Timer(PATIENCE_S, _tell)
    notice.daemon = True
    notice.start()
    try:
        yield
    finally:
        notice.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(number: int, frame: FrameType | None) -> None:
    os._exit(STOPPED)


def _tell() -> None:
    print("waiting for work in the background; press Ctrl-C again to end at once", file=sys.stderr, flush=True)
