"""What pages read: an open memory or a snapshot.

Nodes and edges are read by id, so that a page costs what it shows, however large the memory is. Lists of queries are
paged by key: the ids after the last one shown.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from memstore.errors import InputError
from memstore.graph.find_queries import find_in
from memstore.graph.protocol import CypherResult, EdgeTable, GraphReader
from memstore.graph.query_filter import QueryFilter
from memstore.memory import Memory
from memstore.snapshots.snapshot import Snapshot
from memstore.snapshots.take import EDGE_NAMES, TABLES
from memstore_gnn.models.registry import model_in_use
from memstore_schema.columns import EdgeOwner, EdgeType, NodeLabel, node_schema

SEARCH_S = 10.0
"""Seconds that a search in a memory may take."""
SEEKS = 2_000
"""Ids that are looked up one after the other in a snapshot; for more, all its ids are hashed."""


class Source(GraphReader, Protocol):
    """A memory or snapshot that pages show."""

    name: str
    """Where it is, for titles."""
    read_only: bool
    speaks_cypher: bool
    """Whether `cypher` can run a query."""

    def find_queries(self, wanted: QueryFilter, after: str, limit: int) -> list[str]:
        """The ids of the first queries that a filter selects and that come after an id, in their order."""
        ...

    def model_in_use(self) -> str | None:
        """Id of the reward model whose scores are shown; None without one."""
        ...

    def model_folder(self, path: str) -> Path | None:
        """The folder of a model's files, whose node has this path; None if they are not on this machine."""
        ...

    def facts(self) -> dict[str, str]:
        """What there is to know about the stores, by name."""
        ...

    def version(self) -> int | None:
        """A number that changes with what is stored; None where it may change unnoticed."""
        ...

    def cypher(self, query: str, parameters: Mapping[str, Any], timeout_s: float) -> CypherResult:
        """Run a query that reads.

        Raises:
            InputError: the query is invalid or writes, or the source has no Cypher.
        """
        ...


class MemorySource:
    """An open memory. Lists and searches are Cypher queries, so they show what is stored now."""

    def __init__(self, memory: Memory, *, read_only: bool = False) -> None:
        self.memory = memory
        self.name = str(memory.location)
        self.read_only = read_only or memory.graph.read_only
        self.speaks_cypher = memory.graph.speaks_cypher
        self.nodes = memory.graph.nodes
        self.edges = memory.graph.edges
        self.edges_of = memory.graph.edges_of
        self.version = memory.graph.version

    def find_queries(self, wanted: QueryFilter, after: str, limit: int) -> list[str]:
        """See `Source`."""
        return self.memory.graph.find_queries(wanted, after, limit, timeout_s=SEARCH_S)

    def model_in_use(self) -> str | None:
        """See `Source`."""
        return model_in_use(self.memory, self.nodes(NodeLabel.REWARD_MODEL, ["id", "version"]).to_pylist())

    def model_folder(self, path: str) -> Path | None:
        """See `Source`."""
        return _folder(self.memory.folder, path)

    def facts(self) -> dict[str, str]:
        """See `Source`."""
        embedder = self.memory.fingerprint
        return {
            "memory": self.name,
            "namespace": self.memory.namespace,
            "graph store": f"{self.memory.graph.backend}, schema {self.memory.graph.schema_version()}",
            "embedder": str(embedder) if embedder else "none yet",
            "links": str(self.memory.link_settings),
        }

    def cypher(self, query: str, parameters: Mapping[str, Any], timeout_s: float) -> CypherResult:
        """See `Source`."""
        return self.memory.cypher(query, parameters, timeout_s=timeout_s)


class SnapshotSource:
    """A snapshot with texts, which is read-only."""

    read_only = True
    speaks_cypher = False

    def __init__(self, snapshot: Snapshot, name: str, folder: Path | None = None) -> None:
        """Prepare to look nodes up by id.

        Args:
            name: where it is, for titles.
            folder: its folder, which has the files of its models; None: there are none.

        Raises:
            InputError: the snapshot was taken without texts.
        """
        if "text" not in snapshot.queries.column_names:
            raise InputError("this snapshot was taken without texts, and pages show texts; take one with texts")
        self.snapshot, self.name, self._folder = snapshot, name, folder
        self._table_of = {label: getattr(snapshot, name) for label, name in TABLES.items()}
        self._name_of = {ends: name for name, ends in EDGE_NAMES.items()}
        self._ids = {label: table["id"].combine_chunks() for label, table in self._table_of.items()}

    def nodes(self, label: NodeLabel, columns: Sequence[str], *, ids: Sequence[str] | None = None) -> pa.Table:
        """See `GraphStore.nodes`; a snapshot has no batches."""
        table = self._table_of.get(label, node_schema(label).empty_table())
        if ids is not None:
            rows = self._rows(label, ids)
            table = table.take(pa.array(np.unique(rows[rows >= 0])))
        for name in set(columns) - set(table.column_names):
            table = table.append_column(name, pa.nulls(len(table), node_schema(label).field(name).type))
        return table.select(list(columns))

    def edges(
        self, edge: EdgeType, source: NodeLabel, target: NodeLabel, columns: Sequence[str] | None = None
    ) -> EdgeTable:
        """See `GraphStore.edges`."""
        found = self.snapshot.edges[self._name_of[edge, source, target]]
        return found if columns is None else EdgeTable(found.source, found.target, found.properties.select(columns))

    def edges_of(
        self,
        edge: EdgeType,
        source: NodeLabel,
        target: NodeLabel,
        ids: Sequence[str],
        *,
        by: EdgeOwner = "source",
        columns: Sequence[str] = (),
    ) -> pa.Table:
        """See `GraphStore.edges_of`."""
        if by == "query":
            rollouts = self.edges_of(EdgeType.GENERATES, NodeLabel.QUERY, NodeLabel.THINKING, ids)["target_id"]
            return self.edges_of(edge, source, target, rollouts.to_pylist(), columns=columns)
        found = self.edges(edge, source, target)
        rows = self._rows(source if by == "source" else target, ids)
        rows = np.unique(rows[rows >= 0])
        if by == "source":  # edges are ordered by it
            bounds = zip(*(np.searchsorted(found.source, rows, side) for side in ("left", "right")), strict=True)
            at = np.concatenate([np.empty(0, np.int64), *(np.arange(*bound) for bound in bounds)])
        else:
            at = np.flatnonzero(np.isin(found.target, rows))
        ends = {
            "source_id": self._table_of[source]["id"].take(pa.array(found.source[at])),
            "target_id": self._table_of[target]["id"].take(pa.array(found.target[at])),
        }
        return pa.table(ends | {name: found.properties[name].take(pa.array(at)) for name in columns})

    def _rows(self, label: NodeLabel, ids: Sequence[str]) -> np.ndarray:
        """Rows of these nodes, -1 for one that does not exist. Nodes are ordered by id."""
        known = self._ids[label]
        if len(ids) > SEEKS:
            found = pc.index_in(pa.array(ids, pa.string()), value_set=known)
            return np.asarray(found.fill_null(-1).to_numpy(zero_copy_only=False), np.int64)
        rows = [bisect_left(known, name, key=lambda scalar: scalar.as_py()) for name in ids]
        there = (row < len(known) and known[row].as_py() == name for row, name in zip(rows, ids, strict=True))
        return np.asarray([row if found else -1 for row, found in zip(rows, there, strict=True)], np.int64)

    def find_queries(self, wanted: QueryFilter, after: str, limit: int) -> list[str]:
        """See `Source`."""
        return find_in(self, wanted, after, limit)

    def version(self) -> int:
        """See `Source`; a snapshot never changes."""
        return 0

    def model_in_use(self) -> str | None:
        """See `Source`; a snapshot does not record a promotion, so it is the newest model."""
        models = self.snapshot.reward_models.select(["id", "version"]).to_pylist()
        return max(models, key=lambda one: (one["version"] or 0, one["id"]))["id"] if models else None

    def model_folder(self, path: str) -> Path | None:
        """See `Source`."""
        return None if self._folder is None else _folder(self._folder, path)

    def facts(self) -> dict[str, str]:
        """See `Source`."""
        manifest = self.snapshot.manifest
        return {
            "snapshot": f"{self.name} ({manifest.id})",
            "taken": manifest.created_at,
            "namespace": manifest.namespace,
            "embedder": manifest.embedder,
            "links": manifest.links,
        }

    def cypher(self, query: str, parameters: Mapping[str, Any], timeout_s: float) -> CypherResult:
        """See `Source`."""
        raise InputError("a snapshot cannot be queried with Cypher; restore it into a memory with: memstore restore")


def _folder(parent: Path, path: str) -> Path | None:
    """A folder of this relative path that is there, and within its parent."""
    folder = (parent / path).resolve()
    return folder if folder.is_dir() and folder.is_relative_to(parent.resolve()) else None
