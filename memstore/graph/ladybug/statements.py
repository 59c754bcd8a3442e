"""The few statements that everything else here is made of: look up, create, set, connect; a table in, a table out.

Each takes an Arrow table as its parameter `rows` and touches nodes by primary key. Two traps decide the form: a
comma between two patterns plans a cross product, and a name that is not a parameter is looked up among the
callers' Python variables. Labels and columns come from `memstore_schema.columns` only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from memstore.errors import InputError
from memstore.graph.rules import missing
from memstore_schema.columns import NODE_COLUMNS, EdgeType, NodeLabel, edge_schema, node_schema

CHUNK_ROWS = 16_384
"""Rows of an Arrow batch: a string column of one batch must stay below 2 GiB."""


def node_columns(label: NodeLabel, columns: Sequence[str]) -> pa.Schema:
    """The schema of some columns of a label, in the order asked for."""
    return pa.schema([(name, NODE_COLUMNS[label][name]) for name in columns])


def look_up(connection: Any, label: NodeLabel, ids: pa.ChunkedArray, columns: Sequence[str]) -> pa.Table:
    """Columns of those nodes of `ids` that exist; `ids` must be unique."""
    schema = node_columns(label, columns)
    if len(ids) == 0:
        return schema.empty_table()
    returned = ", ".join(f"n.`{name}` AS `{name}`" for name in columns)
    result = connection.execute(
        f"LOAD FROM $rows MATCH (n:{label}) WHERE n.id = k RETURN {returned}", {"rows": pa.table({"k": ids})}
    )
    return result.get_as_arrow(chunk_size=CHUNK_ROWS).cast(schema)


def check_known(connection: Any, label: NodeLabel, ids: pa.ChunkedArray) -> None:
    """Refuse ids that are not in the graph."""
    ids = pc.unique(ids).cast(pa.string())
    known = look_up(connection, label, pa.chunked_array([ids]), ["id"])
    if known.num_rows < len(ids):
        raise missing(label, ids.filter(absent(ids, known["id"])).to_pylist())


def create_nodes(connection: Any, label: NodeLabel, table: pa.Table) -> int:
    """Add nodes whose ids are not there yet."""
    if table.num_rows == 0:
        return 0
    schema = node_schema(label)
    table = table.select(schema.names).cast(schema).rename_columns([f"v_{name}" for name in schema.names])
    properties = ", ".join(f"`{field.name}`: {_value(field)}" for field in schema)
    connection.execute(f"LOAD FROM $rows CREATE (:{label} {{{properties}}})", {"rows": table})
    return int(table.num_rows)


def set_properties(connection: Any, label: NodeLabel, table: pa.Table) -> None:
    """Set the columns of `table` other than `id` on the nodes of those ids.

    Raises:
        InputError: one of them is not there.
    """
    if table.num_rows == 0:
        return
    schema = node_columns(label, table.column_names)
    table = table.cast(schema)
    sets = ", ".join(f"n.`{field.name}` = {_value(field)}" for field in schema if field.name != "id")
    rows = table.rename_columns([f"v_{name}" for name in table.column_names])
    result = connection.execute(
        f"LOAD FROM $rows MATCH (n:{label}) WHERE n.id = v_id SET {sets} RETURN count(*)", {"rows": rows}
    )
    if (changed := result.get_next()[0]) != rows.num_rows:
        raise InputError(f"of {rows.num_rows} {label} nodes to change only {changed} are in the graph")


def create_edges(connection: Any, edge: EdgeType, source: NodeLabel, target: NodeLabel, table: pa.Table) -> None:
    """Add edges: `source` and `target` are ids, the other columns the edge's properties.

    Raises:
        InputError: an end is not there, so that edges would be missing.
    """
    if table.num_rows == 0:
        return
    schema = edge_schema(edge)
    rows = pa.table(
        {"f": table["source"].cast(pa.string()), "t": table["target"].cast(pa.string())}
        | {f"v_{field.name}": table[field.name].cast(field.type) for field in schema}
    )
    properties = ", ".join(f"`{field.name}`: {_value(field)}" for field in schema)
    result = connection.execute(
        f"LOAD FROM $rows MATCH (a:{source}) WHERE a.id = f MATCH (b:{target}) WHERE b.id = t "
        f"CREATE (a)-[:{edge} {{{properties}}}]->(b) RETURN count(*)",
        {"rows": rows},
    )
    if (made := result.get_next()[0]) != rows.num_rows:
        raise InputError(f"of {rows.num_rows} {edge} edges only {made} have both ends in the graph")


def _value(field: pa.Field) -> str:
    """A column of `rows` as a value: what is loaded from Arrow has lost its time zone, which is UTC."""
    return f"CAST(v_{field.name} AS TIMESTAMP_TZ)" if pa.types.is_timestamp(field.type) else f"v_{field.name}"


def absent(ids: pa.ChunkedArray, known: pa.ChunkedArray) -> pa.ChunkedArray:
    """Mask of the `ids` that are not `known`."""
    return pc.invert(pc.is_in(ids.cast(pa.string()), value_set=known.cast(pa.string())))
