"""The lock of readers and writers: who waits for whom."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from memstore.runtime.shared_lock import SharedLock

LONG_S = 30


def start(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def waiting_writer(lock: SharedLock, order: list[str]) -> threading.Thread:
    """A thread that waits to write."""

    def write() -> None:
        with lock.writing():
            order.append("writer")

    thread = start(write)
    while not lock._waiting:
        pass
    return thread


def test_readers_hold_it_together() -> None:
    lock, both = SharedLock(), threading.Barrier(2)

    def read() -> None:
        with lock.reading():
            both.wait(LONG_S)  # each waits for the other while it holds the lock

    threads = [start(read), start(read)]
    for thread in threads:
        thread.join(LONG_S)
    assert not both.broken
    assert not any(thread.is_alive() for thread in threads)


def test_a_writer_waits_for_readers_and_goes_before_later_ones() -> None:
    lock, order = SharedLock(), list[str]()

    def read_later() -> None:
        with lock.reading():
            order.append("reader")

    with lock.reading():
        writer = waiting_writer(lock, order)
        reader = start(read_later)
        with lock.reading():  # a thread that reads already does not wait for the writer
            order.append("again")
    writer.join(LONG_S)
    reader.join(LONG_S)
    assert order == ["again", "writer", "reader"]


def test_a_writer_may_write_and_read_again_and_keeps_others_out() -> None:
    lock, order = SharedLock(), list[str]()
    with lock.writing():
        writer = waiting_writer(lock, order)
        with lock.writing(), lock.reading():
            order.append("first")
    writer.join(LONG_S)
    assert order == ["first", "writer"]


def test_a_reader_cannot_begin_to_write() -> None:
    lock = SharedLock()
    with lock.reading(), pytest.raises(RuntimeError, match="end the reading first"), lock.writing():
        pass
    with lock.writing():  # it is free again
        pass
