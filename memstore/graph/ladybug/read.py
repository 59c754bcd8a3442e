"""Columns of nodes and COO of edges, straight into Arrow and numpy.

Ladybug's node offsets have holes after deletions, and its order is that of insertion: rows are put in the order of
`id`, and offsets become positions in that order through a dense lookup array.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from memstore.errors import InputError
from memstore.graph.ladybug.statements import CHUNK_ROWS, look_up, node_columns
from memstore.graph.protocol import EdgeTable
from memstore.types import IntVector
from memstore_schema.columns import EDGE_COLUMNS, EDGE_ENDS, NODE_COLUMNS, EdgeType, NodeLabel, edge_schema

EDGE_CHUNK_ROWS = 1_000_000


def nodes(connection: Any, label: NodeLabel, columns: Sequence[str], ids: Sequence[str] | None) -> pa.Table:
    """See `GraphStore.nodes`."""
    if unknown := [name for name in columns if name not in NODE_COLUMNS[label]]:
        raise InputError(f"{label} has no column {unknown[0]}; it has {', '.join(NODE_COLUMNS[label])}")
    wanted = list(dict.fromkeys(["id", *columns]))
    if ids is not None:
        table = look_up(connection, label, pa.chunked_array([pc.unique(pa.array(ids, pa.string()))]), wanted)
    else:
        returned = ", ".join(f"n.`{name}` AS `{name}`" for name in wanted)
        result = connection.query_as_arrow(f"MATCH (n:{label}) RETURN {returned}", CHUNK_ROWS)
        table = result.get_as_arrow().cast(node_columns(label, wanted))
    return table.take(pc.sort_indices(table["id"])).select(list(columns))


def edges(connection: Any, edge: EdgeType, source: NodeLabel, target: NodeLabel) -> EdgeTable:
    """See `GraphStore.edges`."""
    if (source, target) not in EDGE_ENDS[edge]:
        raise InputError(f"no {edge} goes from {source} to {target}")
    names = list(EDGE_COLUMNS[edge])
    returned = "".join(f", r.`{name}` AS `{name}`" for name in names)
    result = connection.query_as_arrow(
        f"MATCH (a:{source})-[r:{edge}]->(b:{target}) RETURN offset(id(a)) AS f, offset(id(b)) AS t{returned}",
        EDGE_CHUNK_ROWS,
    )
    table = result.get_as_arrow()
    source_positions = _positions(connection, source)
    target_positions = source_positions if target == source else _positions(connection, target)
    f = source_positions[table["f"].to_numpy()]
    t = target_positions[table["t"].to_numpy()]
    order = np.argsort(f * (len(target_positions) + 1) + t, kind="stable")
    properties = table.select(names).cast(edge_schema(edge))
    if names:
        properties = properties.take(order)
    return EdgeTable(f[order], t[order], properties)


def _positions(connection: Any, label: NodeLabel) -> IntVector:
    """int64 [largest offset + 1]: a node's offset -> its position in the order of ids; -1 where no node is."""
    result = connection.query_as_arrow(f"MATCH (n:{label}) RETURN offset(id(n)) AS o, n.id AS id", EDGE_CHUNK_ROWS)
    table = result.get_as_arrow()
    offsets = table["o"].to_numpy()
    order = pc.sort_indices(table["id"]).to_numpy()
    positions = np.full(int(offsets.max(initial=-1)) + 1, -1, dtype=np.int64)
    positions[offsets[order]] = np.arange(len(offsets))
    return positions
