"""Read queries from files of records or from a memory. Repeated rollouts of a query give one query."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from memstore.errors import InputError, RecordError
from memstore.graph.protocol import EdgeTable, GraphStore
from memstore.graph.verdicts import ONE_RIGHT_VALUE, RIGHT
from memstore.labels.audit import audit_positions
from memstore.records import ids
from memstore.records.columns import KnownQuery, is_same_gold
from memstore.records.readers import open_source
from memstore.records.record import RecordDefaults, parse_record, split_name
from memstore.text import infer_domain
from memstore.types import AUDIT_SPLIT, Domain
from memstore_rl.benchmarks.budget import SPLITS, AuditSplit, SplitName
from memstore_rl.benchmarks.prompt_rows import PROMPT_COLUMN, is_prompt_row, query_of_prompt_row
from memstore_schema.columns import EdgeType, NodeLabel

QUERY_COLUMNS = (("query",), (PROMPT_COLUMN,), ("input", "output"))
"""Columns of which a table of queries has one set."""


class SourceQuery(NamedTuple):
    """A distinct query of a source."""

    id: str
    """Id of the query in the memory."""
    text: str
    dataset: str
    key: str | None
    domain: Domain
    gold: str | None
    split: SplitName | AuditSplit | None
    """Split given by the source; None if it gives none. A query with the split `audit` is for measuring only."""
    has_label: bool | None = None
    """Whether a memory has ground truth for a rollout of the query; None if the source is no memory."""


def queries_of_files(sources: Sequence[str | Path], defaults: RecordDefaults | None = None) -> list[SourceQuery]:
    """Read the distinct queries of files, in order of first occurrence.

    A row is a record that needs only `query`; `gold` is its gold answer, and `split` can be train, validation, test or
    audit.
    Rows of datasets for verl and TRL are converted; see `prompt_rows`.

    Raises:
        InputError: a file cannot be read, a row is not a query, or it contradicts an earlier row of the same query.
    """
    found: dict[str, SourceQuery] = {}
    for path in sources:
        for row in query_rows(path, defaults):
            found[row.query.id] = merged(found.get(row.query.id), row.query, row.where)
    return list(found.values())


class QueryRow(NamedTuple):
    """A row of a file of queries."""

    where: str
    """File name and row number, for errors."""
    query: SourceQuery
    aside: dict[str, Any]
    """Values of the keys that were set aside."""


def query_rows(path: str | Path, defaults: RecordDefaults | None, aside: Collection[str] = ()) -> Iterator[QueryRow]:
    """Read the rows of a file, each with its query.

    Args:
        aside: keys to set aside in rows that have `query`; in other rows they may be the query itself.

    Raises:
        InputError: the file cannot be read, or a row is not a query.
    """
    source = open_source(path, QUERY_COLUMNS)
    for row in source:
        where = f"{source.name}:{row.number}"
        if row.values is None:
            raise InputError(f"{where}: {row.reason}")
        try:
            values = query_of_prompt_row(row.values) if is_prompt_row(row.values) else dict(row.values)
            apart = {key: values.pop(key) for key in aside if key in values} if "query" in values else {}
            query = query_of_row(values, defaults or RecordDefaults())
        except RecordError as error:
            raise InputError(f"{where}: {error}") from error
        yield QueryRow(where, query, apart)


def queries_of_memory(graph: GraphStore) -> list[SourceQuery]:
    """Read the queries of a memory, in order of id. Marked audit queries have the split `audit`, the others none.

    The gold of an audit query that has none is its right answer by the labels, where a query has one right answer.
    """
    table = graph.nodes(NodeLabel.QUERY, ["id", "text", "domain", "gold"])
    named = graph.edges(EdgeType.IN, NodeLabel.QUERY, NodeLabel.DATASET)
    names = _first_names(graph, named)
    audit = audit_positions(named)
    known = graph.nodes(NodeLabel.THINKING, ["reward"])["reward"].is_valid().to_numpy()
    generates = graph.edges(EdgeType.GENERATES, NodeLabel.QUERY, NodeLabel.THINKING)
    labelled = set(generates.source[known[generates.target]].tolist())
    rows = table.to_pylist()
    judged = _right_answers(graph, generates)
    for position in audit:
        if rows[position]["gold"] is None and rows[position]["domain"] in ONE_RIGHT_VALUE:
            rows[position]["gold"] = judged.get(position)
    return [
        SourceQuery(
            **row,
            **names[position]._asdict(),
            split=AUDIT_SPLIT if position in audit else None,
            has_label=position in labelled,
        )
        for position, row in enumerate(rows)
    ]


def _right_answers(graph: GraphStore, generates: EdgeTable) -> dict[int, str]:
    """The right answer of each query that has exactly one."""
    answers = graph.nodes(NodeLabel.ANSWER, ["text", "verdict"]).to_pylist()
    leads = graph.edges(EdgeType.LEADS_TO, NodeLabel.THINKING, NodeLabel.ANSWER, [])
    query_of = dict(zip(generates.target.tolist(), generates.source.tolist(), strict=True))
    found: dict[int, set[str]] = {}
    for rollout, answer in zip(leads.source.tolist(), leads.target.tolist(), strict=True):
        verdict = answers[answer]["verdict"]
        if verdict is not None and verdict > RIGHT:
            found.setdefault(query_of[rollout], set()).add(answers[answer]["text"])
    return {query: next(iter(texts)) for query, texts in found.items() if len(texts) == 1}


class _Name(NamedTuple):
    dataset: str
    key: str | None


def _first_names(graph: GraphStore, edges: EdgeTable) -> dict[int, _Name]:
    """The first dataset of each query by name, as budgets use it, and its first key there."""
    datasets = graph.nodes(NodeLabel.DATASET, ["name"])["name"].to_pylist()
    found: dict[int, _Name] = {}
    keys = edges.properties["key"].to_pylist()
    for query, dataset, key in zip(edges.source.tolist(), edges.target.tolist(), keys, strict=True):
        name = _Name(datasets[dataset], key)
        found[query] = min(found.get(query, name), name, key=lambda one: (one.dataset, one.key is None, one.key or ""))
    return found


def query_of_row(values: Mapping[str, Any], defaults: RecordDefaults) -> SourceQuery:
    """Return the query of a row.

    Raises:
        RecordError: it has none, or a value is invalid.
    """
    values = dict(values)
    if not values.keys() & {"query", "input", "prompt"}:
        names = ", ".join(map(str, values)) or "none"
        raise RecordError(f"query is missing: the row needs the key `query` or `prompt`, but has {names}")
    split = values.pop("split", None)
    split = split_name(split) if isinstance(split, str) else split
    if "query" in values and values.get("answer") is None and values.get("response") is None:
        values["answer"] = ""
    record = parse_record(values, defaults)
    if split is not None and split not in (*SPLITS, AUDIT_SPLIT):
        raise RecordError(f"split is {split!r}; it must be one of {', '.join(SPLITS)} or {AUDIT_SPLIT}, or absent")
    return SourceQuery(
        id=ids.query_id(record.query),
        text=record.query,
        dataset=record.dataset,
        key=record.key,
        domain=record.domain or infer_domain(record.query, record.gold),
        gold=record.gold,
        split=split,
    )


def merged(known: SourceQuery | None, query: SourceQuery, where: str) -> SourceQuery:
    """Merge two rows of one query. Of two datasets, the first by name is kept, as label budgets count it.

    A row with the split `audit` marks the query, whatever split others give it.

    Raises:
        InputError: the rows contradict each other.
    """
    if known is None:
        return query
    splits = (known.split, query.split)
    for name in ("gold", "split"):
        value, earlier = getattr(query, name), getattr(known, name)
        if value is None or earlier is None:
            continue
        same = _is_same_gold(known, value, earlier) if name == "gold" else value == earlier or AUDIT_SPLIT in splits
        if not same:
            raise InputError(f"{where}: {name} is {value!r}, but an earlier row of the same query has {earlier!r}")
    first = min(known, query, key=lambda one: one.dataset)
    return known._replace(
        gold=known.gold or query.gold,
        split=AUDIT_SPLIT if AUDIT_SPLIT in splits else known.split or query.split,
        dataset=first.dataset,
        key=first.key,
    )


def _is_same_gold(query: SourceQuery, gold: str, other: str) -> bool:
    return is_same_gold(gold, other, KnownQuery(query.domain, None, query.text))
