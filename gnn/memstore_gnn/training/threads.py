"""Training keeps to one core.

Its operations are small: shared among cores, each would wait at its end for a core that another process has taken (ten
times as long on a busy machine), and sums would be split differently from run to run, so that one seed gave two models.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_core() -> Iterator[None]:
    """torch's own operations run on one core meanwhile; serves as a decorator too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
