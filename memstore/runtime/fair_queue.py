"""Share workers fairly among clients: the one that has used them least is served first.

`FairQueue` lends the workers, `CpuAccount` counts what a group of requests or a client has used, and `charged_to` sets
the client of the accounts that are created in its context.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Generic, TypeVar

TURN_SECONDS = 0.1
"""Clients and groups whose use of the workers differs by less are served in the order in which they came."""

Item = TypeVar("Item")

_numbers = itertools.count()
_client: ContextVar[CpuAccount | None] = ContextVar("memstore_client", default=None)


@contextmanager
def charged_to(client: CpuAccount) -> Iterator[None]:
    """Count what the groups of this context use for a client, too: accounts that are created in it belong to it."""
    token = _client.set(client)
    try:
        yield
    finally:
        _client.reset(token)


@dataclass(eq=False)
class CpuAccount:
    """What the requests of one group, or of one client with several groups, have used."""

    seconds: float = 0.0
    """CPU seconds, see `charge`."""
    occupied: float = 0.0
    """Seconds that workers were busy with the group, added by the pool."""
    running: int = 0
    """Requests that a worker is handling now."""
    client: CpuAccount | None = field(default_factory=_client.get)
    """Account of the client that the group belongs to, see `charged_to`; None: the group is a client by itself."""
    number: int = field(default_factory=lambda: next(_numbers))
    """Order of creation."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def charge(self, seconds: float) -> None:
        """Add CPU seconds. The caller knows them from the responses."""
        with self._lock:
            self.seconds += seconds

    def note(self, running: int, occupied: float = 0.0) -> None:
        """Note that workers began or ended requests of the group, which were busy for some seconds."""
        with self._lock:
            self.running += running
            self.occupied += occupied
        if self.client is not None:
            self.client.note(running, occupied)

    @property
    def turn(self) -> tuple[int, ...]:
        """Whose turn it is: the smallest. The use of the client counts first, then that of the group."""
        return *(self.client or self)._use, *self._use

    @property
    def _use(self) -> tuple[int, int]:
        """Busy seconds in steps, with a second for each running request, and the order of creation."""
        return int((self.occupied + self.running) / TURN_SECONDS), self.number


@dataclass(eq=False)
class _Ticket(Generic[Item]):
    """A request that waits for an item or has one."""

    account: CpuAccount
    item: Item | None = None
    lent_at: float = 0.0


class FairQueue(Generic[Item]):
    """Lends a fixed set of items, such as workers, to clients and their groups in turn. Thread-safe.

    If all are lent, the next one that comes back goes to the waiting client that has used the least, within it to the
    group that has used the least, and to the oldest of these. A client whose requests are short therefore waits for
    one request of each other client at most, however many they have. The same holds for the groups of a client.
    """

    def __init__(self, items: Iterable[Item]) -> None:
        self._idle = list(items)
        self._count = len(self._idle)
        self._waiting: list[_Ticket[Item]] = []
        self._changed = threading.Condition()
        self._closed = False

    @property
    def waiting(self) -> int:
        """Number of requests that wait for an item."""
        return len(self._waiting)

    @contextmanager
    def borrow(self, account: CpuAccount) -> Iterator[Item | None]:
        """Wait for an item; None if the queue is closed."""
        ticket = _Ticket[Item](account)
        try:
            yield self._take(ticket)
        finally:
            self._give_back(ticket)

    def _take(self, ticket: _Ticket[Item]) -> Item | None:
        with self._changed:
            self._waiting.append(ticket)
            while ticket.item is None and not self._closed:
                self._lend()
                if ticket.item is None:
                    self._changed.wait()
            return ticket.item

    def _lend(self) -> None:
        """Give idle items to those whose turn it is.

        Those who wait do this, not the one who brings an item back: its next request may come before they wake.
        """
        while self._idle and self._waiting:
            ticket = min(self._waiting, key=lambda one: one.account.turn)
            self._waiting.remove(ticket)
            ticket.item, ticket.lent_at = self._idle.pop(), time.monotonic()
            ticket.account.note(1)
            self._changed.notify_all()

    def _give_back(self, ticket: _Ticket[Item]) -> None:
        with self._changed:
            if ticket in self._waiting:
                self._waiting.remove(ticket)
            if ticket.item is not None:
                ticket.account.note(-1, time.monotonic() - ticket.lent_at)
                self._idle.append(ticket.item)
            self._changed.notify_all()

    def close(self) -> list[Item]:
        """Lend nothing more, and return all items once they are back."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: len(self._idle) == self._count)
            return list(self._idle)
