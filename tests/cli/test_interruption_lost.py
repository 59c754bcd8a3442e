"""An interruption that was raised where nobody can take it comes again, and ends a read that blocks."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

LOST = """
import signal, sys
from memstore_cli.interruption import heed_interruptions

class Finalized:
    def __del__(self):
        signal.raise_signal(signal.Signals(int(sys.argv[1])))
        print("not reached")

heed_interruptions()
for _ in range(3):
    Finalized()  # the first interrupts one of the next ones, or the read
try:
    sys.stdin.read()
except KeyboardInterrupt:
    sys.exit(130)
"""
OTHERS = """
from memstore_cli.interruption import heed_interruptions

class Broken:
    def __del__(self):
        raise ValueError("told as ever")

heed_interruptions()
Broken()
"""


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_one_that_a_finalizer_lost_ends_the_program(sent: signal.Signals) -> None:
    command = [sys.executable, "-c", LOST, str(int(sent))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        said = program.stdout.read(), program.stderr.read()  # stdin stays open: only the signal ends it
    assert (program.returncode, *said) == (130, b"", b"")


def test_what_else_is_lost_is_shown_as_python_does() -> None:
    done = subprocess.run([sys.executable, "-c", OTHERS], capture_output=True, text=True, check=True)
    assert done.stderr.startswith("Exception ignored in: ")
    assert "ValueError: told as ever" in done.stderr
