"""A server that is stopped while work in the background goes on."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

from memstore_rl.inspector.ending import SIGNALS, STOPPED, ending

WAITS = """
import signal, threading
from memstore_rl.inspector.ending import ending
with ending():
    print("ending", flush=True)
    threading.Event().wait()
"""


def test_a_second_signal_ends_the_process_at_once() -> None:
    with subprocess.Popen([sys.executable, "-c", WAITS], stdout=-1, stderr=-1, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "ending\n"
        assert "press Ctrl-C again" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(200) == STOPPED


def test_the_handlers_are_put_back_and_nothing_is_said() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with ending():
        assert [signal.getsignal(number) for number in SIGNALS] != before
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_another_thread_leaves_the_handlers_alone() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    seen = []

    def run() -> None:
        with ending():
            seen.extend(signal.getsignal(number) for number in SIGNALS)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == before
