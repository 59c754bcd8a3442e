"""Kill child processes when their parent exits for any reason, SIGKILL included.

vLLM's engine process does not check whether its parent is alive. After a `kill -9` of the parent it would keep running
and keep almost all memory of the GPU. The watchdog is a separate process that reads from a pipe; the kernel closes the
pipe when the parent exits. It identifies its targets by pidfd, so it never kills another process that reuses a pid.
pidfds exist on Linux only; on other systems there is no watchdog.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress


def kill_when_parent_exits(pids: Iterable[int]) -> subprocess.Popen[bytes] | None:
    """Start a watchdog that kills these processes when this process exits or drops the returned object.

    Returns:
        The watchdog process; None where there is nothing to watch or pidfds are not available.
    """
    watched = [str(pid) for pid in pids]
    if sys.platform != "linux" or not watched:
        return None
    # A session of its own keeps Ctrl-C away from it; an inherited stdout would keep a reader's pipe open.
    return subprocess.Popen(
        [sys.executable, "-m", __name__, *watched],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )


def main(pids: Sequence[int]) -> None:
    """Wait until the pipe is closed, then kill the processes."""
    if sys.platform == "linux":
        handles = []
        for pid in pids:
            with suppress(ProcessLookupError):
                handles.append(os.pidfd_open(pid))
        sys.stdin.buffer.read()
        for handle in handles:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)


if __name__ == "__main__":
    main([int(pid) for pid in sys.argv[1:]])
