"""Edges of a conversion to schema 2: build them from ids, and carry those over whose ends got other ids."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from memstore.graph.protocol import EdgeTable
from memstore.snapshots.take import EDGE_NAMES
from memstore_schema.columns import EDGE_ENDS, EdgeType, NodeLabel, edge_schema

EdgeRow: TypeAlias = tuple[str, str, dict[str, Any]]
"""Ids of source and target, and the properties."""

CARRIED = {
    name: EDGE_NAMES[name]
    for name in ("produced", "query_similar", "thinking_similar", "scored_by", "query_influence", "thinking_influence")
}
"""Type and ends of the edges that are carried over as they are."""

ADDED: dict[EdgeType, tuple[str, ...]] = {EdgeType.SCORED_BY: ("source",), EdgeType.INFLUENCED_BY: ("effect",)}
"""Properties that schema 1 lacks."""


def edge_table(
    edge: EdgeType,
    nodes: Mapping[NodeLabel, pa.Table],
    rows: Iterable[EdgeRow],
    ends: tuple[NodeLabel, NodeLabel] | None = None,
) -> EdgeTable:
    """Edges by id as a table ordered by (source, target)."""
    source, target = ends or EDGE_ENDS[edge][0]
    at = {label: {node: row for row, node in enumerate(nodes[label]["id"].to_pylist())} for label in {source, target}}
    found = sorted(((at[source][a], at[target][b], values) for a, b, values in rows), key=lambda row: row[:2])
    positions = np.array([row[:2] for row in found], dtype=np.int64).reshape(-1, 2)
    columns = [pa.array([row[2][field.name] for row in found], field.type) for field in edge_schema(edge)]
    return EdgeTable(
        np.ascontiguousarray(positions[:, 0]),
        np.ascontiguousarray(positions[:, 1]),
        pa.Table.from_arrays(columns, schema=edge_schema(edge)),
    )


def carried_edges(
    old_nodes: Mapping[NodeLabel, pa.Table],
    old_edges: Mapping[str, EdgeTable],
    nodes: Mapping[NodeLabel, pa.Table],
    new_ids: Mapping[NodeLabel, Mapping[int, str]],
    origins: Mapping[NodeLabel, Set[int]],
) -> dict[str, EdgeTable]:
    """The edges of `CARRIED` between the new nodes.

    Of equal edges, the first is kept: a rollout has one score of a model. A merged node keeps the neighbour list of its
    first row. An edge that would connect a node with itself, or two similar rollouts of one query, is left out. Its
    list is short then, and `memstore.pipeline.restore` links its node again.

    Args:
        new_ids: new id by row of the old table, for queries and thinkings; other nodes keep theirs.
        origins: the first row of each new query and thinking.
    """
    query_of = {}
    generates = old_edges["generates"]
    for query, thinking in zip(generates.source.tolist(), generates.target.tolist(), strict=True):
        query_of[new_ids[NodeLabel.THINKING][thinking]] = new_ids[NodeLabel.QUERY][query]
    carried = {}
    for name, (edge, source, target) in CARRIED.items():
        if name not in old_edges:
            continue
        ids = [new_ids.get(end) or dict(enumerate(old_nodes[end]["id"].to_pylist())) for end in (source, target)]
        table = old_edges[name]
        properties = table.properties.to_pylist() if table.properties.num_columns else [{}] * len(table)
        kept: dict[tuple[Any, ...], EdgeRow] = {}
        for a, b, values in zip(table.source.tolist(), table.target.tolist(), properties, strict=True):
            if a not in ids[0] or b not in ids[1] or (edge is EdgeType.SIMILAR_TO and a not in origins[source]):
                continue
            ends = (ids[0][a], ids[1][b])
            same_query = name == "thinking_similar" and query_of[ends[0]] == query_of[ends[1]]
            if ends[0] != ends[1] and not same_query:
                kept.setdefault((*ends, values.get("model")), (*ends, _in_schema_2(edge, values)))
        carried[name] = edge_table(edge, nodes, kept.values(), (source, target))
    return carried


def _in_schema_2(edge: EdgeType, values: dict[str, Any]) -> dict[str, Any]:
    """Convert properties of schema 1, in which every score was predicted and the weight of an influence its effect."""
    if edge is EdgeType.SCORED_BY:
        return {**values, "source": "predicted"}
    return {**values, "weight": None, "effect": values["weight"]} if edge is EdgeType.INFLUENCED_BY else values
