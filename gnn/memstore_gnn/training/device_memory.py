"""A GPU that runs out of memory ends the work with one sentence instead of a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from memstore.errors import ModelError


@contextmanager
def device_memory(work: str) -> Iterator[None]:
    """Raise ModelError where the work (`training`, `scoring 800 rollouts`) does not fit the device's memory."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise ModelError(f"the GPU ran out of memory while {work}; free some of it, or pass --device cpu") from error
