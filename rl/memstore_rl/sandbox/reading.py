"""Bounded reads of what a sandboxed process writes."""

from __future__ import annotations

import os
import select
import time
from typing import NamedTuple

_PIECE = 1 << 16


class ReadResult(NamedTuple):
    """What was read until the end of the file or a limit."""

    content: bytes
    late: bool
    """The deadline passed first."""
    long: bool
    """There was more than the maximum."""


def read_until(file: int, deadline: float, max_bytes: int) -> ReadResult:
    """Read `file` until its end, the time.monotonic() `deadline`, or more than `max_bytes`."""
    content = bytearray()
    poll = select.poll()
    poll.register(file, select.POLLIN | select.POLLHUP)
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            return ReadResult(bytes(content), late=True, long=False)
        piece = os.read(file, _PIECE)
        if not piece:
            return ReadResult(bytes(content), late=False, long=False)
        content += piece
        if len(content) > max_bytes:
            return ReadResult(bytes(content[:max_bytes]), late=False, long=True)
