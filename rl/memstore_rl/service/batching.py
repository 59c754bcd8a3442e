"""Dynamic batching: what waits while one batch is scored is the next batch.

No request is held back to fill a batch: an idle service scores the first one at once, a busy one scores together what
came meanwhile, up to a limit. Scoring is one thread's work, the event loop's is to wait. What has to happen to results
before they may leave (`seal`: they go to the disk) is a second thread's: meanwhile the next batch is scored.

When more waits than may, the next request is refused at once (`Full`): a queue that only grows would answer everyone
too late. A batch that fails is scored again request by request, so that the failure reaches the one that caused it. A
batch that cannot be sealed fails as a whole.
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

MOST_UNSEALED = 2
"""Batches that may wait to be sealed: a disk that hangs stops the scoring, too."""


class Full(Exception):
    """More waits than may; come again after `retry_after_s`."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"the service is busy; send the request again in {retry_after_s:.1f} s")
        self.retry_after_s = retry_after_s


class Stopping(Exception):
    """The service is going down and takes no more requests."""


@dataclass
class _Request(Generic[Item, Result]):
    items: Sequence[Item]
    weight: int
    answer: asyncio.Future[list[Result]]


class Batcher(Generic[Item, Result]):
    """Gathers requests into batches for a function that runs in a thread of its own."""

    def __init__(
        self,
        work: Callable[[list[Item]], list[Result]],
        *,
        max_batch: int,
        max_waiting: int,
        seal: Callable[[list[Result]], list[Result]] | None = None,
        on_batch: Callable[[int, float], None] | None = None,
    ) -> None:
        """Use it from one event loop; `run` must be going.

        Args:
            work: results of items, one each, in their order.
            max_batch: no more weight than this in one call of `work`, unless one request alone has more.
            max_waiting: the most weight that may wait.
            seal: what is left to do with the results of a batch before they are given out; returns them.
            on_batch: told the weight of each batch and the seconds it took.
        """
        self._work = work
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._seal = seal
        self._on_batch = on_batch
        self._requests: deque[_Request[Item, Result]] = deque()
        self._waiting = 0
        self._pace_s = 0.01
        self._came = asyncio.Event()
        self._stopping = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="memstore-score")
        self._sealer = ThreadPoolExecutor(1, thread_name_prefix="memstore-seal")
        self._sealing: set[asyncio.Task[None]] = set()

    @property
    def waiting(self) -> int:
        """Weight that waits, the batch in work left out."""
        return self._waiting

    async def submit(self, items: Sequence[Item], weight: int) -> list[Result]:
        """Wait for the results of a request.

        Args:
            weight: what it counts for against the limits.

        Raises:
            Full, Stopping: it was not taken.
        """
        if self._stopping:
            raise Stopping("the service is stopping; send the request again when it is back")
        if self._waiting and self._waiting + weight > self._max_waiting:
            raise Full(max(0.1, self._pace_s * self._waiting))
        request = _Request[Item, Result](items, weight, asyncio.get_running_loop().create_future())
        self._requests.append(request)
        self._waiting += weight
        self._came.set()
        return await request.answer

    async def run(self) -> None:
        """Work until `stop`, and then until nothing waits."""
        while not (self._stopping and not self._requests):
            await self._came.wait()
            self._came.clear()
            while batch := self._next():
                await self._finish(batch)
        await asyncio.gather(*self._sealing)

    def stop(self) -> None:
        """Take no more requests; `run` returns when those that wait are answered."""
        self._stopping = True
        self._came.set()

    def close(self) -> None:
        """Let go of the threads, after `run` has returned."""
        self._thread.shutdown()
        self._sealer.shutdown()

    def _next(self) -> list[_Request[Item, Result]]:
        batch: list[_Request[Item, Result]] = []
        weight = 0
        while self._requests and (not batch or weight + self._requests[0].weight <= self._max_batch):
            request = self._requests.popleft()
            self._waiting -= request.weight
            if not request.answer.done():  # a client that went away no longer waits
                batch.append(request)
                weight += request.weight
        return batch

    async def _finish(self, batch: list[_Request[Item, Result]]) -> None:
        loop = asyncio.get_running_loop()
        started, weight = loop.time(), sum(request.weight for request in batch)
        try:
            results = await loop.run_in_executor(self._thread, self._work, [i for r in batch for i in r.items])
        except Exception as error:
            if len(batch) == 1:
                _give(batch[0], error)
            else:
                for request in batch:
                    await self._finish([request])
            return
        seconds = loop.time() - started
        self._pace_s += 0.2 * (seconds / max(1, weight) - self._pace_s)
        if self._on_batch is not None:
            self._on_batch(weight, seconds)
        if self._seal is None:
            _give_all(batch, results)
            return
        task = asyncio.create_task(self._sealed(batch, self._seal, results))
        self._sealing.add(task)
        task.add_done_callback(self._sealing.discard)
        while len(self._sealing) >= MOST_UNSEALED:
            await asyncio.wait(self._sealing, return_when=asyncio.FIRST_COMPLETED)

    async def _sealed(
        self,
        batch: list[_Request[Item, Result]],
        seal: Callable[[list[Result]], list[Result]],
        results: list[Result],
    ) -> None:
        try:
            _give_all(batch, await asyncio.get_running_loop().run_in_executor(self._sealer, seal, results))
        except Exception as error:
            for request in batch:
                _give(request, error)


def _give_all(batch: list[_Request[Item, Result]], results: list[Result]) -> None:
    start = 0
    for request in batch:
        _give(request, results[start : start + len(request.items)])
        start += len(request.items)


def _give(request: _Request[Item, Result], outcome: list[Result] | Exception) -> None:
    with contextlib.suppress(asyncio.InvalidStateError):  # the client went away meanwhile
        if isinstance(outcome, Exception):
            request.answer.set_exception(outcome)
        else:
            request.answer.set_result(outcome)
