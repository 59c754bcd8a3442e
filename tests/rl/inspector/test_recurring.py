"""Values that are computed in the background: when again, how old, and how they end."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from memstore.errors import StoreError
from memstore.labels.answers import AnswerVerdict
from memstore.memory import Memory
from memstore_rl.inspector import recurring
from memstore_rl.inspector.label_queue import LabelQueue
from memstore_rl.inspector.recurring import Recurring
from memstore_rl.inspector.source import MemorySource

from .conftest import make_memory, query_with

LONG_S = 200.0


class Blocked:
    """A computation that waits until the test lets it end."""

    def __init__(self) -> None:
        self.began, self.gate, self.ended = threading.Event(), threading.Event(), False

    def __call__(self, *_: object, **__: object) -> int:
        self.began.set()
        self.gate.wait(LONG_S)
        self.ended = True
        return 7


def test_a_value_is_computed_in_the_background() -> None:
    compute = Blocked()
    value = Recurring(compute, "test")
    first = value.get(0.0)
    assert (first.value, first.running) == (None, True)
    assert compute.began.wait(LONG_S)
    compute.gate.set()
    assert value.get(LONG_S).value == 7


def test_a_failure_is_a_sentence() -> None:
    def fail() -> int:
        raise StoreError("the store is away")

    found = Recurring(fail, "test").get(LONG_S)
    assert (found.value, found.failure) == (None, "the store is away")


def again(value: Recurring[int]) -> int | None:
    """Ask, let what began then end, and ask once more."""
    value.get(LONG_S)
    assert value._thread is not None
    value._thread.join(LONG_S)
    return value.get(LONG_S).value


def test_a_value_is_kept_until_its_source_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recurring, "FRESH_S", -1.0)
    monkeypatch.setattr(recurring, "SHARE", 0.0)
    versions = [1]
    value = Recurring(itertools.count().__next__, "test", lambda: versions[0])
    assert [again(value), again(value)] == [0, 0]
    assert value.get(0.0).as_of == "0 s ago; nothing was written since"
    versions[0] = 2
    value.get(0.0)
    assert again(value) == 1


def test_a_value_whose_source_may_change_unnoticed_is_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recurring, "FRESH_S", -1.0)
    monkeypatch.setattr(recurring, "SHARE", 0.0)
    value = Recurring(itertools.count().__next__, "test")
    assert again(value) != again(value)
    assert not value.get(0.0).current


def test_writing_changes_the_version_of_a_memory_and_reading_does_not(tmp_path: Path) -> None:
    with make_memory(tmp_path) as memory:
        source = MemorySource(memory)
        before = source.version()
        memory.cypher("MATCH (q:Query) RETURN count(*)")
        query = query_with(memory, "Mia has 4")
        assert source.version() == before
        memory.label_answers([AnswerVerdict(query, "8", 1.0)])
        labelled = source.version()
        assert labelled != before
        memory.cypher("MATCH (q:Query) WHERE q.id = $id SET q.gold = '8'", {"id": query}, write=True)
        assert source.version() != labelled


def test_what_is_computed_is_waited_for_at_the_end(looked_at: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    for make in (_recurring, _queue):
        compute = Blocked()
        close, ended = make(looked_at, compute, monkeypatch), list[bool]()
        assert compute.began.wait(LONG_S)

        def end(close: Callable[[], None] = close, compute: Blocked = compute, ended: list[bool] = ended) -> None:
            close()
            ended.append(compute.ended)

        closing = threading.Thread(target=end)
        closing.start()
        compute.gate.set()
        closing.join(LONG_S)
        assert ended == [True]


def _recurring(_: Memory, compute: Blocked, __: pytest.MonkeyPatch) -> Callable[[], None]:
    value = Recurring(compute, "test")
    value.get(0.0)
    return value.close


def _queue(memory: Memory, compute: Blocked, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    monkeypatch.setattr("memstore_gnn.verbs.queue.queue_memory", compute)
    queue = LabelQueue(memory)
    queue.choose("training")
    return queue.close
