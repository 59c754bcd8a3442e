"""An interruption lost in a finalizer is sent again and ends a blocking read."""

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
OTHER_ERROR = """
from memstore_cli.signals import install_signal_handlers

class Broken:
    def __del__(self):
        raise ValueError("some error")

install_signal_handlers()
Broken()
"""


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_lost_in_a_finalizer_ends_the_program(sent: signal.Signals) -> None:
    command = [sys.executable, "-c", LOST, str(int(sent))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        output = program.stdout.read(), program.stderr.read()  # stdin stays open: only the signal ends it
    assert (program.returncode, *output) == (130, b"", b"")


def test_other_unraisable_errors_are_printed_as_usual() -> None:
    done = subprocess.run([sys.executable, "-c", OTHER_ERROR], capture_output=True, text=True, check=True)
    assert done.stderr.startswith("Exception ignored in: ")
    assert "ValueError: some error" in done.stderr
