"""Independent calculations in threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(calculate: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Call a function for each item, one thread a core; return the results in order.

    It pays where the time is spent outside of Python, as in linear algebra. Results do not depend on the number of
    cores as long as the calls are independent. The first exception is raised once the running calls have ended.
    """
    cores = min(os.cpu_count() or 1, len(items))
    if cores < 2:
        return [calculate(item) for item in items]
    with ThreadPoolExecutor(cores) as pool:
        return list(pool.map(calculate, items))
