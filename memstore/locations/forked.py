"""What stands for a store in a forked child, where no store can be used."""

from __future__ import annotations

from typing import NoReturn

from memstore.errors import StoreError
from memstore.locations.location import Location


class ForkedStore:
    """Stands for a store in a forked child; every use is an error."""

    def __init__(self, location: Location) -> None:
        """Keep the location, for the message."""
        self._location = location

    def __getattr__(self, name: str) -> NoReturn:
        self.refuse()

    def refuse(self) -> NoReturn:
        """Raise the error of a store that a fork has copied."""
        raise StoreError(
            f"the memory {self._location} was opened before this process was forked; open it after the fork, read a "
            "snapshot of it, or start workers with the method `spawn`"
        )
