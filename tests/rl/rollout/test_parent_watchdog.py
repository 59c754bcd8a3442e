"""The watchdog kills its targets when their parent exits or is killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from memstore.testing.processes import wait_for_exit

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="pidfds exist on Linux only")

PROGRAM = """
import subprocess, sys
from memstore_rl.rollout.parent_watchdog import kill_when_parent_exits
sleepers = [subprocess.Popen(["sleep", "600"], stdout=subprocess.DEVNULL) for _ in range(3)]
watchdog = kill_when_parent_exits([sleeper.pid for sleeper in sleepers[:2]])
sleepers[1].kill()
sleepers[1].wait()
print(watchdog.pid, *[sleeper.pid for sleeper in sleepers], flush=True)
sys.stdin.readline()
"""


def is_running(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("how", ["killed", "exited"])
def test_targets_end_with_their_parent(how: str) -> None:
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert program.stdout is not None
    watchdog, sleeper, _, unwatched = map(int, program.stdout.readline().split())
    try:
        assert is_running(watchdog)
        assert is_running(sleeper)
        if how == "killed":
            program.kill()
        program.communicate("\n" if how == "exited" else None)
        wait_for_exit(sleeper, watchdog)
        assert is_running(unwatched)
    finally:
        subprocess.run(["kill", "-9", str(unwatched)], check=False)
