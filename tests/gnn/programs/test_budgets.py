"""The CPU time of programs is limited from outside and by group, and outcomes are kept.

CPU seconds and requests are counted; no test depends on wall-clock time.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pytest

from memstore.runtime.fair_queue import CpuAccount
from memstore.runtime.processes import WorkerPool
from memstore_gnn.programs import worker
from memstore_gnn.programs.outcomes import UNKNOWN, Task
from memstore_gnn.programs.worker import outcomes

GOOD = Task("def f(x):\n    return x + 1", "f", ("(1,)",))
BOMBS = {
    "permutations": "import itertools\ndef f(x):\n    return list(itertools.permutations(range(20000)))",
    "combinations": "import itertools\ndef f(x):\n    return list(itertools.combinations(range(20000), 10000))",
    "sum of lists": "def f(x):\n    a = [[0] * 19000] * 19000\n    return len(sum(a, []))",
    "equal trees": "def f(x):\n    a = b = (1,)\n    for i in range(60):\n        a, b = (a, a), (b, b)\n    "
    "return a == b",
    "printed tree": "def f(x):\n    a = [1]\n    for i in range(60):\n        a = [a, a]\n    return repr(a)",
    "hashed tree": "def f(x):\n    a = (1,)\n    for i in range(60):\n        a = (a, a)\n    return hash(a)",
}


class Sent(NamedTuple):
    """A request to a worker, with its response."""

    limit: float
    sources: list[str]
    seconds: float


@pytest.fixture(autouse=True)
def requests(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Sent]]:
    """An empty cache, one worker, short limits, and a list of all requests to it."""
    worker._cache.clear()
    pool = WorkerPool(worker.COMMAND, 1)
    monkeypatch.setattr(worker, "_pool", lambda: pool)
    monkeypatch.setattr(worker, "LIMITS", (0.05, 0.25))
    sent: list[Sent] = []
    request = WorkerPool.request

    def record(self: WorkerPool, line: bytes, timeout_s: float, account: CpuAccount | None = None) -> bytes | None:
        response = request(self, line, timeout_s, account)
        limit, _, tasks = json.loads(line)
        sent.append(Sent(limit, [task[0] for task in tasks], json.loads(response or b"[[], 0, 0]")[2]))
        return response

    monkeypatch.setattr(WorkerPool, "request", record)
    yield sent
    worker._cache.clear()
    pool.close()


def bombs(count: int, name: str = "n") -> list[Task]:
    """Different programs that need more than any limit."""
    return [Task(f"{BOMBS['permutations']}\n{name} = {n}", "f", ("(1,)",)) for n in range(count)]


@pytest.mark.parametrize("source", BOMBS.values(), ids=BOMBS)
def test_one_long_operation_is_killed(source: str, requests: list[Sent]) -> None:
    bomb = Task(source, "f", ("(1,)",))
    assert outcomes([GOOD, bomb, GOOD._replace(name="g")], [0, 0, 0]) == [["2"], [UNKNOWN], ["!NameError"]]
    # A program that is out of memory first is unknown at once.
    assert [one.limit for one in requests if one.sources[0] == source] in ([], [0.25])
    assert sum(one.seconds for one in requests) < 0.05 + 0.25 + 0.1


def test_outcomes_are_kept_by_digest(requests: list[Sent]) -> None:
    bomb = Task(BOMBS["permutations"], "f", ("(1,)",))
    first = outcomes([bomb, GOOD], [0, 0])
    ran = len(requests)
    assert outcomes([GOOD, bomb, GOOD], [3, 4, 5]) == [first[1], first[0], first[1]]
    assert len(requests) == ran
    outcomes([GOOD._replace(arguments=("(2,)",))])  # other calls are another outcome
    assert len(requests) == ran + 1


def test_a_group_has_one_budget(monkeypatch: pytest.MonkeyPatch, requests: list[Sent]) -> None:
    """Bombs use what their group may; good programs of their group and of another one have outcomes."""
    monkeypatch.setattr(worker, "GROUP_SECONDS", 2.0)
    other = GOOD._replace(source=GOOD.source + "\n\nn = 1")
    assert outcomes([*bombs(12), GOOD, other], [0] * 13 + [1]) == [[UNKNOWN]] * 12 + [["2"]] * 2
    assert 2.0 - worker.MIN_SECONDS <= sum(one.seconds for one in requests) < 2.4


def test_outcomes_that_the_budget_decided_are_kept_for_the_group(
    monkeypatch: pytest.MonkeyPatch, requests: list[Sent]
) -> None:
    monkeypatch.setattr(worker, "GROUP_SECONDS", 0.1)
    group = [*bombs(2), GOOD]
    assert outcomes(group, [0, 0, 0]) == [[UNKNOWN]] * 3
    ran = len(requests)
    assert outcomes(group[::-1], [7, 7, 7]) == [[UNKNOWN]] * 3
    assert len(requests) == ran
    assert outcomes([GOOD]) == [["2"]]


def test_a_slow_program_gets_the_next_limit(monkeypatch: pytest.MonkeyPatch, requests: list[Sent]) -> None:
    monkeypatch.setattr(worker, "LIMITS", (1e-6, 20.0))
    monkeypatch.setattr(worker, "GROUP_SECONDS", 40.0)
    body = "for i in range(1500):\n        n += len(('ab' * 9000).replace('ab', 'cd'))"
    slow = Task(f"def f(x):\n    n = 0\n    {body}\n    return n", "f", ("(1,)",))  # slower than a tick of the clock
    assert outcomes([slow] * 2, [0, 0]) == [["27000000"]] * 2
    assert requests[-1].limit == 20.0


def test_a_group_waits_for_a_turn_of_the_others_and_not_for_their_budgets(
    monkeypatch: pytest.MonkeyPatch, requests: list[Sent]
) -> None:
    """Bombs of four groups wait before it; meanwhile they use less CPU time than the budget of one of them."""
    monkeypatch.setattr(worker, "GROUP_SECONDS", 1.0)
    queue, waiting = worker._pool()._queue, threading.Event()
    take = queue._take

    def noted(account: CpuAccount) -> object:
        if queue.waiting >= 3:
            waiting.set()
        return take(account)

    monkeypatch.setattr(queue, "_take", noted)
    with ThreadPoolExecutor(4) as threads:
        running = [threads.submit(outcomes, bombs(4, name), [0] * 4) for name in "abcd"]
        assert waiting.wait(300)
        before = len(requests)
        assert outcomes([GOOD, GOOD._replace(name="g")], [0, 0]) == [["2"], ["!NameError"]]
        used = sum(one.seconds for one in requests[before:] if one.sources[0] != GOOD.source)
        assert used < 1.0
        assert all(future.result() == [[UNKNOWN]] * 4 for future in running)
    total = sum(one.seconds for one in requests)
    assert 3.5 < total < 4.8


def test_a_program_that_loses_its_worker_twice_is_unknown_and_stays_so(
    monkeypatch: pytest.MonkeyPatch, requests: list[Sent]
) -> None:
    request = WorkerPool.request

    def lose(self: WorkerPool, line: bytes, timeout_s: float, account: CpuAccount | None = None) -> bytes | None:
        _, _, tasks = json.loads(line)
        return None if "lost" in tasks[0][0] else request(self, line, timeout_s, account)

    monkeypatch.setattr(WorkerPool, "request", lose)
    lost = GOOD._replace(source=GOOD.source + "  # lost")
    assert outcomes([lost, GOOD], [0, 0]) == [[UNKNOWN], ["2"]]
    monkeypatch.setattr(WorkerPool, "request", request)
    assert outcomes([lost], [0]) == [[UNKNOWN]]


def test_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "CACHED_OUTCOMES", 3)
    outcomes([GOOD._replace(arguments=(f"({n},)",)) for n in range(8)])
    assert len(worker._cache) == 3
