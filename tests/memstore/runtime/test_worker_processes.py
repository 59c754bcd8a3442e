"""Worker processes: deadlines, restarts, memory limit, and the death of the parent."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from memstore.runtime.fair_queue import CpuAccount, FairQueue, charged_to
from memstore.runtime.processes import Worker, WorkerError, WorkerPool

CHILD = """
import os, sys, time
from memstore.runtime.processes import serve

def handle(line):
    word = line.strip()
    if word == "hang":
        while True:
            pass
    if word == "die":
        os._exit(1)
    if word == "grow":
        try:
            bytearray(1 << 31)
        except MemoryError:
            return "no memory"
    return f"{os.getpid()} {word}"

serve(handle, memory_bytes=1 << 30)
"""
COMMAND = [sys.executable, "-c", CHILD]
TIMEOUT_S = 60.0


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker(COMMAND)
    yield made
    made.kill()


def test_worker_answers_several_requests_in_one_process(worker: Worker) -> None:
    responses = [worker.request(word, TIMEOUT_S) for word in (b"a", b"b")]
    assert responses == [f"{worker.pid} {word}".encode() for word in "ab"]


def test_worker_outlives_the_thread_of_its_first_request() -> None:
    pool = WorkerPool(COMMAND, 1)
    try:
        responses = []
        for word in (b"a", b"b", b"c"):
            with ThreadPoolExecutor(1) as threads:
                responses.append(threads.submit(pool.request, word, TIMEOUT_S).result())
        assert [response.split()[1] for response in responses if response] == [b"a", b"b", b"c"]
        assert [worker.starts for worker in pool.workers] == [1]
    finally:
        pool.close()


@pytest.mark.parametrize(("request_line", "timeout_s"), [(b"hang", 0.2), (b"die", TIMEOUT_S)])
def test_worker_that_hangs_or_dies_is_replaced(worker: Worker, request_line: bytes, timeout_s: float) -> None:
    worker.request(b"a", TIMEOUT_S)
    first = worker.pid
    assert worker.request(request_line, timeout_s) is None
    assert worker.pid is None
    assert worker.request(b"b", TIMEOUT_S) == f"{worker.pid} b".encode()
    assert worker.pid != first


def test_memory_limit_holds(worker: Worker) -> None:
    assert worker.request(b"grow", TIMEOUT_S) == b"no memory"


def test_worker_that_does_not_start_is_an_error() -> None:
    with pytest.raises(WorkerError, match="no such luck"):
        Worker([sys.executable, "-c", "raise SystemExit('no such luck')"]).request(b"1", 1.0)


def test_pool_answers_several_threads_and_close_kills_its_workers() -> None:
    pool = WorkerPool(COMMAND, 2)
    with ThreadPoolExecutor(5) as threads:
        responses = list(threads.map(lambda n: pool.request(str(n).encode(), TIMEOUT_S), range(20)))
    assert [response.split()[1] for response in responses if response] == [str(n).encode() for n in range(20)]
    pids = [worker.pid for worker in pool.workers if worker.pid]
    pool.close()
    pool.close()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux signals the death of a parent")
def test_busy_worker_ends_when_its_parent_is_killed() -> None:
    script = f"""
import threading
from memstore.runtime.processes import Worker
worker = Worker({COMMAND!r})
worker.request(b"a", 60.0)
print(worker.pid, flush=True)
worker.request(b"hang", 600.0)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = os.pidfd_open(int(parent.stdout.readline()))
        try:
            os.kill(parent.pid, signal.SIGKILL)
            assert select.select([child], [], [], TIMEOUT_S)[0]
        finally:
            os.close(child)


class Gated:
    """Stands in for a worker: notes the order of its requests and waits at a gate."""

    def __init__(self) -> None:
        self.order: list[bytes] = []
        self.gate = threading.Event()

    def request(self, line: bytes, timeout_s: float) -> bytes:
        self.order.append(line)
        assert self.gate.wait(TIMEOUT_S)
        return line


def test_free_worker_serves_the_group_that_used_the_least() -> None:
    # A group of bombs queues first; another group's request waits for the one that runs, not for all of them.
    pool, worker = WorkerPool(COMMAND, 1), Gated()
    pool._queue = FairQueue([worker])  # type: ignore[list-item]
    bombs, innocent = CpuAccount(occupied=1.0), CpuAccount()
    with ThreadPoolExecutor(10) as threads:
        running = [threads.submit(pool.request, b"bomb", 1.0, bombs) for _ in range(8)]
        wait_until(lambda: pool._queue.waiting == 7)
        running.append(threads.submit(pool.request, b"innocent", 1.0, innocent))
        wait_until(lambda: pool._queue.waiting == 8)
        worker.gate.set()
        assert [future.result() for future in running] == [b"bomb"] * 8 + [b"innocent"]
    assert worker.order[:2] == [b"bomb", b"innocent"]
    assert (bombs.running, innocent.running) == (0, 0)


def test_groups_that_used_about_the_same_are_served_in_the_order_of_their_creation() -> None:
    # Groups that come later, however many, do not overtake one that has used next to nothing.
    old, new, greedy = CpuAccount(occupied=0.05), CpuAccount(), CpuAccount(occupied=0.5)
    assert sorted([greedy, new, old], key=lambda account: account.turn) == [old, new, greedy]


def test_new_groups_of_a_client_do_not_overtake_another_client() -> None:
    # One client sends groups, each with an account of its own that has used nothing; another client sends one group.
    pool, worker = WorkerPool(COMMAND, 1), Gated()
    pool._queue = FairQueue([worker])  # type: ignore[list-item]
    bomber, other = CpuAccount(occupied=1.0), CpuAccount()

    def send(line: bytes, client: CpuAccount) -> None:
        with charged_to(client):
            pool.request(line, 1.0, CpuAccount())

    with ThreadPoolExecutor(20) as threads:
        running = [threads.submit(send, b"bomb", bomber) for _ in range(16)]
        wait_until(lambda: pool._queue.waiting == 15)
        running.append(threads.submit(send, b"innocent", other))
        wait_until(lambda: pool._queue.waiting == 16)
        worker.gate.set()
        for future in running:
            future.result()
    assert worker.order[:2] == [b"bomb", b"innocent"]
    assert len(worker.order) == 17
    assert (bomber.running, other.running) == (0, 0)
    assert CpuAccount().client is None


def test_closing_the_queue_returns_what_is_lent_and_refuses_what_waits() -> None:
    queue: FairQueue[str] = FairQueue(["item"])
    lent, back = threading.Event(), threading.Event()

    def hold() -> str | None:
        with queue.borrow(CpuAccount()) as item:
            lent.set()
            assert back.wait(TIMEOUT_S)
            return item

    def ask() -> str | None:
        with queue.borrow(CpuAccount()) as item:
            return item

    with ThreadPoolExecutor(3) as threads:
        held = threads.submit(hold)
        assert lent.wait(TIMEOUT_S)
        refused = threads.submit(ask)
        wait_until(lambda: queue.waiting == 1)
        closed = threads.submit(queue.close)
        assert refused.result(TIMEOUT_S) is None
        back.set()
        assert (held.result(TIMEOUT_S), closed.result(TIMEOUT_S)) == ("item", ["item"])


def wait_until(condition: Callable[[], bool]) -> None:
    turn = threading.Event()
    for _ in range(20_000):
        if condition():
            return
        turn.wait(0.01)
    raise AssertionError("the condition never held")


FORKING = """
from memstore.runtime.processes import run_forked, serve

def work(word):
    if word == "c":
        return str(9 ** (9 ** 9) % 2)
    if word == "loop":
        while True:
            pass
    if word == "raise":
        raise KeyboardInterrupt
    return word

def handle(line):
    ran = run_forked(work, line.split(), seconds=0.2, total=TOTAL, turn=TURN)
    return f"{' '.join(ran.results)} {ran.killed:d}{ran.crashed:d} {ran.cpu_seconds < 0.5:d}"

serve(handle, memory_bytes=1 << 30)
"""


def forking(total: float = 9.0, turn: float = 9.0) -> Worker:
    return Worker([sys.executable, "-c", FORKING.replace("TOTAL", str(total)).replace("TURN", str(turn))])


def test_forked_work_is_killed_at_its_cpu_limit_and_the_worker_goes_on() -> None:
    worker = forking()
    try:
        lines = (b"a b", b"a c b", b"loop", b"a raise b", b"b")
        responses = [worker.request(line, TIMEOUT_S) for line in lines]
        assert responses == [b"a b 00 1", b"a 10 1", b" 10 1", b"a 01 1", b"b 00 1"]
        assert worker.starts == 1
    finally:
        worker.kill()


@pytest.mark.parametrize(("total", "turn", "response"), [(0.1, 9.0, b"a 10 1"), (9.0, 0.0, b" 00 1")])
def test_forked_work_ends_with_its_total_or_its_turn(total: float, turn: float, response: bytes) -> None:
    worker = forking(total, turn)
    try:
        assert worker.request(b"a loop", TIMEOUT_S) == response
    finally:
        worker.kill()


def test_a_worker_that_another_thread_kills_gives_none(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the end of the wait and the read, the other thread closes the streams."""
    assert worker.request(b"word", TIMEOUT_S) is not None
    wait = select.select

    def killed_after_the_wait(*arguments: object) -> object:
        found = wait(*arguments)  # type: ignore[call-overload]
        killer = threading.Thread(target=worker.kill)
        killer.start()
        killer.join()
        return found

    monkeypatch.setattr(select, "select", killed_after_the_wait)
    assert worker.request(b"word", TIMEOUT_S) is None
    monkeypatch.undo()
    assert worker.request(b"word", TIMEOUT_S) is not None
