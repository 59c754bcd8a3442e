"""kill -9 of an ingest at random instants: run again, it ends with the memory of one that was left in peace."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_killed_ingests_end_as_an_undisturbed_one() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "kills.py"), "--kills", "3", "--queries", "150", "--seed", "5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 kills, 0 memories differ" in done.stdout
