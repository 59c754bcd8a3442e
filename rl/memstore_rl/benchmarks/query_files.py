"""Read a file of queries as questions: JSON lines, gzip of it, or Parquet.

A row needs `query`; `gold`, `dataset`, `query_id`, `domain` and `split` (train, validation, test) have the same meaning
as in a record, and `prompt` and `system` set the messages to the model. Rollouts of the same query give one question.
Datasets for verl and TRL, whose rows have `prompt` instead of `query`, are read too (`prompt_rows`). No splits are
drawn: a row without a split has none.
"""

from __future__ import annotations

from pathlib import Path

from memstore.errors import InputError
from memstore.records.record import RecordDefaults
from memstore_rl.benchmarks.queries import SourceQuery, merged, query_rows
from memstore_rl.benchmarks.question import Question

_PROMPT_KEYS = ("prompt", "system")


def questions_of_file(path: str | Path, defaults: RecordDefaults | None = None) -> list[Question]:
    """The questions of a file, in the order of their first rows.

    Raises:
        InputError: the file cannot be read or has no rows, a row is not a query, or a row contradicts an earlier one of
            the same query.
    """
    found: dict[str, SourceQuery] = {}
    prompts: dict[str, dict[str, str]] = {}
    for where, query, aside in query_rows(path, defaults, _PROMPT_KEYS):
        found[query.id] = merged(found.get(query.id), query, where)
        given = {key: text for key, text in aside.items() if text is not None}
        for key, text in given.items():
            if not isinstance(text, str):
                raise InputError(f"{where}: {key} must be text, the content of the message")
        prompts[query.id] = given | prompts.get(query.id, {})
    return [_question(query, prompts[id]) for id, query in found.items()]


def _question(query: SourceQuery, prompts: dict[str, str]) -> Question:
    return Question(
        text=query.text,
        dataset=query.dataset,
        key=query.key,
        domain=query.domain,
        gold=query.gold,
        split=query.split,
        prompt=prompts.get("prompt"),
        system=prompts.get("system"),
    )
