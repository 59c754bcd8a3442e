"""Add new rollouts to a snapshot of a memory, as an ingest would to the memory, without storing anything.

A rollout or query that is in both keeps the memory's row; the names that a query has in the new rollouts are added.
Similarity edges are left out, since scoring looks up neighbours by vector.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from memstore.errors import InputError
from memstore.graph.protocol import EdgeTable
from memstore.snapshots.snapshot import Snapshot
from memstore.types import BoolVector, FloatVector, IntVector
from memstore_gnn.data.hetero import ENDS

_TABLES = ("queries", "thinkings", "answers", "runs", "datasets", "policies")
"""Node tables that are united; the memory's reward models stay."""
_EDGES = ("generates", "in", "leads_to", "produced", "wrote")
"""Edges that are united."""


class Ingested(NamedTuple):
    """A memory as it would be after an ingest.

    Attributes:
        snapshot: the memory with the new rollouts.
        reward: float64 [T], visible labels of the memory, NaN elsewhere.
        new: bool [T], the rollouts that were to be ingested, whether the memory had them or not.
    """

    snapshot: Snapshot
    reward: FloatVector
    new: BoolVector


def ingested(snapshot: Snapshot, new: Snapshot, reward: FloatVector) -> Ingested:
    """Add new rollouts to a memory; their own rewards are not read.

    Args:
        reward: float64 [T of snapshot], the labels that may be seen, NaN elsewhere.

    Raises:
        InputError: as `overlay`.
    """
    together = overlay(snapshot, new)
    row = pc.index_in(together.thinkings["id"], value_set=snapshot.thinkings["id"].combine_chunks())
    known = row.fill_null(len(reward)).to_numpy()
    return Ingested(together, np.append(reward, np.nan)[known], _within(together.thinkings["id"], new.thinkings["id"]))


def overlay(snapshot: Snapshot, new: Snapshot) -> Snapshot:
    """The memory with the rollouts of `new`.

    Raises:
        InputError: the two have vectors of different dimensions.
    """
    if new.thinking_x.shape[1] != snapshot.thinking_x.shape[1]:
        raise InputError(
            f"the new rollouts have vectors of dimension {new.thinking_x.shape[1]} and the memory's have "
            f"{snapshot.thinking_x.shape[1]}; embed them with the memory's embedder"
        )
    fresh = ~_within(new.thinkings["id"], snapshot.thinkings["id"])
    tables, rows = {}, {}
    for name in _TABLES:
        tables[name], rows[name] = _union(getattr(snapshot, name), getattr(new, name))
    edges = {name: _none(table) for name, table in snapshot.edges.items()}
    for name in _EDGES:
        ends, (source, target) = new.edges[name], ENDS[name]
        added = _new_names(snapshot, new) if name == "in" else fresh[ends.source if name == "leads_to" else ends.target]
        edges[name] = _edges(name, snapshot, new, rows[source], rows[target], added)
    return replace(
        snapshot,
        **tables,
        edges=edges,
        query_x=_rows_of(rows["queries"], snapshot.query_x, new.query_x),
        query_has_x=_rows_of(rows["queries"], snapshot.query_has_x, new.query_has_x),
        thinking_x=_rows_of(rows["thinkings"], snapshot.thinking_x, new.thinking_x),
        thinking_has_x=_rows_of(rows["thinkings"], snapshot.thinking_has_x, new.thinking_has_x),
        # No predictor reads them, and the new rollouts have none.
        features=None,
        has_features=None,
    )


def _new_names(old: Snapshot, new: Snapshot) -> BoolVector:
    """IN edges of `new` that `old` lacks, bool [E]."""
    known = set(_names(old))
    return np.array([name not in known for name in _names(new)], np.bool_)


def _names(snapshot: Snapshot) -> list[tuple[Any, ...]]:
    """Query, dataset, key and split of each IN edge."""
    edges = snapshot.edges["in"]
    ends = snapshot.queries["id"].take(edges.source), snapshot.datasets["name"].take(edges.target)
    columns = [*ends, edges.properties["key"], edges.properties["split"]]
    return list(zip(*(column.to_pylist() for column in columns), strict=True))


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


def _rows_of(rows: _Rows, old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """An array of the union from the arrays of the two tables, one row a node."""
    both = np.zeros((rows.size, *old.shape[1:]), old.dtype)
    # The memory's vectors are written last: a text that was embedded again can differ in the last bits.
    both[rows.new] = new
    both[rows.old] = old
    return both


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
