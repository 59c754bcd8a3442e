"""Statements of LadybugDB that all reads and writes are made of: an Arrow table in, an Arrow table out.

They implement `memstore.graph.writes.Primitives`. Each takes a table as its parameter `rows` and finds nodes by
primary key. Two traps decide the form: a comma between two patterns plans a cross product, and a name that is not a
parameter is looked up among the callers' Python variables. Labels and columns come from `memstore_schema.columns` only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from memstore.errors import InputError
from memstore.graph.rules import absent, missing
from memstore_schema.columns import NODE_COLUMNS, EdgeType, NodeLabel, edge_schema, node_schema

CHUNK_ROWS = 16_384
"""Rows of an Arrow batch; a string column of one batch must stay below 2 GiB."""


def node_columns(label: NodeLabel, columns: Sequence[str]) -> pa.Schema:
    """Arrow schema of these columns of a label, in their order."""
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
    """Create nodes whose ids are not in the graph; returns their number."""
    if table.num_rows == 0:
        return 0
    schema = node_schema(label)
    table = table.select(schema.names).cast(schema).rename_columns([f"v_{name}" for name in schema.names])
    properties = ", ".join(f"`{field.name}`: {_value(field)}" for field in schema)
    connection.execute(f"LOAD FROM $rows CREATE (:{label} {{{properties}}})", {"rows": table})
    return int(table.num_rows)


def put_node(connection: Any, label: NodeLabel, table: pa.Table) -> None:
    """Create or change the node of a table with one row; columns that are not given stay as they are."""
    if look_up(connection, label, table["id"], ["id"]).num_rows == 0:
        connection.execute(f"CREATE (:{label} {{id: $id}})", {"id": table["id"][0].as_py()})
    if table.num_columns > 1:
        set_properties(connection, label, table)


def set_properties(connection: Any, label: NodeLabel, table: pa.Table) -> None:
    """Set the columns of `table` other than `id` on the nodes of those ids.

    Raises:
        InputError: a node is not in the graph.
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
        raise InputError(f"of {rows.num_rows} {label} nodes to change, only {changed} are in the graph")


def create_edges(connection: Any, edge: EdgeType, source: NodeLabel, target: NodeLabel, table: pa.Table) -> None:
    """Create edges; `source` and `target` are ids, the other columns properties.

    Raises:
        InputError: an end is not in the graph.
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
        raise InputError(f"of {rows.num_rows} {edge} edges, only {made} have both ends in the graph")


def create_rollouts(connection: Any, new: pa.Table) -> None:
    """Create Thinking nodes with their edges from `query_id`, to `answer_id` and from `run_id`, where not null.

    Raises:
        InputError: the query, answer or run is not in the graph.
    """
    create_nodes(connection, NodeLabel.THINKING, new)
    check_known(connection, NodeLabel.QUERY, new["query_id"])
    generates = pa.table({"source": new["query_id"], "target": new["id"]})
    create_edges(connection, EdgeType.GENERATES, NodeLabel.QUERY, NodeLabel.THINKING, generates)

    answered = new.filter(pc.is_valid(new["answer_id"]))
    check_known(connection, NodeLabel.ANSWER, answered["answer_id"])
    leads = pa.table({"source": answered["id"], "target": answered["answer_id"], "text": answered["answer_text"]})
    create_edges(connection, EdgeType.LEADS_TO, NodeLabel.THINKING, NodeLabel.ANSWER, leads)

    ran = new.filter(pc.is_valid(new["run_id"]))
    produced = pa.table({"source": ran["run_id"], "target": ran["id"]})
    create_edges(connection, EdgeType.PRODUCED, NodeLabel.RUN, NodeLabel.THINKING, produced)


def scored(connection: Any, model: str, ids: pa.ChunkedArray) -> pa.ChunkedArray:
    """Ids of all rollouts that the reward model has scored; `ids` does not restrict them here."""
    del ids
    found = connection.execute(
        f"MATCH (n:{NodeLabel.THINKING})-[:{EdgeType.SCORED_BY}]->(m:{NodeLabel.REWARD_MODEL}) "
        "WHERE m.id = $model RETURN n.id AS id",
        {"model": model},
    )
    return found.get_as_arrow(chunk_size=-1)["id"]


def _value(field: pa.Field) -> str:
    """Expression for a column of `rows`; times loaded from Arrow lose their time zone, which is UTC."""
    return f"CAST(v_{field.name} AS TIMESTAMP_TZ)" if pa.types.is_timestamp(field.type) else f"v_{field.name}"
