"""A file of queries as questions: JSON lines, their gzip, or Parquet.

A row needs `query`; `gold`, `dataset`, `query_id`, `domain` and `split` (train, validation, test) are what they are in
a record, and `prompt` and `system` say how a model is asked. Rollouts in a file count as their query, once. Nothing is
drawn here: a row that names no split has none.
"""

from __future__ import annotations

from pathlib import Path

from memstore.errors import InputError
from memstore.records.record import RecordDefaults
from memstore_rl.benchmarks.queries import SourceQuery, joined, query_rows
from memstore_rl.benchmarks.question import Question

_ASKED = ("prompt", "system")
"""Keys that say how a query is asked."""


def questions_of_file(path: str | Path, defaults: RecordDefaults | None = None) -> list[Question]:
    """The questions of a file, in the order in which each first occurs.

    Raises:
        InputError: the file cannot be read or holds no row, a row is no query, or one contradicts an earlier row of
            the same query.
    """
    found: dict[str, SourceQuery] = {}
    asked: dict[str, dict[str, str]] = {}
    for where, query, aside in query_rows(path, defaults, _ASKED):
        found[query.id] = joined(found.get(query.id), query, where)
        said = {key: text for key, text in aside.items() if text is not None}
        for key, text in said.items():
            if not isinstance(text, str):
                raise InputError(f"{where}: {key} must be text; write the turn's content alone")
        asked[query.id] = said | asked.get(query.id, {})
    return [_question(query, asked[id]) for id, query in found.items()]


def _question(query: SourceQuery, asked: dict[str, str]) -> Question:
    return Question(
        text=query.text,
        dataset=query.dataset,
        key=query.key,
        domain=query.domain,
        gold=query.gold,
        split=query.split,
        prompt=asked.get("prompt"),
        system=asked.get("system"),
    )
