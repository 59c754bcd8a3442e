"""A guard outlives a program that is killed, and ends what the program had started."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there are pidfds on Linux alone")

PROGRAM = """
import subprocess, sys
from memstore_rl.rollout.parent_watchdog import end_with_this_process
sleepers = [subprocess.Popen(["sleep", "600"], stdout=subprocess.DEVNULL) for _ in range(3)]
guard = end_with_this_process([sleeper.pid for sleeper in sleepers[:2]])
sleepers[1].kill()
sleepers[1].wait()
print(guard.pid, *[sleeper.pid for sleeper in sleepers], flush=True)
sys.stdin.readline()
"""


def lives(pid: int) -> bool:
    """Does it run? A zombie that nobody has asked for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("how", ["killed", "ended"])
def test_what_is_guarded_ends_with_the_program(how: str) -> None:
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert program.stdout is not None
    guard, sleeper, _, unguarded = map(int, program.stdout.readline().split())
    try:
        assert lives(guard)
        assert lives(sleeper)
        if how == "killed":
            program.kill()
        program.communicate("\n" if how == "ended" else None)
        deadline = time.monotonic() + 200
        while (lives(sleeper) or lives(guard)) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not lives(sleeper)
        assert not lives(guard)
        assert lives(unguarded)
    finally:
        subprocess.run(["kill", "-9", str(unguarded)], check=False)
