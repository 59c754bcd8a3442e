"""An interruption ends the command, also where it comes while native code asks for it and throws the answer away.

SIGTERM interrupts as Ctrl-C does. A handler's `KeyboardInterrupt` is lost where nobody can take it: in a finalizer, in
a callback of the collector, in the check that LadybugDB makes before a query. Python hands such an exception to
`sys.unraisablehook`; from there the signal is sent once more, a moment later and to the main thread, so that a read
that blocks there ends too. And it turns into something else where a library's import is cut short: so what came is
noted.
"""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType

MOMENT_S = 0.02
"""After this the code that lost the exception has most likely returned; if not, it is sent again."""


def heed_interruptions() -> list[int]:
    """Make Ctrl-C and SIGTERM raise `KeyboardInterrupt` in the main thread, and one that was lost come again.

    Returns:
        The numbers of the signals as they come; empty until then. A signal that the caller's parent ignores, as `nohup`
        and shells' background jobs do with Ctrl-C, stays ignored.
    """
    heard: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        heard.append(number)
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, interrupt)

    shown = sys.unraisablehook

    def hook(unraisable: sys.UnraisableHookArgs) -> None:
        if issubclass(unraisable.exc_type, KeyboardInterrupt) and heard:
            again = threading.Timer(MOMENT_S, signal.pthread_kill, (threading.main_thread().ident, heard[-1]))
            again.daemon = True
            again.start()
        else:
            shown(unraisable)

    sys.unraisablehook = hook
    return heard
