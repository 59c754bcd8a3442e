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
from ladybug.prepared_statement import PreparedStatement

from memstore.graph.ladybug.statements import CHUNK_ROWS, look_up, node_columns
from memstore.graph.protocol import EdgeTable
from memstore.graph.rules import check_columns, check_ends
from memstore.types import IntVector
from memstore_schema.columns import EdgeEnd, EdgeType, NodeLabel, edge_schema, ends_schema

EDGE_CHUNK_ROWS = 1_000_000
"""Edges read at a time."""
SEEKS = 2_000
"""Nodes whose edges are read one after the other, in 0.2 ms each. For more, all edges of the type are scanned: 100,000
take 0.1 s."""


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


def edges_of(
    connection: Any,
    edge: EdgeType,
    source: NodeLabel,
    target: NodeLabel,
    ids: Sequence[str],
    by: EdgeEnd,
    columns: Sequence[str],
) -> pa.Table:
    """See `GraphStore.edges_of`."""
    check_ends(edge, source, target)
    schema = ends_schema(edge, columns)
    if not ids:
        return schema.empty_table()
    near, far = ("a", "b") if by == "source" else ("b", "a")
    pattern = f"(a:{source})-[r:`{edge}`]->(b:{target})"
    returned = "".join(f", r.`{name}` AS `{name}`" for name in columns)
    found = f"RETURN a.id AS source_id, b.id AS target_id{returned}"
    unique = pc.unique(pa.array(ids, pa.string()))
    if len(unique) <= SEEKS:
        # Without the hint, the edges of a type with few of them are all scanned for each id.
        hint = f"HINT ({near} JOIN r) JOIN {far}"
        return _seek(connection, f"MATCH {pattern} WHERE {near}.id = $k {hint} {found}", unique.to_pylist(), schema)
    rows = {"rows": pa.table({"k": unique})}
    result = connection.execute(f"LOAD FROM $rows MATCH {pattern} WHERE {near}.id = k {found}", rows)
    return result.get_as_arrow(chunk_size=CHUNK_ROWS).cast(schema)


def _seek(connection: Any, text: str, ids: Sequence[str], schema: pa.Schema) -> pa.Table:
    """The rows of a statement for each id: only with one id as its parameter does LadybugDB follow a node's edges."""
    statement = PreparedStatement(connection, text, {"k": ""})
    rows: list[list[Any]] = []
    for name in ids:
        rows += connection.execute(statement, {"k": name}).get_all()
    columns = zip(*rows, strict=True) if rows else ([] for _ in schema)
    return pa.table(
        [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema=schema
    )


def _positions(connection: Any, label: NodeLabel) -> IntVector:
    """int64 [largest offset + 1]: position of each node offset in the order of ids; -1 for an offset without a node."""
    result = connection.execute(f"MATCH (n:{label}) RETURN offset(id(n)) AS o, n.id AS id")
    table = result.get_as_arrow(chunk_size=EDGE_CHUNK_ROWS)
    offsets = table["o"].to_numpy()
    order = pc.sort_indices(table["id"]).to_numpy()
    positions = np.full(int(offsets.max(initial=-1)) + 1, -1, dtype=np.int64)
    positions[offsets[order]] = np.arange(len(offsets))
    return positions
