"""Threads that each run whole batches on one core.

torch would share every small operation of a batch among the cores and wait at its end, also for a core that another
process has taken. A batch a thread keeps all cores busy without waiting, and its bits cannot depend on their number.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch


@contextmanager
def one_core_each(count: int) -> Iterator[ThreadPoolExecutor]:
    """A pool of `count` threads in which torch keeps to one core; what is left in it at the end is cancelled.

    torch's number of threads belongs to the process: two of these must not overlap.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    pool = ThreadPoolExecutor(count, thread_name_prefix="embed")
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)
