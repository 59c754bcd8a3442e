"""Labelling a queue of queries one by one, by keys; the terminal and the pages use it.

    1, 2, ...  this answer is right          x    the first open answer is wrong; x2: the second answer is
    0          none of the answers is right  s    skip the query
    u          undo the last verdict         q    quit

Each verdict is a batch of its own, written at once. A query that has been settled meanwhile, or whose answers all have
a label, is passed over. At the end of the queue, the last verdict can still be undone.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from memstore.errors import InputError
from memstore.graph.verdicts import ONE_RIGHT_VALUE, RIGHT
from memstore.labels.answer_index import AnswerIndex
from memstore.labels.answers import AnswerVerdict, label_answers
from memstore.labels.batches import undo_labels
from memstore.locations.stores import Stores
from memstore_schema.columns import NodeLabel

_ANSWER = re.compile(r"(x?)([1-9][0-9]*)|x", re.ASCII)
"""The key of an answer."""


class ShownAnswer(NamedTuple):
    """An answer of the present query."""

    text: str
    rollouts: int
    label: float | None
    """Its label, if it has one."""


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
            query = self._queue[self._position]
            answers = self._answers(query)
            if self._is_open(query, answers):
                self._shown_at = time.monotonic()
                text = self._index.texts[query] or ""
                return Question(self._index.query_ids[query], text, answers, self._position + 1, len(self._queue))
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
        query = self._queue[self._position]
        if key == "0":
            return self._label(query, None, 0.0)
        answers = self._index.answers_of(query)
        found = _ANSWER.fullmatch(key)
        if found is None:
            raise InputError(f"{key!r} is no key; use 1-{len(answers)}, 0, x, s, u or q")
        open_ = (row for row, one in enumerate(self._answers(query)) if one.label is None)
        chosen = int(found[2]) - 1 if found[2] else next(open_, len(answers))
        if chosen >= len(answers):
            raise InputError(f"there is no answer {chosen + 1}; the query has {len(answers)}")
        return self._label(query, answers[chosen], 0.0 if key.startswith("x") else 1.0)

    def _label(self, query: int, answer: int | None, reward: float) -> str:
        name = None if answer is None else self._index.answer_id(answer)
        verdict = AnswerVerdict(self._index.query_ids[query], name, reward)
        seconds = round(time.monotonic() - self._shown_at, 1)
        done = label_answers(self._stores, [verdict], by=self._by, seconds=seconds, index=self._index)
        if done.batch is not None:
            self._done.append((done.batch, self._position))
        what = "none of the answers is right" if answer is None else f"{self._index.answer_text(answer)!r} is "
        return (
            what
            + ("" if answer is None else "right" if reward > RIGHT else "wrong")
            + (f"; {done.changed:,} rollout{'' if done.changed == 1 else 's'} labelled")
        )

    def _undo(self) -> str:
        if not self._done:
            raise InputError("there is no verdict of this session to undo")
        batch, position = self._done[-1]
        undone = undo_labels(self._stores, batch, by=self._by)
        self._done.pop()
        self._position = position
        return f"undone: {undone.changed:,} rollout{'' if undone.changed == 1 else 's'}"

    def _answers(self, query: int) -> list[ShownAnswer]:
        found = []
        for answer in self._index.answers_of(query):
            ids = self._index.rollout_ids(self._index.rollouts_with(query, answer))
            rewards = self._stores.graph.nodes(NodeLabel.THINKING, ["reward"], ids=ids)["reward"].drop_null()
            label = float(sum(rewards.to_pylist()) / len(rewards)) if len(rewards) else None
            found.append(ShownAnswer(self._index.answer_text(answer), len(ids), label))
        return found

    def _is_open(self, query: int, answers: Sequence[ShownAnswer]) -> bool:
        settled = any(one.label is not None and one.label > RIGHT for one in answers)
        if settled and self._index.domains[query] in ONE_RIGHT_VALUE:
            return False
        return any(one.label is None for one in answers)


def queue_of_file(path: Path) -> list[str]:
    """The ids of the queries in a file of `memstore queue`, in order.

    Raises:
        InputError: the file cannot be read, or a row has no `query_id`.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    found = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InputError(f"{path}:{number}: not JSON ({error}); pass a file of `memstore queue -o FILE`") from error
        if not isinstance(row, dict) or not isinstance(row.get("query_id"), str):
            raise InputError(f"{path}:{number}: a row needs `query_id`; pass a file of `memstore queue -o FILE`")
        found.append(row["query_id"])
    if not found:
        raise InputError(f"{path} has no queries; make a queue with: memstore queue -o {path.name}")
    return found
