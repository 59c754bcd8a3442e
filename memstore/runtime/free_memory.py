"""Return memory that no object uses to the system; allocators keep it otherwise, for their next request."""

from __future__ import annotations

import ctypes
import gc

import pyarrow as pa


def return_free_memory() -> None:
    """Return what Arrow and the C library hold free. The C library does so on request only where it is glibc."""
    gc.collect()
    pa.default_memory_pool().release_unused()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
