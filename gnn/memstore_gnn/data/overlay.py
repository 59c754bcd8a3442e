"""Combine new rollouts with a memory's rollouts of the same queries, as an ingest would, without storing anything.

A rollout that is in both keeps the memory's row. Similarity edges are left out, since scoring looks up neighbours by
vector.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from memstore.errors import InputError
from memstore.graph.protocol import EdgeTable
from memstore.snapshots.snapshot import Snapshot
from memstore.types import BoolVector, IntVector
from memstore_gnn.data.hetero import subgraph


def overlay(snapshot: Snapshot, new: Snapshot) -> Snapshot:
    """The rollouts of `new` and the memory's rollouts of the same queries.

    Raises:
        InputError: the two have vectors of different dimensions.
    """
    if new.thinking_x.shape[1] != snapshot.thinking_x.shape[1]:
        raise InputError(
            f"the new rollouts have vectors of dimension {new.thinking_x.shape[1]} and the memory's have "
            f"{snapshot.thinking_x.shape[1]}; embed them with the memory's embedder"
        )
    shared = _within(new.queries["id"], snapshot.queries["id"])
    if not shared.any():
        return new
    old = subgraph(snapshot, new.queries["id"].to_numpy()[shared].tolist())
    fresh = ~_within(new.thinkings["id"], old.thinkings["id"])
    queries, query_rows = _union(old.queries, new.queries)
    thinkings, thinking_rows = _union(old.thinkings, new.thinkings)
    answers, answer_rows = _union(old.answers, new.answers)
    runs, run_rows = _union(old.runs, new.runs)
    query_x, query_has_x = _vectors(query_rows, old.query_x, new.query_x, old.query_has_x, new.query_has_x)
    thinking_x, thinking_has_x = _vectors(
        thinking_rows, old.thinking_x, new.thinking_x, old.thinking_has_x, new.thinking_has_x
    )
    edges = {
        "generates": _edges("generates", old, new, query_rows, thinking_rows, fresh[new.edges["generates"].target]),
        "leads_to": _edges("leads_to", old, new, thinking_rows, answer_rows, fresh[new.edges["leads_to"].source]),
        "produced": _edges("produced", old, new, run_rows, thinking_rows, fresh[new.edges["produced"].target]),
        "query_similar": _none(old.edges["query_similar"]),
        "thinking_similar": _none(old.edges["thinking_similar"]),
        "scored_by": _none(old.edges["scored_by"]),
    }
    return replace(
        old,
        queries=queries,
        thinkings=thinkings,
        answers=answers,
        runs=runs,
        edges=edges,
        query_x=query_x,
        query_has_x=query_has_x,
        thinking_x=thinking_x,
        thinking_has_x=thinking_has_x,
    )


class _Rows:
    """Rows of two tables in their union: int64 [old] and [new]."""

    def __init__(self, old: IntVector, new: IntVector, size: int) -> None:
        self.old, self.new, self.size = old, new, size


def _within(ids: pa.ChunkedArray, known: pa.ChunkedArray) -> BoolVector:
    return np.asarray(pc.is_in(ids, value_set=known.combine_chunks()).to_numpy(), dtype=np.bool_)


def _union(old: pa.Table, new: pa.Table) -> tuple[pa.Table, _Rows]:
    """All rows of `old`, and the rows of `new` with other ids, ordered by id."""
    added = new.select(old.column_names).cast(old.schema).filter(pa.array(~_within(new["id"], old["id"])))
    table = pa.concat_tables([old, added]).sort_by("id").combine_chunks()
    ids = table["id"].combine_chunks()

    def rows(part: pa.Table) -> IntVector:
        return np.asarray(pc.index_in(part["id"], value_set=ids).to_numpy(), dtype=np.int64)

    return table, _Rows(rows(old), rows(new), len(table))


def _vectors(
    rows: _Rows, old: np.ndarray, new: np.ndarray, old_has: BoolVector, new_has: BoolVector
) -> tuple[np.ndarray, BoolVector]:
    x = np.zeros((rows.size, old.shape[1]), np.float32)
    has = np.zeros(rows.size, np.bool_)
    # The memory's vectors are written last: a text that was embedded again can differ in the last bits.
    x[rows.new], has[rows.new] = new, new_has
    x[rows.old], has[rows.old] = old, old_has
    return x, has


def _edges(name: str, old: Snapshot, new: Snapshot, source: _Rows, target: _Rows, fresh: BoolVector) -> EdgeTable:
    """The memory's edges and those of rollouts that are only in `new`, ordered by (source, target)."""
    first, second = old.edges[name], new.edges[name]
    sources = np.concatenate((source.old[first.source], source.new[second.source[fresh]]))
    targets = np.concatenate((target.old[first.target], target.new[second.target[fresh]]))
    order = np.lexsort((targets, sources))
    properties = first.properties
    if properties.num_columns:
        added = second.properties.select(properties.column_names).filter(pa.array(fresh))
        properties = pa.concat_tables([properties, added.cast(properties.schema)]).take(pa.array(order))
    return EdgeTable(sources[order], targets[order], properties)


def _none(edges: EdgeTable) -> EdgeTable:
    empty = np.zeros(0, np.int64)
    return EdgeTable(empty, empty, edges.properties.slice(0, 0))
