"""Reads of LadybugDB: node columns as Arrow, edges in COO format as numpy.

Node offsets have holes after deletions and follow the order of insertion. Rows are sorted by `id`, and a dense array
maps offsets to positions in that order. `query_as_arrow` is slightly faster but returns 0 for a null number in 0.22.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from memstore.graph.ladybug import cypher
from memstore.graph.ladybug.statements import CHUNK_ROWS, look_up, node_columns
from memstore.graph.protocol import EdgeTable
from memstore.graph.query_filter import QueryFilter, find_statement
from memstore.graph.rules import check_columns, check_ends
from memstore.types import IntVector
from memstore_schema.columns import EdgeType, NodeLabel, edge_schema

EDGE_CHUNK_ROWS = 1_000_000
"""Edges read at a time."""


def nodes(connection: Any, label: NodeLabel, columns: Sequence[str], ids: Sequence[str] | None) -> pa.Table:
    """See `GraphStore.nodes`."""
    check_columns(label, columns)
    wanted = list(dict.fromkeys(["id", *columns]))
    if ids is not None:
        table = look_up(connection, label, pa.chunked_array([pc.unique(pa.array(ids, pa.string()))]), wanted)
    else:
        returned = ", ".join(f"n.`{name}` AS `{name}`" for name in wanted)
        result = connection.execute(f"MATCH (n:{label}) RETURN {returned}")
        table = result.get_as_arrow(chunk_size=CHUNK_ROWS).cast(node_columns(label, wanted))
    return take_rows(table, pc.sort_indices(table["id"])).select(list(columns))


def take_rows(table: pa.Table, order: pa.Array, limit: int = 2**31 - 1) -> pa.Table:
    """Rows in another order. `take` joins the chunks of a column, and a string chunk holds at most `limit` bytes."""
    if table.nbytes < limit:
        return table.take(order)
    fields = [pa.field(f.name, pa.large_string()) if pa.types.is_string(f.type) else f for f in table.schema]
    wide = table.cast(pa.schema(fields)).combine_chunks()
    pieces = [order[start : start + CHUNK_ROWS] for start in range(0, len(order), CHUNK_ROWS)]
    return pa.concat_tables([wide.take(piece).cast(table.schema) for piece in pieces])


def edges(
    connection: Any,
    edge: EdgeType,
    source: NodeLabel,
    target: NodeLabel,
    columns: Sequence[str] | None,
    known: dict[NodeLabel, IntVector],
) -> EdgeTable:
    """See `GraphStore.edges`.

    Args:
        known: positions of labels read since the last write; this call adds those that it reads.
    """
    check_ends(edge, source, target)
    schema = edge_schema(edge, columns)
    names = schema.names
    returned = "".join(f", r.`{name}` AS `{name}`" for name in names)
    result = connection.execute(
        f"MATCH (a:{source})-[r:`{edge}`]->(b:{target}) RETURN offset(id(a)) AS f, offset(id(b)) AS t{returned}"
    )
    table = result.get_as_arrow(chunk_size=EDGE_CHUNK_ROWS)
    for label in {source, target} - known.keys():
        known[label] = _positions(connection, label)
    f = known[source][table["f"].to_numpy()]
    t = known[target][table["t"].to_numpy()]
    order = np.argsort(f * (len(known[target]) + 1) + t, kind="stable")
    properties = table.select(names).cast(schema)
    if names:
        properties = properties.take(order)
    return EdgeTable(f[order], t[order], properties)


def find_queries(connection: Any, wanted: QueryFilter, after: str, limit: int, timeout_s: float) -> list[str]:
    """See `GraphStore.find_queries`."""
    text, parameters = find_statement(wanted, after, limit, hints=True)
    connection.set_query_timeout(max(1, round(timeout_s * 1000)))
    try:
        rows = connection.execute(cypher.with_quoted_types(text), parameters).get_all()
    except RuntimeError as error:
        raise cypher.translate("RuntimeError", str(error), text, timeout_s) from error
    return [str(row[0]) for row in rows]


def _positions(connection: Any, label: NodeLabel) -> IntVector:
    """int64 [largest offset + 1]: position of each node offset in the order of ids; -1 for an offset without a node."""
    result = connection.execute(f"MATCH (n:{label}) RETURN offset(id(n)) AS o, n.id AS id")
    table = result.get_as_arrow(chunk_size=EDGE_CHUNK_ROWS)
    offsets = table["o"].to_numpy()
    order = pc.sort_indices(table["id"]).to_numpy()
    positions = np.full(int(offsets.max(initial=-1)) + 1, -1, dtype=np.int64)
    positions[offsets[order]] = np.arange(len(offsets))
    return positions
