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
from memstore.graph.ladybug.neighbours import edges_of
from memstore.graph.rules import absent, missing
from memstore.graph.verdicts import ANSWER_LABELS
from memstore_schema.columns import (
    ALIAS_SCHEMA,
    ANSWER_TEXTS,
    EdgeType,
    NodeLabel,
    column_type,
    edge_schema,
    node_schema,
)

CHUNK_ROWS = 16_384
"""Rows of an Arrow batch; a string column of one batch must stay below 2 GiB."""


def node_columns(label: NodeLabel, columns: Sequence[str]) -> pa.Schema:
    """Arrow schema of these columns of a label, in their order."""
    return pa.schema([(name, column_type(label, name)) for name in columns])


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
    """Create edges; `source_id` and `target_id` are the ends, the other columns properties.

    Raises:
        InputError: an end is not in the graph.
    """
    if table.num_rows == 0:
        return
    schema = edge_schema(edge)
    rows = pa.table(
        {"f": table["source_id"].cast(pa.string()), "t": table["target_id"].cast(pa.string())}
        | {f"v_{field.name}": table[field.name].cast(field.type) for field in schema}
    )
    properties = ", ".join(f"`{field.name}`: {_value(field)}" for field in schema)
    result = connection.execute(
        f"LOAD FROM $rows MATCH (a:{source}) WHERE a.id = f MATCH (b:{target}) WHERE b.id = t "
        f"CREATE (a)-[:`{edge}` {{{properties}}}]->(b) RETURN count(*)",
        {"rows": rows},
    )
    if (made := result.get_next()[0]) != rows.num_rows:
        check_known(connection, source, rows["f"])
        check_known(connection, target, rows["t"])
        raise InputError(f"of {rows.num_rows} {edge} edges, only {made} have both ends in the graph")


def delete_edges(connection: Any, edge: EdgeType, source: NodeLabel, target: NodeLabel) -> None:
    """See `Primitives.delete_edges`."""
    connection.execute(f"MATCH (:{source})-[r:`{edge}`]->(:{target}) DELETE r")


def aliases(connection: Any, queries: pa.ChunkedArray) -> pa.Table:
    """The IN edges of queries, with the dataset's name (`ALIAS_SCHEMA`); `queries` must be unique."""
    pattern = f"(q:{NodeLabel.QUERY})-[r:`{EdgeType.IN}`]->(d:{NodeLabel.DATASET})"
    columns = "q.id AS query_id, d.name AS dataset, r.key AS key, r.split AS split"
    return _edges_of(connection, queries, f"MATCH {pattern} WHERE q.id = k RETURN {columns}", ALIAS_SCHEMA)


def answer_texts(connection: Any, thinkings: pa.ChunkedArray) -> pa.Table:
    """The answers of these rollouts as written (`ANSWER_TEXTS`); `thinkings` must be unique."""
    pattern = f"(t:{NodeLabel.THINKING})-[r:{EdgeType.LEADS_TO}]->(:{NodeLabel.ANSWER})"
    return _edges_of(
        connection, thinkings, f"MATCH {pattern} WHERE t.id = k RETURN t.id AS id, r.text AS text", ANSWER_TEXTS
    )


def _edges_of(connection: Any, ids: pa.ChunkedArray, match: str, schema: pa.Schema) -> pa.Table:
    """The rows that a MATCH finds for some ids, each of them `k` in it."""
    if len(ids) == 0:
        return schema.empty_table()
    result = connection.execute(f"LOAD FROM $rows {match}", {"rows": pa.table({"k": ids})})
    return result.get_as_arrow(chunk_size=CHUNK_ROWS).cast(schema)


def answers_of(connection: Any, thinkings: pa.ChunkedArray) -> pa.ChunkedArray:
    """Ids of the answers that these rollouts lead to; both are unique."""
    ends = EdgeType.LEADS_TO, NodeLabel.THINKING, NodeLabel.ANSWER
    found = edges_of(connection, *ends, thinkings.to_pylist(), "source", [])
    return pa.chunked_array([pc.unique(found["target_id"])])


def labels_of(connection: Any, answers: pa.ChunkedArray) -> pa.Table:
    """The labelled rollouts that lead to these answers (`ANSWER_LABELS`); `answers` must be unique."""
    returned = ", ".join(f"t.{name} AS {name}" for name in ANSWER_LABELS.names[1:])
    result = connection.execute(
        f"LOAD FROM $rows MATCH (a:{NodeLabel.ANSWER})<-[:{EdgeType.LEADS_TO}]-(t:{NodeLabel.THINKING}) "
        f"WHERE a.id = k AND t.reward IS NOT NULL RETURN a.id AS answer_id, {returned}",
        {"rows": pa.table({"k": answers})},
    )
    return result.get_as_arrow(chunk_size=CHUNK_ROWS).cast(ANSWER_LABELS)


def create_rollouts(connection: Any, new: pa.Table) -> None:
    """See `Primitives.create_rollouts`."""
    create_nodes(connection, NodeLabel.THINKING, new)
    generates = pa.table({"source_id": new["query_id"], "target_id": new["id"]})
    create_edges(connection, EdgeType.GENERATES, NodeLabel.QUERY, NodeLabel.THINKING, generates)

    answered = new.filter(pc.is_valid(new["answer_id"]))
    ends = {"source_id": answered["id"], "target_id": answered["answer_id"]}
    leads = pa.table({**ends, "text": answered["answer_text"]})
    create_edges(connection, EdgeType.LEADS_TO, NodeLabel.THINKING, NodeLabel.ANSWER, leads)

    for edge, label, column in (
        (EdgeType.WROTE, NodeLabel.POLICY, "policy_id"),
        (EdgeType.PRODUCED, NodeLabel.RUN, "run_id"),
    ):
        owned = new.filter(pc.is_valid(new[column]))
        table = pa.table({"source_id": owned[column], "target_id": owned["id"]})
        create_edges(connection, edge, label, NodeLabel.THINKING, table)


def scored(connection: Any, model: str, ids: pa.ChunkedArray) -> pa.ChunkedArray:
    """Ids of all rollouts that the reward model has scored; `ids` does not restrict them here."""
    del ids
    found = connection.execute(
        f"MATCH (n:{NodeLabel.THINKING})-[:{EdgeType.SCORED_BY}]->(m:{NodeLabel.REWARD_MODEL}) "
        "WHERE m.id = $model RETURN n.id AS id",
        {"model": model},
    )
    return found.get_as_arrow(chunk_size=-1)["id"]


def delete_scores(connection: Any, model: str, ids: pa.ChunkedArray) -> None:
    """See `Primitives.delete_scores`."""
    connection.execute(
        f"LOAD FROM $rows MATCH (n:{NodeLabel.THINKING})-[r:{EdgeType.SCORED_BY}]->(m:{NodeLabel.REWARD_MODEL}) "
        "WHERE n.id = k AND m.id = $model DELETE r",
        {"rows": pa.table({"k": ids}), "model": model},
    )


def _value(field: pa.Field) -> str:
    """Expression for a column of `rows`; times loaded from Arrow lose their time zone, which is UTC."""
    return f"CAST(v_{field.name} AS TIMESTAMP_TZ)" if pa.types.is_timestamp(field.type) else f"v_{field.name}"
