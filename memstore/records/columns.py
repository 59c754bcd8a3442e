"""Columns: convert records to a `GraphBlock`, with ids, canonical answers and the texts to embed.

Both an ingest and the scoring of a file use this module. A rollout therefore has the same id, answer and vector whether
or not it is stored.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import pyarrow as pa

from memstore.graph.protocol import GraphBlock
from memstore.records import ids
from memstore.records.policies import policies_of
from memstore.records.record import Record
from memstore.text import canonical_answer, embedded_text, infer_domain
from memstore.types import AnswerId, Domain, QueryId
from memstore_schema.columns import ALIAS_SCHEMA, NodeLabel, node_schema

_THINKING_ROWS = pa.schema(
    [*node_schema(NodeLabel.THINKING), *((name, pa.string()) for name in ("query_id", "answer_id", "answer_text"))]
)
"""Columns of a block's thinkings without `policy_id`, which follows from them."""
_NO_VERDICT = (None, None, None)
"""Verdicts of a block's answers; the graph derives them from the labels."""


@dataclass(frozen=True)
class KnownQuery:
    """Domain, gold answer and text of a query. A row with another domain or gold conflicts with it."""

    domain: Domain
    gold: str | None
    text: str
    """The text as first read; another row may write the query with other white space."""
    stored: bool = False
    """Whether the memory holds the query. The answers that it has were read in its domain, so that stays."""

    @property
    def is_guess(self) -> bool:
        """Whether the domain may be what was inferred from the text alone, so that a better one replaces it."""
        return self.gold is None and self.domain == infer_domain(self.text, None)


@dataclass
class Occurrences:
    """Counts of the earlier rows of one input, for rows without a `sample_index`."""

    by_content: Counter[Hashable] = field(default_factory=Counter)
    """Rows by query, dataset, key, policy, run, step and texts."""
    by_key: Counter[Hashable] = field(default_factory=Counter)
    """Rows by query, dataset, key, policy, run and step."""


@dataclass(frozen=True, slots=True)
class IdentifiedRecord:
    """A record with the ids that it has in the memory."""

    record: Record
    query_id: QueryId
    id: str
    run: str
    sample_index: int

    @property
    def alias(self) -> tuple[str | None, ...]:
        """The name of the query in the record's source, a row of `ALIAS_SCHEMA`."""
        return (self.query_id, self.record.dataset, self.record.key, self.record.split)


def assign_ids(record: Record, source_stem: str, seen: Occurrences) -> IdentifiedRecord:
    """Assign ids to a record. Call it once for every row, in the order of the input.

    Equal rows are counted under each name of their query: a rollout that an input lists under two datasets is one.
    """
    query = ids.query_id(record.query)
    occurrence, index = 0, record.sample_index
    if index is None:
        key = (query, record.dataset, record.key, record.policy, record.run, record.step)
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
    if known.gold is not None and record.gold is not None and not is_same_gold(record.gold, known.gold, known):
        return (
            f"its gold answer {record.gold!r:.80} contradicts {known.gold!r:.80}, which the memory holds for "
            "this query; correct one of them, or ingest it into another namespace"
        )
    return domain_conflict(record, known)


def is_same_gold(gold: str, other: str, query: KnownQuery) -> bool:
    """Whether two gold answers of a query say the same: sources write one number in different ways."""
    if gold.strip() == other.strip():
        return True
    values = [canonical_answer(text, query.domain, query.text).value for text in (gold, other)]
    return query.domain != "code" and values[0] == values[1]


def domain_conflict(record: Record, known: KnownQuery) -> str | None:
    """Why a row's domain conflicts with the domain of its query, as a message; None if it does not.

    The domain decides how answers are read and compared. With two domains, one answer of a query would have two values.
    """
    if record.domain is None or record.domain == known.domain or known.is_guess:
        return None
    return (
        f"its domain {record.domain!r} contradicts the domain {known.domain!r} of its query; use {known.domain!r} "
        "here, or ingest it into another namespace"
    )


def merge_query(record: Record, known: KnownQuery | None) -> KnownQuery:
    """A query after a record: the first text and domain stay, a missing gold is filled in.

    A domain that is named, or inferred with a gold answer, replaces one that was inferred from the text alone, unless
    the query is stored.
    """
    if known is None:
        return KnownQuery(record.domain or infer_domain(record.query, record.gold), record.gold, record.query)
    gold = record.gold if known.gold is None else known.gold
    domain = known.domain
    says_more = record.gold is not None or record.domain not in (None, domain)
    if says_more and not known.stored and known.is_guess:
        domain = record.domain or infer_domain(known.text, gold)
    changed = (domain, gold) != (known.domain, known.gold)
    return replace(known, domain=domain, gold=gold) if changed else known


class ReadAnswer(NamedTuple):
    """An answer as the memory stores it: the columns of its node."""

    id: AnswerId
    text: str
    value: str


def read_answer(query_id: QueryId, written: str, query: KnownQuery) -> ReadAnswer | None:
    """The answer of a rollout of this query; None if it is blank."""
    stripped = written.strip()
    if not stripped:
        return None
    canonical = canonical_answer(written, query.domain, query.text)
    # An answer without a canonical value ("???") is its own value and still counts as a vote.
    value = canonical.value or stripped
    return ReadAnswer(ids.answer_id(query_id, value), canonical.text or stripped, value)


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
    names: Iterable[tuple[str | None, ...]] = (),
) -> Columns:
    """Convert rollouts to columns. Of several rows with the same id, the first is used.

    Args:
        known: every query that occurs (see `merge_query`).
        batch: properties of the Batch node; every node gets its `id`.
        names: further names of queries, rows of `ALIAS_SCHEMA`.
    """
    rows = _Rows(known, batch["id"], created_at, dict.fromkeys(names))
    for item in records:
        rows.add(item)
    runs = [(ids.run_id(name), name, ",".join(sorted(rows.policies[name]))) for name in sorted(rows.policies)]
    datasets = [(ids.dataset_id(name), name) for name in sorted({str(alias[1]) for alias in rows.aliases})]
    thinkings = _table(rows.thinkings.values(), _THINKING_ROWS)
    policies, policy_ids = policies_of(thinkings)
    block = GraphBlock(
        queries=_table(rows.queries.values(), node_schema(NodeLabel.QUERY)),
        thinkings=thinkings.append_column("policy_id", policy_ids),
        answers=_table(((*answer, *_NO_VERDICT) for answer in rows.answers.values()), node_schema(NodeLabel.ANSWER)),
        runs=_table(runs, node_schema(NodeLabel.RUN)),
        batch=batch,
        policies=policies,
        datasets=_table(datasets, node_schema(NodeLabel.DATASET)),
        aliases=_table(rows.aliases, ALIAS_SCHEMA),
    )
    return Columns(block, rows.texts)


@dataclass
class _Rows:
    """Rows of a block's tables by id, in the order of the input."""

    known: Mapping[QueryId, KnownQuery]
    batch_id: object
    created_at: dt.datetime
    aliases: dict[tuple[str | None, ...], None]
    queries: dict[str, tuple[object, ...]] = field(default_factory=dict)
    answers: dict[str, ReadAnswer] = field(default_factory=dict)
    thinkings: dict[str, tuple[object, ...]] = field(default_factory=dict)
    policies: dict[str, set[str]] = field(default_factory=dict)
    """Policies of each run."""
    texts: dict[str, str] = field(default_factory=dict)

    def add(self, item: IdentifiedRecord) -> None:
        """Add a rollout, its query and its answer; a rollout with the id of an earlier one adds a name at most."""
        self.aliases[item.alias] = None
        if item.id in self.thinkings:
            return
        query = self.known[item.query_id]
        if item.query_id not in self.queries:
            self.queries[item.query_id] = self._query_row(item.query_id, query)
        answer = read_answer(item.query_id, item.record.answer, query)
        if answer is not None:
            self.answers.setdefault(answer.id, answer)
        self.policies.setdefault(item.run, set()).add(item.record.policy)
        self.thinkings[item.id] = self._thinking_row(item, answer)

    def _query_row(self, id_: QueryId, query: KnownQuery) -> tuple[object, ...]:
        return (id_, query.text, query.domain, query.gold, self._vector_key(query.text), None, self.batch_id)

    def _thinking_row(self, item: IdentifiedRecord, answer: ReadAnswer | None) -> tuple[object, ...]:
        record = item.record
        return (
            item.id,
            record.thinking,
            record.dataset,
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
            self.created_at,
            self._vector_key(embedded_text(record.thinking, record.answer)),
            None,
            self.batch_id,
            item.query_id,
            answer.id if answer is not None else None,
            record.answer,
        )

    def _vector_key(self, text: str) -> str | None:
        """The key of a text's vector; None for a blank text, which is not embedded."""
        if not text.strip():
            return None
        key = ids.vector_key(text)
        self.texts.setdefault(key, text)
        return key


def _table(rows: Iterable[tuple[object, ...]], schema: pa.Schema) -> pa.Table:
    """Convert tuples in the order of the schema to a table."""
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    arrays = [pa.array(column, type=field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)
