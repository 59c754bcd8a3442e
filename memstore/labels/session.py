"""Labelling a queue of queries one by one, by keys, in a terminal.

The keys are those of `memstore.labels.questions`, `s` to skip a query, and `u` to undo the last verdict.

Each verdict is a batch of its own, written at once. A query that has been settled meanwhile, or whose answers all have
a label, is passed over. At the end of the queue, the last verdict can still be undone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from memstore.errors import InputError
from memstore.labels.answer_index import AnswerIndex
from memstore.labels.answers import label_answers
from memstore.labels.batches import undo_labels
from memstore.labels.json_text import parse_json
from memstore.labels.label_studio import data_of_tasks
from memstore.labels.questions import LabelledQuery, ShownAnswer, read_query, verdict_in_words, verdict_of_key
from memstore.locations.stores import Stores


class Question(NamedTuple):
    """The query to label now."""

    query_id: str
    text: str
    answers: list[ShownAnswer]
    """The most frequent first."""
    position: int
    """From 1."""
    total: int


class LabelSession:
    """Labels the queries of a queue.

    Args:
        queries: ids of queries, in order.
        by: who labels.

    Raises:
        InputError: the memory has no rollouts, or a query is not in it.
    """

    def __init__(self, stores: Stores, queries: Sequence[str], by: str | None = None) -> None:
        stores.check_writable()
        self._stores, self._by = stores, by
        self._index = AnswerIndex.read(stores.graph)
        self._queue = [self._index.query(name) for name in queries]
        self._position = 0
        self._done: list[tuple[str, int]] = []
        self._shown_at = time.monotonic()

    def question(self) -> Question | None:
        """The query to label now; None at the end of the queue."""
        while self._position < len(self._queue):
            query = self._read()
            if query.is_open:
                self._shown_at = time.monotonic()
                return Question(query.query_id, query.text, query.answers, self._position + 1, len(self._queue))
            self._position += 1
        return None

    @property
    def labelled(self) -> int:
        """Verdicts that were given and not undone."""
        return len(self._done)

    def press(self, key: str) -> str:
        """Do what a key says; return a sentence about it.

        Raises:
            InputError: the key has no meaning here.
            LabelConflict: the verdict contradicts a label that is there already.
        """
        key = key.strip().lower()
        if key == "u":
            return self._undo()
        if self._position >= len(self._queue):
            raise InputError(f"the queue has ended, so {key!r} has no meaning; use u or q")
        if key == "s":
            self._position += 1
            return "skipped"
        return self._label(self._read(), key)

    def _label(self, query: LabelledQuery, key: str) -> str:
        verdict = verdict_of_key(query, key)
        seconds = round(time.monotonic() - self._shown_at, 1)
        done = label_answers(self._stores, [verdict], by=self._by, seconds=seconds, index=self._index)
        if done.batch is not None:
            self._done.append((done.batch, self._position))
        return verdict_in_words(query, [verdict], done.changed)

    def _read(self) -> LabelledQuery:
        return read_query(self._stores, self._index, self._queue[self._position])

    def _undo(self) -> str:
        if not self._done:
            raise InputError("there is no verdict of this session to undo")
        batch, position = self._done[-1]
        undone = undo_labels(self._stores, batch, by=self._by)
        self._done.pop()
        self._position = position
        return f"undone: {undone.changed:,} rollout{'' if undone.changed == 1 else 's'}"


def queue_of_file(path: Path) -> list[str]:
    """The ids of the queries in a file of `memstore queue`, in order; see `rows_of_queue_file`."""
    return [str(row["query_id"]) for row in rows_of_queue_file(path)]


def rows_of_queue_file(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of `memstore queue`, of JSON lines or of tasks of Label Studio, with a text as `query_id`.

    Raises:
        InputError: the file cannot be read, or a row has no `query_id`.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    if text.lstrip().startswith("["):
        rows = list(enumerate(data_of_tasks(path, text), start=1))
    else:
        rows = list(_json_lines(path, text))
    found = []
    for number, row in rows:
        if not isinstance(row, dict) or not isinstance(row.get("query_id"), str):
            raise InputError(f"{path}:{number}: a row needs `query_id`; pass a file of `memstore queue -o FILE`")
        found.append(row)
    if not found:
        raise InputError(f"{path} has no queries; make a queue with: memstore queue -o {path.name}")
    return found


def _json_lines(path: Path, text: str) -> Iterator[tuple[int, object]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            yield number, parse_json(line)
        except ValueError as error:
            raise InputError(f"{path}:{number}: not JSON ({error}); pass a file of `memstore queue -o FILE`") from error
