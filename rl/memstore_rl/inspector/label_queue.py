"""The queue of queries to label: chosen from the memory in a thread when a person asks, or read from a file."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memstore.errors import InputError
from memstore.labels.answer_index import AnswerIndex
from memstore.labels.questions import read_queries
from memstore.labels.session import rows_of_queue_file
from memstore.memory import Memory
from memstore.types import AUDIT_SPLIT
from memstore_gnn.queue.choose import Criterion
from memstore_rl.inspector.failures import sentence_of

LIMIT = 100
"""Queries of a queue that is chosen on the page."""
BUG = "the queue could not be chosen because of a bug; the log of the service has the details"


@dataclass(frozen=True)
class QueueEntry:
    """A query to label."""

    query: str
    """Its id."""
    reason: str
    """Why it was chosen."""
    why: Mapping[str, float]
    """The numbers that it was chosen by."""
    audit: bool
    probability: Mapping[str, float]
    """Probability that an answer is right, by id of the answer."""


@dataclass(frozen=True)
class QueueState:
    """The queue, and whether a new one is being chosen."""

    entries: tuple[QueueEntry, ...]
    p_from: str | None
    """Id of the model that the probabilities are from, or `votes`."""
    running: bool
    failure: str | None
    """Why no queue could be chosen, in one sentence."""


class LabelQueue:
    """The queue of a memory. Thread-safe. Close it before the memory."""

    def __init__(self, memory: Memory, entries: Iterable[QueueEntry] = ()) -> None:
        self._memory = memory
        self._lock, self._chosen = threading.Lock(), threading.Event()
        self._chosen.set()
        self._state = QueueState(tuple(entries), None, False, None)
        self._thread: threading.Thread | None = None
        self._closed = False

    def get(self, wait_s: float = 0.0) -> QueueState:
        """The present queue; waits up to `wait_s` seconds for one that is being chosen."""
        self._chosen.wait(wait_s)
        with self._lock:
            return self._state

    def choose(self, criterion: Criterion) -> None:
        """Begin to choose a new queue, unless one is being chosen already."""
        with self._lock:
            if self._state.running or self._closed:
                return
            self._chosen.clear()
            self._state = QueueState(self._state.entries, self._state.p_from, True, None)
            self._thread = threading.Thread(target=self._choose, args=(criterion,), name="memstore-queue", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Choose no queue any more, and wait for the one that is being chosen."""
        with self._lock:
            self._closed, thread = True, self._thread
        if thread is not None:
            thread.join()

    def _choose(self, criterion: Criterion) -> None:
        entries: tuple[QueueEntry, ...] = ()
        p_from, failure = None, None
        try:
            from memstore_gnn.verbs.queue import queue_memory  # loads torch

            found = queue_memory(self._memory, LIMIT, criterion=criterion)
            entries, p_from = tuple(entry_of(item.as_json()) for item in found.items), found.p_from
        except Exception as error:
            failure = sentence_of(error, logged="the queue could not be chosen because of a bug", shown=BUG)
        with self._lock:
            self._state = QueueState(entries, p_from, False, failure)
        self._chosen.set()


def entry_of(row: Mapping[str, Any]) -> QueueEntry:
    """The entry of a row of `memstore queue`; all but its query may be missing."""
    answers = [answer for answer in row.get("answers") or () if isinstance(answer, Mapping)]
    return QueueEntry(
        query=row["query_id"],
        reason=str(row.get("reason") or "it is in the file of the queue"),
        why={str(name): float(value) for name, value in (row.get("why") or {}).items()},
        audit=row.get("split") == AUDIT_SPLIT,
        probability={str(one["answer_id"]): float(one["p"]) for one in answers if {"answer_id", "p"} <= set(one)},
    )


def read_queue(memory: Memory, path: Path) -> list[QueueEntry]:
    """The entries of a file of `memstore queue -o FILE` that can still be labelled.

    Raises:
        InputError: the file cannot be read, or names a query that the memory does not have.
    """
    rows = rows_of_queue_file(path)
    index = AnswerIndex(memory.graph, [row["query_id"] for row in rows])
    known = set(index.query_ids)
    if unknown := [row["query_id"] for row in rows if row["query_id"] not in known]:
        raise InputError(
            f"{path}: {len(unknown):,} of its queries are not in this memory ({unknown[0]}); pass a queue of it"
        )
    found = read_queries(memory.stores, index, range(len(index.query_ids)))
    is_open = {query.query_id for query in found if query.is_open}
    return [entry_of(row) for row in rows if row["query_id"] in is_open]
