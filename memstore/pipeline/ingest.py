"""Ingest: files of rollouts into the memory, resumable at any instant.

read -> validate -> split -> canonical answer -> embed -> graph -> vectors -> links, a block of rows at a time.
Three rules make a killed ingest harmless:

1. A block's vectors are durable in the content cache before its nodes are in the graph, so a node in the graph can
   always be given the very vector it would have had.
2. A block enters the graph in one transaction together with its Batch node in state `open`. The vector store comes
   after; the Batch becomes `done` when everything of it is there. The next ingest finishes the batches left open.
3. Ids come from content. What is there already is counted as unchanged and costs neither embedding nor writing.

A row that cannot go in is written to the rejects file with its line and reason; the rest goes in.
"""

from __future__ import annotations

import datetime as dt
import errno
import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from memstore.embedding.cached import embed_cached
from memstore.errors import RecordError, StoreFullError
from memstore.locations.location import ServerLocation
from memstore.locations.stores import Stores
from memstore.pipeline.link import link_memory
from memstore.pipeline.vectors import fill_vectors, write_vectors
from memstore.progress import Progress, Silent
from memstore.records import ids
from memstore.records.columns import KnownQuery, Occurrences, PlacedRecord, collate, contradiction, place, settle
from memstore.records.readers import RowSource, open_source
from memstore.records.record import RecordDefaults, Row, parse_record
from memstore.records.rejects import Rejects
from memstore.types import QueryId, VectorKind
from memstore_schema.columns import NodeLabel

BLOCK_ROWS = 8192
"""Rows that are read, embedded and written together: a kill loses at most the embedding of one slice of these."""
_STAGES = ("read", "embed", "graph", "vectors", "link", "total")


@dataclass
class IngestSummary:
    """What an ingest did; `as_json` has the keys that the command promises."""

    rows: int = 0
    added: int = 0
    unchanged: int = 0
    changed: int = 0
    queries_added: int = 0
    rejected: int = 0
    rejects_file: str | None = None
    reject_examples: list[str] = field(default_factory=list)
    finished_batches: int = 0
    """Batches that an earlier ingest had left open and this one finished."""
    other_keys: set[str] = field(default_factory=set)
    """Keys that are not the record's own; they joined `metadata`."""
    links: dict[str, int] = field(default_factory=lambda: {"query": 0, "thinking": 0})
    """Similarity edges in the memory after this ingest."""
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_STAGES, 0.0))

    def as_json(self) -> dict[str, Any]:
        """The promised document."""
        return {
            "rows": self.rows,
            "rollouts": {"added": self.added, "unchanged": self.unchanged, "changed": self.changed},
            "queries": {"added": self.queries_added},
            "rejected": self.rejected,
            "rejects_file": self.rejects_file,
            "links": self.links,
            "seconds": {name: round(value, 3) for name, value in self.seconds.items()},
            "finished_batches": self.finished_batches,
            "other_keys": sorted(self.other_keys),
        }


@dataclass(frozen=True)
class IngestOptions:
    """What the caller says about the rows of an ingest."""

    defaults: RecordDefaults = field(default_factory=RecordDefaults)
    replace: bool = False
    """Overwrite a reward that differs from the known one instead of rejecting the row."""
    link: bool = True
    block_rows: int = BLOCK_ROWS


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
        sources: files, or "-" for standard input.
        rejects_file: where rejected rows go; beside the memory's other files unless said.

    Raises:
        InputError: a source that cannot be read at all.
        StoreFullError: no space left; what was written before stays and the same command goes on from there.
    """
    options = options or IngestOptions()
    opened = [open_source(source) for source in sources]
    started = time.perf_counter()
    path = rejects_file or stores.rejects_folder / rejects_name(sources)
    with _space_errors(stores), Rejects(path) as rejects:
        run = _Ingest(stores, options, rejects, progress or Silent())
        run.finish_open_batches()
        for source in opened:
            run.add(source)
        if options.link:
            with run.timed("link"):
                run.summary.links = link_memory(stores, progress=progress).edges
        stores.graph.checkpoint()
    summary = run.summary
    summary.rejected = rejects.count
    summary.rejects_file = str(rejects.path) if rejects.count else None
    summary.reject_examples = rejects.examples
    summary.seconds["total"] = time.perf_counter() - started
    return summary


def rejects_name(sources: Sequence[str | Path]) -> str:
    """The rejects file of these sources: files of one name in two folders have one each, a repeated ingest the same."""
    if not sources:
        return "ingest.rejects.jsonl"
    places = "\n".join(source if source == "-" else str(Path(source).resolve()) for source in map(str, sources))
    digest = hashlib.blake2b(places.encode("utf-8", "surrogateescape"), digest_size=4).hexdigest()
    return f"{open_source(sources[0]).stem}-{digest}.rejects.jsonl"


class _Ingest:
    """State of one ingest call."""

    def __init__(self, stores: Stores, options: IngestOptions, rejects: Rejects, progress: Progress) -> None:
        self.stores = stores
        self.options = options
        self.rejects = rejects
        self.progress = progress
        self.summary = IngestSummary()
        self.now = dt.datetime.now(dt.UTC)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.summary.seconds[stage] += time.perf_counter() - start

    def finish_open_batches(self) -> None:
        """Give the vectors to nodes whose ingest ended between graph and vector store."""
        graph = self.stores.graph
        batches = graph.nodes(NodeLabel.BATCH, ["id", "state"]).to_pylist()
        open_ids = [batch["id"] for batch in batches if batch["state"] != "done"]
        if not open_ids:
            return
        self.progress.stage("finish what an earlier ingest began")
        fill_vectors(self.stores, batches=open_ids, progress=self.progress)
        for batch in open_ids:
            graph.write_batch({"id": batch, "state": "done"})
        self.summary.finished_batches = len(open_ids)

    def add(self, source: RowSource) -> None:
        """Read one source to its end."""
        seen = Occurrences()
        batch: dict[str, object] | None = None
        name = f"ingest {source.name}"
        rows, position, rejected_before, rows_before = iter(source), 0, self.rejects.count, self.summary.rows
        while True:
            self.progress.stage(name, source.size)
            with self.timed("read"):
                chunk = list(islice(rows, self.options.block_rows))
                placed = self._place(source, chunk, seen)
            if not chunk:
                break
            if batch is None:
                identity = ids.vector_key("\n".join(item.id for item in placed))
                batch = {"id": f"b-{identity[:24]}", "source": source.name, "state": "open", "created_at": self.now}
            self.summary.rows += len(chunk)
            batch["rows"] = self.summary.rows - rows_before
            batch["rejected"] = self.rejects.count - rejected_before
            self._write(source.name, placed, batch)
            self.progress.stage(name, source.size)
            self.progress.advance(source.position() - position)
            position = source.position()
        if batch is not None and self._is_open(str(batch["id"])):
            with self.timed("vectors"):
                if isinstance(self.stores.location, ServerLocation):
                    # Another process may ingest the same file, and have died between a block's nodes and its vectors.
                    fill_vectors(self.stores, batches=[str(batch["id"])])
                self.stores.vectors.flush()
            self.stores.graph.write_batch({"id": batch["id"], "state": "done"})

    def _is_open(self, batch: str) -> bool:
        found = self.stores.graph.nodes(NodeLabel.BATCH, ["id", "state"], ids=[batch]).to_pylist()
        return any(row["state"] != "done" for row in found)

    def _place(self, source: RowSource, chunk: list[Row], seen: Occurrences) -> list[_Placed]:
        placed = []
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
            placed.append(_Placed(place(record, source.stem, seen), row))
        return placed

    def _write(self, source: str, rows: list[_Placed], batch: dict[str, object]) -> None:
        """Sort a block's rows into new, changed, unchanged and contradicting, and write the first two."""
        graph = self.stores.graph
        with self.timed("graph"):
            known = self._known_queries({row.placed.query_id for row in rows})
            stored_queries = set(known)
            stored = graph.nodes(NodeLabel.THINKING, ["id", "reward"], ids=[row.id for row in rows])
            rewards: dict[str, float | None] = dict(
                zip(stored["id"].to_pylist(), stored["reward"].to_pylist(), strict=True)
            )
            stored_rollouts = set(rewards)
            write: dict[str, PlacedRecord] = {}
            for row in rows:
                self._sort_in(source, row, known, rewards, stored_rollouts, write)
        if not write:
            return
        with self.timed("read"):
            collated = collate(write.values(), known, batch=batch, created_at=self.now)
        block = collated.block
        with self.timed("embed"):
            self._embed(collated.texts)
        with self.timed("graph"):
            counts = graph.write_block(block, replace=self.options.replace)
        self.summary.queries_added += counts.queries_added
        with self.timed("vectors"):
            self._write_vectors("query", block.queries, stored_queries)
            self._write_vectors("thinking", block.thinkings, stored_rollouts)

    def _known_queries(self, wanted: set[QueryId]) -> dict[QueryId, KnownQuery]:
        found = self.stores.graph.nodes(NodeLabel.QUERY, ["id", "domain", "gold"], ids=sorted(wanted))
        return {QueryId(row["id"]): KnownQuery(row["domain"], row["gold"]) for row in found.to_pylist()}

    def _sort_in(
        self,
        source: str,
        row: _Placed,
        known: dict[QueryId, KnownQuery],
        rewards: dict[str, float | None],
        stored: set[str],
        write: dict[str, PlacedRecord],
    ) -> None:
        record, query = row.placed.record, row.placed.query_id
        before = known.get(query)
        if before is not None and (refused := contradiction(record, before)):
            self.rejects.add(source, row.source.number, refused, dict(row.source.values or {}))
            return
        after = settle(record, before)
        gains_gold = before is not None and after.gold != before.gold
        if row.id not in rewards:
            self.summary.added += 1
            write[row.id] = row.placed
            rewards[row.id] = record.reward
        else:
            reward = rewards[row.id]
            if record.reward is None or reward == record.reward:
                self.summary.unchanged += 1
                if gains_gold:
                    write.setdefault(row.id, row.placed)
            elif reward is None or self.options.replace:
                self.summary.changed += 1
                write[row.id] = row.placed
                rewards[row.id] = record.reward
            else:
                reason = (
                    f"its reward {record.reward:g} contradicts {reward:g}, which the memory holds for the same rollout "
                    f"({row.id}); correct the row, or pass --replace to overwrite the known one"
                )
                self.rejects.add(source, row.source.number, reason, dict(row.source.values or {}))
                return
        known[query] = after

    def _embed(self, texts: dict[str, str]) -> None:
        self.progress.stage("embed", len(texts))
        embed_cached(self.stores.embedder, self.stores.cache, list(texts.values()), self.progress.advance)

    def _write_vectors(self, kind: VectorKind, nodes: pa.Table, stored: set[Any]) -> None:
        chosen = [
            (node, key)
            for node, key in zip(nodes["id"].to_pylist(), nodes["vector_key"].to_pylist(), strict=True)
            if key is not None and node not in stored
        ]
        if chosen:
            write_vectors(self.stores, kind, [node for node, _ in chosen], [key for _, key in chosen])


@dataclass(frozen=True, slots=True)
class _Placed:
    placed: PlacedRecord
    source: Row

    @property
    def id(self) -> str:
        return self.placed.id


@contextmanager
def _space_errors(stores: Stores) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise StoreFullError(
            f"no space left while writing to {stores.location}; free some and run the same command again: "
            "it goes on where this one stopped"
        ) from error
