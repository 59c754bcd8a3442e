"""What the vector stores share: the names of the collection, opening, and closing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from memstore.checks import check_name
from memstore.errors import InputError


class CollectionStore(ABC):
    """A store of the vectors of one embedder in one namespace."""

    def __init__(self, fingerprint: str, dimension: int, namespace: str) -> None:
        """Keep the names; connects to nothing.

        Raises:
            InputError: the fingerprint or the namespace is not a valid name.
        """
        check_name("fingerprint", fingerprint)
        check_name("namespace", namespace)
        self.fingerprint = fingerprint
        self.dimension = dimension
        self._namespace = namespace

    @abstractmethod
    def _connect(self, create: bool) -> None:
        """Connect, and open the collection; create it if it does not exist and `create` is on."""

    @abstractmethod
    def close(self) -> None:
        """Release the store; calling it again does nothing."""

    def _connected(self, create: bool) -> Self:
        """This store with its collection open; closed if that fails."""
        try:
            self._connect(create)
        except BaseException:
            self.close()
            raise
        return self

    def _refuse_own(self, fingerprint: str) -> None:
        """Refuse to discard the vectors that this store has open."""
        if fingerprint == self.fingerprint:
            raise InputError(f"the vectors of {fingerprint} are in use; open the memory with another embedder first")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
