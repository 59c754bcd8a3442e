"""Ends processes when the one that started them has ended, however it did: one that is killed cannot do it itself.

vLLM's engine is a process that does not look whether its parent lives. After a `kill -9` it would stay for good, and
with it nearly all memory of a GPU. So a guard, a process of its own, holds the other end of a pipe: the kernel closes
it when the program ends. The guard knows its processes by pidfd, and never ends another that was given the same number.
There are pidfds on Linux alone; elsewhere nothing is guarded.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress


def end_with_this_process(pids: Iterable[int]) -> subprocess.Popen[bytes] | None:
    """Have these processes killed when this one has ended, or lets go of what is returned.

    Returns:
        The guard; None where nothing is guarded.
    """
    guarded = [str(pid) for pid in pids]
    if sys.platform != "linux" or not guarded:
        return None
    # In a session of its own Ctrl-C does not reach it; with stdout it would hold the pipe that a reader waits at.
    return subprocess.Popen(
        [sys.executable, "-m", __name__, *guarded],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )


def main(pids: Sequence[int]) -> None:
    """Wait for the pipe's end, then kill."""
    if sys.platform == "linux":
        held = []
        for pid in pids:
            with suppress(ProcessLookupError):
                held.append(os.pidfd_open(pid))
        sys.stdin.buffer.read()
        for handle in held:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)


if __name__ == "__main__":
    main([int(pid) for pid in sys.argv[1:]])
