"""An interruption that was lost is sent again and ends a blocking read."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

LOST = """
import signal, sys
from memstore_cli.signals import install_signal_handlers

class Finalized:
    def __del__(self):
        signal.raise_signal(signal.Signals(int(sys.argv[1])))
        print("not reached")

install_signal_handlers()
for _ in range(3):
    Finalized()  # the signal sent again interrupts a later one, or the read
try:
    sys.stdin.read()
except KeyboardInterrupt:
    sys.exit(130)
"""
ELSEWHERE = """
import signal, sys, threading, time
from memstore_cli.signals import install_signal_handlers

def send() -> None:
    # Only this thread is interrupted. The main thread stays in its read, as it does after a signal that arrives just
    # before the read starts.
    main = threading.main_thread().native_id
    while "read" not in open(f"/proc/self/task/{main}/wchan").read() and int(time.monotonic()) < deadline:
        time.sleep(0.01)
    signal.pthread_kill(threading.get_ident(), int(sys.argv[1]))

deadline = int(time.monotonic()) + 1
install_signal_handlers()
threading.Thread(target=send, daemon=True).start()
try:
    sys.stdin.read()
except KeyboardInterrupt:
    sys.exit(130)
"""
OTHER_ERROR = """
from memstore_cli.signals import install_signal_handlers

class Broken:
    def __del__(self):
        raise ValueError("some error")

install_signal_handlers()
Broken()
"""


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("program", [LOST, ELSEWHERE], ids=["in a finalizer", "in another thread"])
def test_an_interruption_that_was_lost_ends_the_program(program: str, sent: signal.Signals) -> None:
    command = [sys.executable, "-c", program, str(int(sent))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as started:
        assert started.stdout is not None
        assert started.stderr is not None
        output = started.stdout.read(), started.stderr.read()  # stdin stays open: only the signal ends it
    assert (started.returncode, *output) == (130, b"", b"")


def test_a_program_without_signals_ends_as_usual() -> None:
    code = "from memstore_cli.signals import install_signal_handlers; install_signal_handlers(); print('done')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("done\n", "")


def test_other_unraisable_errors_are_printed_as_usual() -> None:
    done = subprocess.run([sys.executable, "-c", OTHER_ERROR], capture_output=True, text=True, check=True)
    assert done.stderr.startswith("Exception ignored in: ")
    assert "ValueError: some error" in done.stderr
