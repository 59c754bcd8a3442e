"""Read files of rollouts as a snapshot without storing them. This is how a file is scored.

Reading, ids, answers and vectors are those of an ingest, so a rollout that is scored from a file and ingested later is
the same node.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from memstore.embedding.cached import embed_cached
from memstore.errors import InputError, RecordError
from memstore.graph.protocol import EdgeTable, GraphBlock
from memstore.locations.stores import Stores
from memstore.progress import Progress, Silent
from memstore.records.columns import (
    IdentifiedRecord,
    KnownQuery,
    Occurrences,
    assign_ids,
    domain_conflict,
    merge_query,
    to_columns,
)
from memstore.records.readers import expand_paths
from memstore.records.record import RecordDefaults, parse_record
from memstore.records.rollouts import open_rollouts
from memstore.snapshots.snapshot import Manifest, Snapshot
from memstore.snapshots.take import BOOKKEEPING, complete_edges, manifest_of
from memstore.types import BoolVector, FloatMatrix, IntVector, QueryId
from memstore_schema.columns import NODE_COLUMNS, NodeLabel, node_schema


def read_rollouts(
    stores: Stores,
    sources: Sequence[str | Path],
    defaults: RecordDefaults | None = None,
    *,
    progress: Progress | None = None,
) -> Snapshot:
    """Read the rollouts of these files as a snapshot, with vectors of the memory's embedder; the graph is not changed.

    The `leads_to` edges carry the answers as written. There are no similarity edges.

    Raises:
        InputError: a source cannot be read, or a row is not a rollout or contradicts the domain of its query. One
            invalid row fails the whole call, because a score that is missing from the output would go unnoticed.
    """
    progress = progress or Silent()
    located: list[tuple[str, IdentifiedRecord]] = []
    for path in expand_paths(sources):
        source, seen = open_rollouts(path, defaults or RecordDefaults()), Occurrences()
        progress.stage(f"read {source.name}", source.size)
        for row in source:
            if row.values is None:
                raise InputError(f"{source.name}:{row.number}: {row.reason}")
            try:
                item = assign_ids(parse_record(row.values, defaults or RecordDefaults()), source.stem, seen)
            except RecordError as error:
                raise InputError(f"{source.name}:{row.number}: {error}") from error
            located.append((f"{source.name}:{row.number}", item))
    known = _known_queries(stores, located)
    rollouts = [item for _, item in located]
    columns = to_columns(rollouts, known, batch={"id": ""}, created_at=dt.datetime.now(dt.UTC))
    progress.stage("embed", len(columns.texts))
    keys = list(columns.texts)
    vectors = embed_cached(stores.embedder, stores.cache, list(columns.texts.values()), progress.advance)
    return block_snapshot(manifest_of(stores, ""), columns.block, keys, vectors)


def _known_queries(stores: Stores, located: Sequence[tuple[str, IdentifiedRecord]]) -> dict[QueryId, KnownQuery]:
    """The queries of these rollouts, without the memory's gold answers.

    A query that the memory holds keeps its text and domain, so that answers are read the same way.

    Args:
        located: each rollout with its position in the input, `FILE:LINE`.

    Raises:
        InputError: a row has another domain than its query.
    """
    wanted = sorted({item.query_id for _, item in located})
    stored = stores.graph.nodes(NodeLabel.QUERY, ["id", "domain", "gold", "text"], ids=wanted).to_pylist()
    before = {QueryId(row["id"]): KnownQuery(row["domain"], row["gold"], row["text"], stored=True) for row in stored}
    known = {query: replace(found, gold=None) for query, found in before.items()}
    for where, item in located:
        query = known.get(item.query_id)
        if query is not None and (conflict := domain_conflict(item.record, before.get(item.query_id, query))):
            raise InputError(f"{where}: {conflict}")
        known[item.query_id] = merge_query(item.record, query)
    return known


def block_snapshot(manifest: Manifest, block: GraphBlock, keys: list[str], vectors: FloatMatrix) -> Snapshot:
    """Convert a block that is not stored to a snapshot.

    Args:
        manifest: embedder and splitter that made the block.
        keys: vector keys of the block's texts.
        vectors: float32 [len(keys), D], one row a key.
    """
    tables = ("queries", "thinkings", "answers", "runs", "policies", "datasets")
    block = replace(block, **{name: _ordered(getattr(block, name)) for name in tables})
    row = {key: position for position, key in enumerate(keys)}
    query_x, query_has_x = _vector_rows(block.queries["vector_key"], row, vectors)
    thinking_x, thinking_has_x = _vector_rows(block.thinkings["vector_key"], row, vectors)
    return Snapshot(
        manifest=manifest,
        queries=block.queries.select(_kept(NodeLabel.QUERY)),
        thinkings=block.thinkings.select(_kept(NodeLabel.THINKING)),
        answers=block.answers,
        runs=block.runs,
        reward_models=node_schema(NodeLabel.REWARD_MODEL).empty_table(),
        datasets=block.datasets,
        policies=block.policies,
        edges=_edges(block),
        query_x=query_x,
        thinking_x=thinking_x,
        query_has_x=query_has_x,
        thinking_has_x=thinking_has_x,
    )


def _edges(block: GraphBlock) -> dict[str, EdgeTable]:
    """The edges between the nodes of a block with ordered tables; none of links, scores and influences."""
    queries, thinkings, aliases = block.queries["id"], block.thinkings, block.aliases
    answer_of = _positions(thinkings["answer_id"], block.answers["id"])
    answered = np.flatnonzero(answer_of >= 0)
    written = pa.table({"text": thinkings["answer_text"].take(pa.array(answered))})
    everything, nothing = np.arange(len(thinkings)), _no_properties(len(thinkings))
    in_query = _positions(aliases["query_id"], queries)
    in_dataset = _positions(aliases["dataset"], block.datasets["name"])
    edges = {
        "generates": _sorted_edges(_positions(thinkings["query_id"], queries), everything, nothing),
        "in": _sorted_edges(in_query, in_dataset, aliases.select(["key", "split"])),
        "leads_to": _sorted_edges(answered, answer_of[answered], written),
        "produced": _sorted_edges(_positions(thinkings["run"], block.runs["name"]), everything, nothing),
        "wrote": _sorted_edges(_positions(thinkings["policy_id"], block.policies["id"]), everything, nothing),
    }
    return complete_edges(edges)


def _kept(label: NodeLabel) -> list[str]:
    """Columns of a label's node table in a snapshot."""
    return [name for name in NODE_COLUMNS[label] if name not in BOOKKEEPING]


def _ordered(table: pa.Table) -> pa.Table:
    return table.sort_by("id").combine_chunks()


def _positions(values: pa.ChunkedArray, of: pa.ChunkedArray) -> IntVector:
    """Position of each value in `of`, int64 [N]; -1 if it is not there."""
    found = pc.fill_null(pc.index_in(values, value_set=of.combine_chunks()), -1)
    positions: IntVector = found.to_numpy(zero_copy_only=False).astype(np.int64)
    return positions


def _vector_rows(keys: pa.ChunkedArray, row: dict[str, int], vectors: FloatMatrix) -> tuple[FloatMatrix, BoolVector]:
    """Vectors float32 [N, D] by key, zero where the key is null, and bool [N]."""
    position = np.array([-1 if key is None else row[key] for key in keys.to_pylist()], dtype=np.int64)
    has = position >= 0
    x = np.zeros((len(position), vectors.shape[1]), dtype=np.float32)
    x[has] = vectors[position[has]]
    return x, has


def _sorted_edges(source: IntVector, target: IntVector, properties: pa.Table) -> EdgeTable:
    order = np.lexsort((target, source))
    kept = properties.take(pa.array(order)) if properties.num_columns else properties
    return EdgeTable(source[order], target[order], kept)


def _no_properties(rows: int) -> pa.Table:
    return pa.table({"_": pa.nulls(rows)}).select([])
