"""Threads that each keep to one core.

Many small operations follow each other here. Were each of them shared among the cores, as torch does by itself, all
would wait at its end for a core that another process has taken; with a larger piece of work a thread, nobody waits.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import torch

_AT_MOST = 8
"""More could not be kept busy: one thread takes what they make."""


@dataclass(frozen=True)
class Threads:
    """A pool and the number of its threads."""

    pool: ThreadPoolExecutor
    count: int


@contextmanager
def one_core_threads() -> Iterator[Threads]:
    """As many threads as torch was told to use; inside them, and in the caller's, torch keeps to one core meanwhile."""
    before = torch.get_num_threads()
    count = min(before, _AT_MOST)
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(count, thread_name_prefix="links") as pool:
            yield Threads(pool, count)
    finally:
        torch.set_num_threads(before)
