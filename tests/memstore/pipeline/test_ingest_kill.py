"""An ingest that is killed with SIGKILL at random times and run again makes the same memory as an undisturbed one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_killed_ingests_make_the_same_memory_as_an_undisturbed_one() -> None:
    command = [
        sys.executable,
        str(ROOT / "benchmarks" / "killed_ingest.py"),
        "--kills",
        "3",
        "--queries",
        "150",
        "--seed",
        "5",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 kills, 0 memories differ" in done.stdout
