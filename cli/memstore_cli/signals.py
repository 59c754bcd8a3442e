"""Handle Ctrl-C and SIGTERM so that they always end the command, even if native code discards the exception.

SIGTERM raises KeyboardInterrupt, as Ctrl-C does. The exception is lost if the handler runs in a finalizer, in a garbage
collector callback, or in the check that LadybugDB makes before a query. Python passes such an exception to
`sys.unraisablehook`; the hook installed here sends the signal again to the main thread a moment later, which also ends
a blocking read. If a library's import is interrupted, the exception may turn into another one, so received signals are
recorded.
"""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType

RESEND_DELAY_S = 0.02
"""Seconds before the signal is sent again; by then, the code that lost the exception has usually returned."""


def install_signal_handlers() -> list[int]:
    """Make Ctrl-C and SIGTERM raise `KeyboardInterrupt` in the main thread, and resend a signal that was lost.

    Returns:
        A list that receives the numbers of the signals as they arrive. A signal that the parent process ignores, as
        `nohup` and background jobs do with Ctrl-C, stays ignored.
    """
    received: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        received.append(number)
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, interrupt)

    previous_hook = sys.unraisablehook

    def hook(unraisable: sys.UnraisableHookArgs) -> None:
        if issubclass(unraisable.exc_type, KeyboardInterrupt) and received:
            main_thread = threading.main_thread().ident
            resend = threading.Timer(RESEND_DELAY_S, signal.pthread_kill, (main_thread, received[-1]))
            resend.daemon = True
            resend.start()
        else:
            previous_hook(unraisable)

    sys.unraisablehook = hook
    return received
