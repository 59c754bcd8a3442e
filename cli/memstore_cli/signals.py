"""Handle Ctrl-C and SIGTERM so that they always end the command.

SIGTERM raises KeyboardInterrupt, as Ctrl-C does. There are two ways to lose one:

- Native code discards the exception. That happens if the handler runs in a finalizer, in a garbage collector callback,
  or in the check that LadybugDB makes before a query. Python passes such an exception to `sys.unraisablehook`.
- The signal arrives just before the main thread blocks in a system call, or in another thread. Python runs the handler
  in the main thread once the call returns, and nothing interrupts the call.

In both cases the signal is sent again to the main thread. If a library's import is interrupted, the exception may turn
into another one, so received signals are recorded.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from types import FrameType

RESEND_DELAY_S = 0.02
"""Seconds before the signal is sent again; by then, the code that lost the exception has usually returned."""
HANDLER_DELAY_S = 0.2
"""Seconds that the main thread has to run the handler before the signal is sent again."""


def install_signal_handlers() -> list[int]:
    """Make Ctrl-C and SIGTERM raise `KeyboardInterrupt` in the main thread, and resend a signal that was lost.

    Returns:
        A list that receives the numbers of the signals as they arrive. A signal that the parent process ignores, as
        `nohup` and background jobs do with Ctrl-C, stays ignored.
    """
    received: list[int] = []
    handled = threading.Event()

    def interrupt(number: int, frame: FrameType | None) -> None:
        received.append(number)
        handled.set()
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, interrupt)

    previous_hook = sys.unraisablehook

    def hook(unraisable: sys.UnraisableHookArgs) -> None:
        if issubclass(unraisable.exc_type, KeyboardInterrupt) and received:
            resend = threading.Timer(RESEND_DELAY_S, _send, (received[-1],))
            resend.daemon = True
            resend.start()
        else:
            previous_hook(unraisable)

    sys.unraisablehook = hook
    arrivals, wake_up = os.pipe()
    os.set_blocking(wake_up, False)
    signal.set_wakeup_fd(wake_up, warn_on_full_buffer=False)
    threading.Thread(target=_resend_unhandled, args=(arrivals, interrupt, handled), daemon=True).start()
    return received


def _resend_unhandled(arrivals: int, handler: object, handled: threading.Event) -> None:
    """Send a signal again until its handler has run.

    Args:
        arrivals: file descriptor to which Python writes the number of each signal as it arrives.
        handler: the handler to wait for; signals with another one are not sent again.
        handled: set by the handler.
    """
    while numbers := os.read(arrivals, 512):
        if signal.getsignal(numbers[-1]) is not handler:
            continue
        if not handled.wait(HANDLER_DELAY_S):
            _send(numbers[-1])  # which writes its number to the pipe
            continue
        handled.clear()
        # What arrived before the handler ran is handled too.
        os.set_blocking(arrivals, False)
        with contextlib.suppress(BlockingIOError):
            os.read(arrivals, 512)
        os.set_blocking(arrivals, True)


def _send(number: int) -> None:
    main_thread = threading.main_thread().ident
    if main_thread is not None:
        signal.pthread_kill(main_thread, number)
