"""Queries to train on: from files of records, or from a memory. Rollouts in a file count as their query."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from memstore.errors import InputError, RecordError
from memstore.graph.protocol import GraphStore
from memstore.records import ids
from memstore.records.readers import open_source
from memstore.records.record import RecordDefaults, parse_record
from memstore.text import infer_domain
from memstore.types import Domain
from memstore_rl.benchmarks.budget import SPLITS, SplitName
from memstore_schema.columns import NodeLabel

QUERY_COLUMNS = (("query",), ("input", "output"), ("prompt", "completion"))
"""A table of queries has the columns of one of these; its rollouts count as their query."""


class SourceQuery(NamedTuple):
    """A query, once."""

    id: str
    """In the memory."""
    text: str
    dataset: str
    key: str | None
    domain: Domain
    gold: str | None
    split: SplitName | None
    """As the source says it; None: it does not."""


def queries_of_files(sources: Sequence[str | Path], defaults: RecordDefaults | None = None) -> list[SourceQuery]:
    """The queries of files, in the order in which each first occurs.

    A row is a record of which `query` alone is needed; `gold` is its reference answer, and `split` may say train,
    validation or test.

    Raises:
        InputError: a file that cannot be read, a row that is no query, or one that contradicts an earlier row of the
            same query.
    """
    found: dict[str, SourceQuery] = {}
    for path in sources:
        for row in query_rows(path, defaults):
            found[row.query.id] = joined(found.get(row.query.id), row.query, row.where)
    return list(found.values())


class QueryRow(NamedTuple):
    """A row of a file of queries."""

    where: str
    """The file's name and the row's number, for an error."""
    query: SourceQuery
    aside: dict[str, Any]
    """What the row says under the keys that were set aside."""


def query_rows(path: str | Path, defaults: RecordDefaults | None, aside: Collection[str] = ()) -> Iterator[QueryRow]:
    """The rows of a file, each with its query.

    Args:
        aside: keys that say nothing of the query in a row that has `query` (in others they may be the query itself).

    Raises:
        InputError: the file cannot be read, or a row is no query.
    """
    source = open_source(path, QUERY_COLUMNS)
    for row in source:
        where = f"{source.name}:{row.number}"
        if row.values is None:
            raise InputError(f"{where}: {row.reason}")
        values = dict(row.values)
        apart = {key: values.pop(key) for key in aside if key in values} if "query" in values else {}
        try:
            query = query_of_row(values, defaults or RecordDefaults())
        except RecordError as error:
            raise InputError(f"{where}: {error}") from error
        yield QueryRow(where, query, apart)


def queries_of_memory(graph: GraphStore) -> list[SourceQuery]:
    """The queries of a memory, in the order of their ids; none names its split."""
    table = graph.nodes(NodeLabel.QUERY, ["id", "text", "dataset", "key", "domain", "gold"])
    return [SourceQuery(**row, split=None) for row in table.to_pylist()]


def query_of_row(values: Mapping[str, Any], defaults: RecordDefaults) -> SourceQuery:
    """The query of a row.

    Raises:
        RecordError: it has none, or something of it cannot be read.
    """
    values = dict(values)
    split = values.pop("split", None)
    if "query" in values and values.get("answer") is None and values.get("response") is None:
        values["answer"] = ""
    record = parse_record(values, defaults)
    if split is not None and split not in SPLITS:
        raise RecordError(f"split is {split!r}; it must be one of {', '.join(SPLITS)}, or absent")
    return SourceQuery(
        id=ids.query_id(record.dataset, record.key, record.query),
        text=record.query,
        dataset=record.dataset,
        key=record.key,
        domain=record.domain or infer_domain(record.query, record.gold),
        gold=record.gold,
        split=split,
    )


def joined(known: SourceQuery | None, query: SourceQuery, where: str) -> SourceQuery:
    """One query of two rows: what one is silent about, the other says.

    Raises:
        InputError: they contradict each other.
    """
    if known is None:
        return query
    for name in ("gold", "split"):
        said, before = getattr(query, name), getattr(known, name)
        if said is not None and before is not None and said != before:
            raise InputError(f"{where}: {name} is {said!r}, and an earlier row of the same query says {before!r}")
    return known._replace(gold=known.gold or query.gold, split=known.split or query.split)
