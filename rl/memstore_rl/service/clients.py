"""Share the verification of requests fairly between clients.

A client is a peer host with the runs that its rollouts name. Worker processes serve the client that has kept workers
busy for the shortest time (`memstore.runtime.fair_queue.FairQueue`). A new or returning client starts with the shortest
time of the present clients. So its earlier use does not count, and it does not stay ahead of the others for long.

A client holds a quarter of the verification threads at most. Its further requests wait without a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from memstore.runtime.fair_queue import CpuAccount
from memstore_rl.service.wire import ScoreRequest

SHARE = 4
"""A client holds at most 1/SHARE of the verification threads, and may always use 1/SHARE of the waiting rollouts."""


class ClientKey(NamedTuple):
    """Identity of a client."""

    host: str
    runs: frozenset[str | None]

    @classmethod
    def of(cls, request: ScoreRequest, host: str) -> ClientKey:
        """The client that sent a request."""
        return cls(host, frozenset(rollout.run for group in request.groups for rollout in group.rollouts))


class Client:
    """A client with requests in verification."""

    def __init__(self, threads: int, used: float) -> None:
        self.account = CpuAccount(occupied=used)
        self.threads = asyncio.Semaphore(threads)
        """Verification threads that it may still take."""
        self.requests = 0
        self.rollouts = 0
        """Rollouts of its requests."""


class Clients:
    """The clients that have requests in verification. Use it from one event loop."""

    def __init__(self, threads: int) -> None:
        """Share this number of verification threads."""
        self._threads = max(1, threads // SHARE)
        self._active: dict[ClientKey, Client] = {}

    @property
    def rollouts(self) -> int:
        """Rollouts of all requests in verification."""
        return sum(client.rollouts for client in self._active.values())

    def rollouts_of(self, key: ClientKey) -> int:
        """Rollouts of a client's requests in verification."""
        return self._active[key].rollouts if key in self._active else 0

    @contextmanager
    def request(self, key: ClientKey, rollouts: int) -> Iterator[Client]:
        """Count a request with its rollouts while it is verified."""
        if key not in self._active:
            least = min((other.account.occupied for other in self._active.values()), default=0.0)
            self._active[key] = Client(self._threads, least)
        client = self._active[key]
        client.requests += 1
        client.rollouts += rollouts
        try:
            yield client
        finally:
            client.requests -= 1
            client.rollouts -= rollouts
            if not client.requests:
                del self._active[key]
