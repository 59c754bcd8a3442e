"""Worker threads that each run whole batches on one core.

By default torch splits every operation over all cores and synchronises after it, which is slow for small operations
and on a shared machine. One batch per thread avoids this, and the results do not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch


@contextmanager
def single_core_threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """Thread pool in which torch uses one core per thread; pending tasks are cancelled on exit.

    The number of torch threads is a process-wide setting, so two of these contexts must not overlap.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    pool = ThreadPoolExecutor(count, thread_name_prefix="embed")
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)
