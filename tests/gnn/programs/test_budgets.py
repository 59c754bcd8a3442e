"""The CPU time of programs is limited from outside and by group, and outcomes are kept. Requests are counted."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

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


@pytest.fixture(autouse=True)
def requests(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[float, str]]]:
    """An empty cache, short limits, and the limit and source of every request to a worker."""
    worker._cache.clear()
    monkeypatch.setattr(worker, "SLICE_SECONDS", 0.125)
    monkeypatch.setattr(worker, "CPU_SECONDS", 0.25)
    sent: list[tuple[float, str]] = []
    request_all = WorkerPool.request_all

    def record(self: WorkerPool, lines: list[bytes], timeout_s: float) -> list[bytes | None]:
        sent.extend(tuple(json.loads(line)[:2]) for line in lines)
        return request_all(self, lines, timeout_s)

    monkeypatch.setattr(WorkerPool, "request_all", record)
    yield sent
    worker._cache.clear()


@pytest.mark.parametrize("source", BOMBS.values(), ids=BOMBS)
def test_one_long_operation_is_killed(source: str, requests: list[tuple[float, str]]) -> None:
    bomb = Task(source, "f", ("(1,)",))
    assert outcomes([GOOD, bomb, GOOD._replace(name="g")], [0, 0, 0]) == [["2"], [UNKNOWN], ["!NameError"]]
    # A program that is out of memory first is unknown at once.
    assert [limit for limit, text in requests if text == source] in ([0.125], [0.125, 0.25])


def test_outcomes_are_kept_by_digest(requests: list[tuple[float, str]]) -> None:
    bomb = Task(BOMBS["permutations"], "f", ("(1,)",))
    first = outcomes([bomb, GOOD], [0, 0])
    ran = len(requests)
    assert outcomes([GOOD, bomb, GOOD], [3, 4, 5]) == [first[1], first[0], first[1]]
    assert len(requests) == ran
    outcomes([GOOD._replace(arguments=("(2,)",))])  # other calls are another outcome
    assert len(requests) == ran + 1


def test_a_group_has_one_budget(monkeypatch: pytest.MonkeyPatch, requests: list[tuple[float, str]]) -> None:
    """Four bombs reach the first limit, two of them the second; good programs are not affected."""
    monkeypatch.setattr(worker, "GROUP_SECONDS", 1.0)
    bombs = [Task(f"{BOMBS['permutations']}\nn = {n}", "f", ("(1,)",)) for n in range(4)]
    other = GOOD._replace(source=GOOD.source + "\n\nn = 1")
    assert outcomes([*bombs, GOOD, other], [0, 0, 0, 0, 0, 1]) == [[UNKNOWN]] * 4 + [["2"]] * 2
    assert sorted(limit for limit, _ in requests) == [0.125] * 6 + [0.25] * 2
    before = len(requests)
    assert outcomes(bombs, [0] * 4) == [[UNKNOWN]] * 4
    assert len(requests) == before


def test_a_used_up_budget_leaves_the_rest_of_its_group_unknown_for_once(
    monkeypatch: pytest.MonkeyPatch, requests: list[tuple[float, str]]
) -> None:
    monkeypatch.setattr(worker, "GROUP_SECONDS", 0.25)
    bombs = [Task(f"{BOMBS['permutations']}\nn = {n}", "f", ("(1,)",)) for n in range(2)]
    assert outcomes([*bombs, GOOD], [0, 0, 0]) == [[UNKNOWN]] * 3
    assert len(requests) == 2
    assert outcomes([GOOD]) == [["2"]]  # it did not run, so nothing was kept


def test_a_slow_program_gets_the_second_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "SLICE_SECONDS", 1e-6)
    monkeypatch.setattr(worker, "CPU_SECONDS", 20.0)
    monkeypatch.setattr(worker, "GROUP_SECONDS", 40.0)
    loop = Task("def f(x):\n    n = 0\n    for i in range(9000):\n        n += i\n    return n", "f", ("(1,)",))
    assert outcomes([loop]) == [["40495500"]]


def test_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "CACHED_OUTCOMES", 3)
    outcomes([GOOD._replace(arguments=(f"({n},)",)) for n in range(8)])
    assert len(worker._cache) == 3
