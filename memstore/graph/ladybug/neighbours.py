"""Edges of some nodes.

LadybugDB follows a node's edges only where one id is the parameter, so ids are sought one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from ladybug.prepared_statement import PreparedStatement

from memstore.graph.rules import check_owner
from memstore_schema.columns import EdgeOwner, EdgeType, NodeLabel, ends_schema

SEEKS = 2_000
"""Nodes whose edges are read one after the other, in 0.2 ms each. For more, all edges of the type are scanned: 100,000
take 0.1 s."""
FEW_ROWS = 100
"""Rows of a node that are read one after the other. More are read as Arrow, which takes 1 ms to begin."""
CHUNK_ROWS = 16_384
"""Rows of an Arrow batch."""


def edges_of(
    connection: Any,
    edge: EdgeType,
    source: NodeLabel,
    target: NodeLabel,
    ids: Sequence[str],
    by: EdgeOwner,
    columns: Sequence[str],
) -> pa.Table:
    """See `GraphStore.edges_of`."""
    check_owner(edge, source, target, by)
    schema = ends_schema(edge, columns)
    if not ids:
        return schema.empty_table()
    near = {"source": "a", "target": "b", "query": "q"}[by]
    rollouts = f"(q:{NodeLabel.QUERY})-[g:{EdgeType.GENERATES}]->" if by == "query" else ""
    pattern = f"{rollouts}(a:{source})-[r:`{edge}`]->(b:{target})"
    returned = "".join(f", r.`{name}` AS `{name}`" for name in columns)
    found = f"RETURN a.id AS source_id, b.id AS target_id{returned}"
    unique = pc.unique(pa.array(ids, pa.string()))
    if len(unique) <= SEEKS:
        # Without the hint, the edges of a type with few of them are all scanned for each id.
        hint = {
            "source": "HINT (a JOIN r) JOIN b",
            "target": "HINT (b JOIN r) JOIN a",
            "query": "HINT (((q JOIN g) JOIN a) JOIN r) JOIN b",
        }[by]
        return _seek(connection, f"MATCH {pattern} WHERE {near}.id = $k {hint} {found}", unique.to_pylist(), schema)
    rows = {"rows": pa.table({"k": unique})}
    result = connection.execute(f"LOAD FROM $rows MATCH {pattern} WHERE {near}.id = k {found}", rows)
    return result.get_as_arrow(chunk_size=CHUNK_ROWS).cast(schema)


def _seek(connection: Any, text: str, ids: Sequence[str], schema: pa.Schema) -> pa.Table:
    """The rows of a statement for each id."""
    statement = PreparedStatement(connection, text, {"k": ""})
    rows: list[list[Any]] = []
    tables = []
    for name in ids:
        result = connection.execute(statement, {"k": name})
        if result.get_num_tuples() > FEW_ROWS:
            tables.append(result.get_as_arrow(chunk_size=CHUNK_ROWS).cast(schema))
        else:
            rows += result.get_all()
    columns = zip(*rows, strict=True) if rows else ([] for _ in schema)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.concat_tables([pa.table(arrays, schema=schema), *tables])
