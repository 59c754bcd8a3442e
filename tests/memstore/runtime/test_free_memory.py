"""Tests of returning free memory to the system."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from memstore.runtime.free_memory import return_free_memory

BLOCKS, BYTES = 4000, 50_000


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_freed_blocks_leave_the_process() -> None:
    blocks = [b"x" * BYTES for _ in range(BLOCKS)]
    kept = blocks[-1]  # the last block of the heap keeps the C library from shrinking it by itself
    full = _resident_bytes()
    del blocks
    return_free_memory()
    assert _resident_bytes() < full - BLOCKS * BYTES // 2
    assert len(kept) == BYTES


def _resident_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS"))
