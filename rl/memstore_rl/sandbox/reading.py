"""Reading from a file that a sandboxed process writes, with an end to it in bytes and seconds."""

from __future__ import annotations

import os
import select
import time
from typing import NamedTuple

_PIECE = 1 << 16


class Read(NamedTuple):
    """What came until the other side closed, or one of the ends was reached."""

    content: bytes
    late: bool
    """The time was over first."""
    long: bool
    """There was more than may be."""


def read_until(file: int, deadline: float, most: int) -> Read:
    """Read `file` until its end, time.monotonic() `deadline` or `most` bytes."""
    content = bytearray()
    poll = select.poll()
    poll.register(file, select.POLLIN | select.POLLHUP)
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            return Read(bytes(content), late=True, long=False)
        piece = os.read(file, _PIECE)
        if not piece:
            return Read(bytes(content), late=False, long=False)
        content += piece
        if len(content) > most:
            return Read(bytes(content[:most]), late=False, long=True)
