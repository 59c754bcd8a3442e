"""Ingest: add files of rollouts to a memory. A killed ingest is resumed by running it again.

Blocks of rows pass through these stages: read, validate, split, canonical answer, embed, graph, vectors, links. Three
rules make an interruption harmless:

1. The vectors of a block are durable in the content cache before its nodes enter the graph. A node in the graph can
   therefore always be given the same vector.
2. A block enters the graph in one transaction, together with its Batch node in state `open`. The vector store is
   written afterwards; the Batch becomes `done` when all its vectors are stored. The next ingest finishes batches that
   are still open.
3. Ids are hashes of the content. A rollout that the memory already holds counts as unchanged and is neither embedded
   nor written.

Rows that cannot be ingested go to the rejects file with their line number and the reason; the other rows are ingested.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from memstore.checks import check_not_input
from memstore.embedding.cached import embed_cached
from memstore.errors import RecordError
from memstore.graph.labels import LABEL_SCHEMA
from memstore.graph.rules import alias_rows
from memstore.graph.verdicts import GROUND_TRUTH, PERSON
from memstore.labels.implied import confirm_labels
from memstore.locations.location import ServerLocation
from memstore.locations.stores import Stores
from memstore.pipeline.content import RESTORED
from memstore.pipeline.features import add_features, features_conflict
from memstore.pipeline.full_disk import resumable
from memstore.pipeline.link import link_memory
from memstore.pipeline.pending import ParsedRow, Pending
from memstore.pipeline.shared_keys import shared_keys
from memstore.pipeline.vectors import fill_vectors, write_vectors
from memstore.progress import Progress, Silent
from memstore.records import ids
from memstore.records.columns import (
    KnownQuery,
    Occurrences,
    assign_ids,
    merge_query,
    query_conflict,
    to_columns,
)
from memstore.records.readers import RowSource, expand_paths, open_source
from memstore.records.record import RecordDefaults, Row, parse_record
from memstore.records.rejects import Rejects
from memstore.records.rollouts import open_rollouts
from memstore.types import QueryId, VectorKind
from memstore_schema.columns import NodeLabel

BLOCK_ROWS = 8192
"""Rows of a block: they are read, embedded and written together. It bounds the memory that an ingest needs."""
_STAGES = ("read", "embed", "graph", "vectors", "link", "total")


@dataclass
class IngestSummary:
    """Counts and times of an ingest."""

    rows: int = 0
    added: int = 0
    unchanged: int = 0
    changed: int = 0
    queries_added: int = 0
    rejected: int = 0
    rejects_file: str | None = None
    reject_examples: list[str] = field(default_factory=list)
    finished_batches: int = 0
    """Batches that an interrupted ingest had left open and this one finished."""
    features_added: int = 0
    """Rollouts, new or stored, whose features were added."""
    other_keys: set[str] = field(default_factory=set)
    """Keys that memstore does not define; their values are stored in `metadata`."""
    shared_keys: str | None = None
    """A sentence about keys of these files that name several texts; None without any."""
    links: dict[str, int] = field(default_factory=lambda: {"query": 0, "thinking": 0})
    """Similarity edges in the memory after this ingest, by kind of node."""
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_STAGES, 0.0))
    """Seconds that each stage took, and in total."""

    def __repr__(self) -> str:
        shown = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "seconds"}
        shown["seconds"] = round(self.seconds["total"], 1)
        return f"IngestSummary({', '.join(f'{name}={value!r}' for name, value in shown.items() if value)})"

    def as_json(self) -> dict[str, Any]:
        """The document that the command prints with `--json`."""
        return {
            "rows": self.rows,
            "rollouts": {"added": self.added, "unchanged": self.unchanged, "changed": self.changed},
            "queries": {"added": self.queries_added},
            "rejected": self.rejected,
            "rejects_file": self.rejects_file,
            "links": self.links,
            "seconds": {name: round(value, 3) for name, value in self.seconds.items()},
            "finished_batches": self.finished_batches,
            "features_added": self.features_added,
            "other_keys": sorted(self.other_keys),
            "shared_keys": self.shared_keys,
        }


@dataclass(frozen=True)
class IngestOptions:
    """Options of an ingest."""

    defaults: RecordDefaults = field(default_factory=RecordDefaults)
    """Values of the fields that a row leaves out."""
    replace: bool = False
    """Overwrite a stored reward that differs, instead of rejecting the row."""
    link: bool = True
    """Link the new nodes afterwards."""
    block_rows: int = BLOCK_ROWS
    """Rows that are read, embedded and written together."""


def ingest(
    stores: Stores,
    sources: Sequence[str | Path],
    options: IngestOptions | None = None,
    *,
    rejects_file: Path | None = None,
    progress: Progress | None = None,
) -> IngestSummary:
    """Add the rollouts of these files to the memory.

    Args:
        sources: files of any format in docs/ingest.md; folders of them, or patterns; "-" reads standard input.
        rejects_file: file for rejected rows; None writes it to the memory's rejects folder.

    Raises:
        InputError: a source cannot be read at all, or is the rejects file.
        StoreFullError: the disk is full. Completed blocks are kept; the same call resumes after them.
    """
    stores.check_writable()
    options = options or IngestOptions()
    sources = expand_paths(sources)
    opened = [open_rollouts(source, options.defaults) for source in sources]
    started = time.perf_counter()
    check_not_input(rejects_file, "rejected rows", sources)
    path = rejects_file or stores.rejects_folder / rejects_name(sources)
    with resumable(stores), Rejects(path) as rejects:
        run = _Ingest(stores, options, rejects, progress or Silent())
        run.finish_open_batches()
        for number, source in enumerate(opened, start=1):
            run.add(source, f"{source.name} ({number} of {len(opened)})" if len(opened) > 1 else source.name)
        if options.link:
            with run.timed("link"):
                run.summary.links = link_memory(stores, progress=progress).edges
        stores.graph.checkpoint()
    summary = run.summary
    summary.rejected = rejects.count
    summary.rejects_file = str(rejects.path) if rejects.count else None
    summary.reject_examples = rejects.examples
    summary.shared_keys = shared_keys(stores.graph, run.keys)
    summary.seconds["total"] = time.perf_counter() - started
    return summary


def rejects_name(sources: Sequence[str | Path]) -> str:
    """Name of the rejects file of these sources, derived from their full paths: a second ingest uses the same file."""
    if not sources:
        return "ingest.rejects.jsonl"
    sources = expand_paths(sources)
    paths = "\n".join(source if source == "-" else str(Path(source).resolve()) for source in map(str, sources))
    digest = hashlib.blake2b(paths.encode("utf-8", "surrogateescape"), digest_size=4).hexdigest()
    return f"{open_source(sources[0]).stem}-{digest}.rejects.jsonl"


class _Ingest:
    """State of one call of `ingest`."""

    def __init__(self, stores: Stores, options: IngestOptions, rejects: Rejects, progress: Progress) -> None:
        self.stores = stores
        self.options = options
        self.rejects = rejects
        self.progress = progress
        self.summary = IngestSummary()
        self.now = dt.datetime.now(dt.UTC)
        self._embedded = 0
        self._features = stores.features_dimension
        self.keys: set[tuple[str, str]] = set()
        """New names of queries: datasets and keys."""

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time spent in the context to the seconds of a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.summary.seconds[stage] += time.perf_counter() - start

    def finish_open_batches(self) -> None:
        """Write the missing vectors of batches that an interrupted ingest left open; a restore is left to itself."""
        graph = self.stores.graph
        batches = graph.nodes(NodeLabel.BATCH, ["id", "state"]).to_pylist()
        open_ids = [batch["id"] for batch in batches if batch["state"] != "done" and batch["id"] != RESTORED]
        if not open_ids:
            return
        self.progress.stage("finish an interrupted ingest")
        fill_vectors(self.stores, batches=open_ids, progress=self.progress)
        for batch in open_ids:
            graph.write_batch({"id": batch, "state": "done"})
        self.summary.finished_batches = len(open_ids)

    def add(self, source: RowSource, shown: str) -> None:
        """Ingest one source, block by block; `shown` is its name in the progress."""
        seen = Occurrences()
        batch: dict[str, object] | None = None
        name = f"ingest {shown}"
        rows, position, rejected_before, rows_before = iter(source), 0, self.rejects.count, self.summary.rows
        while True:
            self.progress.stage(name, source.size)
            with self.timed("read"):
                chunk = list(islice(rows, self.options.block_rows))
                records = self._parse(source, chunk, seen)
            if not chunk:
                break
            if batch is None:
                identity = ids.vector_key("\n".join(item.id for item in records))
                batch = {"id": f"b-{identity[:24]}", "source": source.name, "state": "open", "created_at": self.now}
            self.summary.rows += len(chunk)
            batch["rows"] = self.summary.rows - rows_before
            batch["rejected"] = self.rejects.count - rejected_before
            self._write(source.name, records, batch)
            self.progress.stage(name, source.size)
            self.progress.advance(source.position() - position)
            position = source.position()
        if batch is not None and self._is_open(str(batch["id"])):
            with self.timed("vectors"):
                if isinstance(self.stores.location, ServerLocation):
                    # Another process may have ingested the same file and died after writing a block's nodes.
                    fill_vectors(self.stores, batches=[str(batch["id"])])
                self.stores.vectors.flush()
            self.stores.graph.write_batch({"id": batch["id"], "state": "done"})

    def _is_open(self, batch: str) -> bool:
        found = self.stores.graph.nodes(NodeLabel.BATCH, ["id", "state"], ids=[batch]).to_pylist()
        return any(row["state"] != "done" for row in found)

    def _parse(self, source: RowSource, chunk: list[Row], seen: Occurrences) -> list[ParsedRow]:
        """Validate rows and assign ids; invalid rows go to the rejects file."""
        parsed = []
        for row in chunk:
            if row.values is None:
                self.rejects.add(source.name, row.number, row.reason or "unreadable", row.raw)
                continue
            try:
                record = parse_record(row.values, self.options.defaults)
            except RecordError as error:
                self.rejects.add(source.name, row.number, str(error), dict(row.values))
                continue
            if record.metadata is not None:
                self.summary.other_keys |= json.loads(record.metadata).keys() & row.values.keys()
            parsed.append(ParsedRow(assign_ids(record, source.stem, seen), row))
        return parsed

    def _write(self, source: str, rows: list[ParsedRow], batch: dict[str, object]) -> None:
        """Classify the rows of a block as new, changed, unchanged or conflicting; write the new and changed ones."""
        graph = self.stores.graph
        with self.timed("graph"):
            wanted = sorted({row.record.query_id for row in rows})
            known = self._known_queries(wanted)
            stored_queries = set(known)
            stored = graph.nodes(NodeLabel.THINKING, LABEL_SCHEMA.names, ids=[row.id for row in rows]).to_pylist()
            rewards: dict[str, float | None] = {row["id"]: row["reward"] for row in stored}
            stored_rollouts = set(rewards)
            persons = {row["id"] for row in stored if row["reward_source"] == PERSON}
            pending = Pending(known, rewards, set(alias_rows(graph.aliases(wanted))), persons)
            for row in rows:
                self._classify(source, row, pending)
            if pending.confirmed:
                confirm_labels(self.stores, pending.confirmed, GROUND_TRUTH)
        if pending.write or pending.names:
            self._write_columns(pending, batch, stored_queries, stored_rollouts)
        with self.timed("vectors"):
            self.summary.features_added += add_features(self.stores, pending.features)

    def _write_columns(
        self, pending: Pending, batch: dict[str, object], stored_queries: set[QueryId], stored_rollouts: set[str]
    ) -> None:
        """Embed and write the new and changed rows of a block."""
        graph = self.stores.graph
        with self.timed("read"):
            columns = to_columns(
                pending.write.values(), pending.known, batch=batch, created_at=self.now, names=pending.names
            )
        block = columns.block
        with self.timed("embed"):
            self._embed(columns.texts)
        with self.timed("graph"):
            counts = graph.write_block(block, replace=self.options.replace)
        self.summary.queries_added += counts.queries_added
        with self.timed("vectors"):
            self._write_vectors("query", block.queries, stored_queries)
            self._write_vectors("thinking", block.thinkings, stored_rollouts)

    def _known_queries(self, wanted: Sequence[QueryId]) -> dict[QueryId, KnownQuery]:
        found = self.stores.graph.nodes(NodeLabel.QUERY, ["id", "domain", "gold", "text"], ids=wanted).to_pylist()
        return {QueryId(row["id"]): KnownQuery(row["domain"], row["gold"], row["text"], stored=True) for row in found}

    def _classify(self, source: str, row: ParsedRow, pending: Pending) -> None:
        """Count a row; note what it changes in the memory, or add it to the rejects if it conflicts with it."""
        record, query = row.record.record, row.record.query_id
        rewards, write = pending.rewards, pending.write
        before = pending.known.get(query)
        length = None if record.features is None else len(record.features)
        conflict = features_conflict(length, self._features) or (before and query_conflict(record, before))
        if conflict:
            self.rejects.add(source, row.source.number, conflict, dict(row.source.values or {}))
            return
        after = merge_query(record, before)
        gains_gold = before is not None and after.gold != before.gold
        if row.id not in rewards:
            self.summary.added += 1
            write[row.id] = row.record
            rewards[row.id] = record.reward
        else:
            reward = rewards[row.id]
            if record.reward is None or reward == record.reward:
                self.summary.unchanged += 1
                if record.reward is not None and record.reward_source == GROUND_TRUTH and row.id in pending.persons:
                    pending.confirmed[row.id] = record.reward
                if gains_gold:
                    write.setdefault(row.id, row.record)
            elif reward is None or self.options.replace:
                self.summary.changed += 1
                write[row.id] = row.record
                rewards[row.id] = record.reward
            else:
                reason = (
                    f"its reward {record.reward:g} contradicts {reward:g}, which the memory holds for the same rollout "
                    f"({row.id}); correct the row, or overwrite the stored reward with --replace"
                )
                self.rejects.add(source, row.source.number, reason, dict(row.source.values or {}))
                return
        pending.known[query] = after
        if record.features is not None:
            self._features = length  # a row that is rejected decides nothing
            pending.features.setdefault(row.id, record.features)
        if (name := row.record.alias) not in pending.aliases:
            pending.aliases.add(name)
            pending.names.append(name)
            if record.key is not None:
                self.keys.add((record.dataset, record.key))

    def _embed(self, texts: dict[str, str]) -> None:
        if not texts:
            return
        # Blocks share one stage, so that it also ends at 100 % if two of them have the same number of texts.
        self.progress.stage("embed", self._embedded + len(texts))
        self.progress.advance(self._embedded)
        self._embedded += len(texts)
        embed_cached(self.stores.embedder, self.stores.cache, list(texts.values()), self.progress.advance)

    def _write_vectors(self, kind: VectorKind, nodes: pa.Table, stored: set[Any]) -> None:
        chosen = [
            (node, key)
            for node, key in zip(nodes["id"].to_pylist(), nodes["vector_key"].to_pylist(), strict=True)
            if key is not None and node not in stored
        ]
        if chosen:
            write_vectors(self.stores, kind, [node for node, _ in chosen], [key for _, key in chosen])
