"""The error of a verb that runs out of disk space while it writes to a memory."""

from __future__ import annotations

from contextlib import AbstractContextManager

from memstore.locations.stores import Stores
from memstore.runtime.disk_space import space_errors


def resumable(stores: Stores) -> AbstractContextManager[None]:
    """Raise `StoreFullError` where no space is left; the verb must be one that the next call resumes."""
    return space_errors(
        f"no space left while writing to {stores.location}; free some space and run the same command again: "
        "it resumes where this one stopped"
    )
