"""Waiting for processes that are not children, in tests of crashes."""

from __future__ import annotations

import os
import select
from contextlib import ExitStack, suppress


def wait_for_exit(*pids: int, seconds: float = 200.0) -> None:
    """Wait until all of these processes have ended; a zombie has. Linux only: it waits for pidfds.

    Raises:
        TimeoutError: one still runs after `seconds`.
    """
    with ExitStack() as opened:
        for pid in pids:
            with suppress(ProcessLookupError):
                handle = os.pidfd_open(pid)
                opened.callback(os.close, handle)
                poll = select.poll()
                poll.register(handle, select.POLLIN)
                if not poll.poll(1000 * seconds):
                    raise TimeoutError(f"process {pid} still runs after {seconds:g} s")
