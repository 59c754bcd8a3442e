"""Columns: convert records to a `GraphBlock`, with ids, canonical answers and the texts to embed.

Both an ingest and the scoring of a file use this module. A rollout therefore has the same id, answer and vector whether
or not it is stored.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field

import pyarrow as pa

from memstore.graph.protocol import GraphBlock
from memstore.records import ids
from memstore.records.record import Record
from memstore.text import canonical_answer, embedded_text, infer_domain
from memstore.types import Domain, QueryId
from memstore_schema.columns import NodeLabel, node_schema

THINKING_BLOCK_SCHEMA = node_schema(NodeLabel.THINKING)
for _column in ("query_id", "answer_id", "answer_text"):
    THINKING_BLOCK_SCHEMA = THINKING_BLOCK_SCHEMA.append(pa.field(_column, pa.string()))
"""Columns of a block's thinkings: those of the node table, and the ends of their edges."""


@dataclass(frozen=True)
class KnownQuery:
    """Domain and gold answer of a query. A row with other values conflicts with it."""

    domain: Domain
    gold: str | None


@dataclass
class Occurrences:
    """Counts of the earlier rows of one input, for rows without a `sample_index`."""

    by_content: Counter[Hashable] = field(default_factory=Counter)
    """Rows by query, policy, run, step and texts."""
    by_key: Counter[Hashable] = field(default_factory=Counter)
    """Rows by query, policy, run and step."""


@dataclass(frozen=True, slots=True)
class IdentifiedRecord:
    """A record with the ids that it has in the memory."""

    record: Record
    query_id: QueryId
    id: str
    run: str
    sample_index: int


def assign_ids(record: Record, source_stem: str, seen: Occurrences) -> IdentifiedRecord:
    """Assign ids to a record. Call it once for every row, in the order of the input."""
    query = ids.query_id(record.dataset, record.key, record.query)
    occurrence, index = 0, record.sample_index
    if index is None:
        key = (query, record.policy, record.run, record.step)
        index = seen.by_key[key]
        seen.by_key[key] += 1
        content = (*key, ids.vector_key(record.thinking), ids.vector_key(record.answer))
        occurrence = seen.by_content[content]
        seen.by_content[content] += 1
    rollout = ids.rollout_id(
        query,
        policy=record.policy,
        run=record.run,
        step=record.step,
        sample_index=record.sample_index,
        occurrence=occurrence,
        thinking=record.thinking,
        answer=record.answer,
    )
    return IdentifiedRecord(record, query, rollout, record.run or source_stem, index)


def query_conflict(record: Record, known: KnownQuery) -> str | None:
    """Why a record conflicts with its query in the memory, as a message; None if it does not."""
    if None not in (known.gold, record.gold) and known.gold != record.gold:
        return (
            f"its gold answer {record.gold!r:.80} contradicts {known.gold!r:.80}, which the memory holds for "
            "this query; correct one of them, or give this query a key of its own"
        )
    return domain_conflict(record.domain, known.domain)


def domain_conflict(given: Domain | None, known: Domain) -> str | None:
    """Why a row's domain conflicts with the domain of its query, as a message; None if it does not.

    The domain decides how answers are read and compared. With two domains, one answer of a query would have two values.
    """
    if given is None or given == known:
        return None
    return (
        f"its domain {given!r} contradicts the domain {known!r} of its query; use {known!r} here, or give this query a "
        "key of its own"
    )


def merge_query(record: Record, known: KnownQuery | None) -> KnownQuery:
    """Domain and gold answer of a query after a record: the first domain stays, and a missing gold is filled in."""
    if known is None:
        return KnownQuery(record.domain or infer_domain(record.query, record.gold), record.gold)
    if known.gold is None and record.gold is not None:
        return KnownQuery(known.domain, record.gold)
    return known


@dataclass(frozen=True)
class Columns:
    """A block ready to be written, and the texts to embed for it."""

    block: GraphBlock
    texts: dict[str, str]
    """Unique texts by vector key, in the order of the input."""


def to_columns(
    records: Iterable[IdentifiedRecord],
    known: dict[QueryId, KnownQuery],
    *,
    batch: dict[str, object],
    created_at: dt.datetime,
) -> Columns:
    """Convert rollouts to columns. Of several rows with the same id, the first is used.

    Args:
        known: domain and gold answer of every query that occurs (see `merge_query`).
        batch: properties of the Batch node; every node gets its `id`.
    """
    queries: dict[str, tuple[object, ...]] = {}
    answers: dict[str, tuple[str, str, str]] = {}
    thinkings: dict[str, tuple[object, ...]] = {}
    policies: dict[str, set[str]] = {}
    texts: dict[str, str] = {}
    batch_id = batch["id"]

    def vector_key(text: str) -> str | None:
        if not text.strip():
            return None
        key = ids.vector_key(text)
        texts.setdefault(key, text)
        return key

    for item in records:
        record = item.record
        if item.id in thinkings:
            continue
        query = known[item.query_id]
        if item.query_id not in queries:
            queries[item.query_id] = (
                item.query_id,
                record.key,
                record.query,
                record.dataset,
                query.domain,
                query.gold,
                vector_key(record.query),
                None,
                batch_id,
            )
        answer: str | None = None
        if written := record.answer.strip():
            canonical = canonical_answer(record.answer, query.domain, record.query)
            # An answer without a canonical value ("???") is its own value and still counts as a vote.
            value = canonical.value or written
            answer = ids.answer_id(item.query_id, value)
            answers.setdefault(answer, (answer, canonical.text or written, value))
        policies.setdefault(item.run, set()).add(record.policy)
        thinkings[item.id] = (
            item.id,
            record.thinking,
            record.key,
            record.policy,
            item.run,
            record.step,
            item.sample_index,
            record.mean_logprob,
            record.finish_reason,
            record.reward,
            record.reward_source,
            record.metadata,
            created_at,
            vector_key(embedded_text(record.thinking, record.answer)),
            None,
            batch_id,
            item.query_id,
            answer,
            record.answer,
        )
    runs = [(ids.run_id(name), name, ",".join(sorted(policies[name]))) for name in sorted(policies)]
    block = GraphBlock(
        queries=_table(queries.values(), node_schema(NodeLabel.QUERY)),
        thinkings=_table(thinkings.values(), THINKING_BLOCK_SCHEMA),
        answers=_table(answers.values(), node_schema(NodeLabel.ANSWER)),
        runs=_table(runs, node_schema(NodeLabel.RUN)),
        batch=batch,
    )
    return Columns(block, texts)


def _table(rows: Iterable[tuple[object, ...]], schema: pa.Schema) -> pa.Table:
    """Convert tuples in the order of the schema to a table."""
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    arrays = [pa.array(column, type=field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)
