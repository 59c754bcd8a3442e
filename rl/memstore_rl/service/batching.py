"""Dynamic batching: requests that arrive while one batch is scored form the next batch.

An idle service scores a request at once; no request is delayed to fill a batch. Scoring runs in one thread. The
`commit` step (writing results to disk before they are returned) runs in a second thread while the next batch is scored.

The queue is bounded: a request that does not fit is rejected at once with `QueueFull`. If a batch fails, its requests
are scored one by one, so that only the request at fault fails. If a commit fails, its whole batch fails.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_UNCOMMITTED = 2
"""Maximum number of batches that wait for `commit`. Scoring pauses at the limit, for example while a disk hangs."""


class QueueFull(Exception):
    """The queue is full; retry after `retry_after_s`."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"the service is busy; retry in {retry_after_s:.1f} s")
        self.retry_after_s = retry_after_s


class ServiceStopping(Exception):
    """The service is shutting down and accepts no more requests."""


@dataclass
class _Request(Generic[Item, Result]):
    items: Sequence[Item]
    weight: int
    answer: asyncio.Future[list[Result]]


class Batcher(Generic[Item, Result]):
    """Collects requests into batches for a function that runs in its own thread."""

    def __init__(
        self,
        work: Callable[[list[Item]], list[Result]],
        *,
        max_batch: int,
        max_waiting: int,
        commit: Callable[[list[Result]], list[Result]] | None = None,
        on_batch: Callable[[int, float], None] | None = None,
    ) -> None:
        """Create a batcher for one event loop; it works while `run` is running.

        Args:
            work: maps items to results, one each, in order.
            max_batch: maximum weight of one call of `work`; a single larger request is still processed.
            max_waiting: maximum total weight of waiting requests.
            commit: final step for the results of a batch before they are returned; returns the results.
            on_batch: called with the weight of each batch and the seconds it took.
        """
        self._work = work
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._commit = commit
        self._on_batch = on_batch
        self._requests: deque[_Request[Item, Result]] = deque()
        self._waiting = 0
        self._seconds_per_weight = 0.01
        self._arrived = asyncio.Event()
        self._stopping = False
        self._work_thread = ThreadPoolExecutor(1, thread_name_prefix="memstore-score")
        self._commit_thread = ThreadPoolExecutor(1, thread_name_prefix="memstore-commit")
        self._commits: set[asyncio.Task[None]] = set()

    @property
    def waiting(self) -> int:
        """Total weight of waiting requests, without the batch being scored."""
        return self._waiting

    async def submit(self, items: Sequence[Item], weight: int) -> list[Result]:
        """Queue a request and return its results.

        Args:
            weight: weight of the request towards the limits.

        Raises:
            QueueFull, ServiceStopping: the request was not accepted.
        """
        if self._stopping:
            raise ServiceStopping("the service is shutting down; retry when it is back")
        if self._waiting and self._waiting + weight > self._max_waiting:
            raise QueueFull(max(0.1, self._seconds_per_weight * self._waiting))
        request = _Request[Item, Result](items, weight, asyncio.get_running_loop().create_future())
        self._requests.append(request)
        self._waiting += weight
        self._arrived.set()
        return await request.answer

    async def run(self) -> None:
        """Process batches until `stop` is called and the queue is empty."""
        while not (self._stopping and not self._requests):
            await self._arrived.wait()
            self._arrived.clear()
            while batch := self._next_batch():
                await self._process(batch)
        await asyncio.gather(*self._commits)

    def stop(self) -> None:
        """Accept no more requests; `run` returns once the waiting ones are answered."""
        self._stopping = True
        self._arrived.set()

    def close(self) -> None:
        """Stop the threads; call it after `run` has returned."""
        self._work_thread.shutdown()
        self._commit_thread.shutdown()

    def _next_batch(self) -> list[_Request[Item, Result]]:
        batch: list[_Request[Item, Result]] = []
        weight = 0
        while self._requests and (not batch or weight + self._requests[0].weight <= self._max_batch):
            request = self._requests.popleft()
            self._waiting -= request.weight
            if not request.answer.done():  # False if the client disconnected
                batch.append(request)
                weight += request.weight
        return batch

    async def _process(self, batch: list[_Request[Item, Result]]) -> None:
        loop = asyncio.get_running_loop()
        started, weight = loop.time(), sum(request.weight for request in batch)
        try:
            results = await loop.run_in_executor(self._work_thread, self._work, [i for r in batch for i in r.items])
        except Exception as error:
            if len(batch) == 1:
                _resolve(batch[0], error)
            else:
                for request in batch:
                    await self._process([request])
            return
        seconds = loop.time() - started
        self._seconds_per_weight += 0.2 * (seconds / max(1, weight) - self._seconds_per_weight)
        if self._on_batch is not None:
            self._on_batch(weight, seconds)
        if self._commit is None:
            _resolve_all(batch, results)
            return
        task = asyncio.create_task(self._finish_commit(batch, self._commit, results))
        self._commits.add(task)
        task.add_done_callback(self._commits.discard)
        while len(self._commits) >= MAX_UNCOMMITTED:
            await asyncio.wait(self._commits, return_when=asyncio.FIRST_COMPLETED)

    async def _finish_commit(
        self,
        batch: list[_Request[Item, Result]],
        commit: Callable[[list[Result]], list[Result]],
        results: list[Result],
    ) -> None:
        try:
            _resolve_all(batch, await asyncio.get_running_loop().run_in_executor(self._commit_thread, commit, results))
        except Exception as error:
            for request in batch:
                _resolve(request, error)


def _resolve_all(batch: list[_Request[Item, Result]], results: list[Result]) -> None:
    start = 0
    for request in batch:
        _resolve(request, results[start : start + len(request.items)])
        start += len(request.items)


def _resolve(request: _Request[Item, Result], outcome: list[Result] | Exception) -> None:
    with contextlib.suppress(asyncio.InvalidStateError):  # the client disconnected
        if isinstance(outcome, Exception):
            request.answer.set_exception(outcome)
        else:
            request.answer.set_result(outcome)
