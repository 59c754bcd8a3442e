"""The few statements that everything else here is made of: look up, create, set, connect; a table in, a table out.

Columns travel as lists, a page or a batch of them in one row or parameter. A column that has one value throughout is
sent once, one that is all null not at all. Labels and columns come from `memstore_schema.columns` only.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from memstore.errors import InputError
from memstore.graph.neo4j.connection import Statements
from memstore.graph.rules import missing
from memstore.types import IntVector
from memstore_schema.columns import NODE_COLUMNS, EdgeType, NodeLabel, edge_schema, node_schema

BATCH_ROWS = 4_096
"""Rows of one statement; a transaction has as many statements as it needs."""


def node_columns(label: NodeLabel, columns: Sequence[str]) -> pa.Schema:
    """The schema of some columns of a label, in the order asked for."""
    return pa.schema([(name, NODE_COLUMNS[label][name]) for name in columns])


def by_id(name: str, label: NodeLabel, value: str) -> str:
    """A MATCH of the node of an id. The hint is needed: on young statistics the planner would read the whole index."""
    return f"MATCH ({name}:{label} {{id: {value}}}) USING INDEX SEEK {name}:{label}(namespace, id)"


def by_number(name: str, label: NodeLabel, value: str) -> str:
    """A MATCH of the node of one of the server's own numbers, which `numbers` has looked up."""
    return f"MATCH ({name}:{label}) WHERE id({name}) = {value}"


def listed(name: str, label: NodeLabel, kept: Sequence[str]) -> str:
    """The nodes of `$<name>_ids` as the list `<name>_nodes`, in that order; no row goes on where one is missing.

    Args:
        kept: names of lists from before, which stay.
    """
    carried = "".join(f"{each}_nodes, " for each in kept)
    return (
        f"UNWIND ${name}_ids AS id {by_id('n', label, 'id')} WITH {carried}collect(n) AS {name}_nodes "
        f"WHERE size({name}_nodes) = size(${name}_ids)"
    )


def returned(schema: pa.Schema, element: str, elements: str) -> str:
    """What to RETURN for these properties of a list of nodes or relationships: one list a column, nulls kept."""
    return ", ".join(f"[{element} IN {elements} | {_read(field, element)}] AS `{field.name}`" for field in schema)


def _read(field: pa.Field, element: str) -> str:
    """Times travel as microseconds: to make objects of 80,000 of them takes longer than all other columns."""
    value = f"{element}.`{field.name}`"
    return f"{value}.epochSeconds * 1000000 + {value}.microsecond" if pa.types.is_timestamp(field.type) else value


def table(schema: pa.Schema, columns: Sequence[list[Any]]) -> pa.Table:
    """Lists as they came from the server, as a table."""
    return pa.table([pa.array(c, field.type) for c, field in zip(columns, schema, strict=True)], schema=schema)


def look_up(tx: Statements, label: NodeLabel, ids: pa.ChunkedArray, columns: Sequence[str]) -> pa.Table:
    """Columns of those nodes of `ids` that exist; `ids` must be unique."""
    schema = node_columns(label, columns)
    parts = []
    for start in range(0, len(ids), BATCH_ROWS):
        rows = tx.run(
            f"UNWIND $ids AS id {by_id('n', label, 'id')} WITH collect(n) AS found "
            f"RETURN {returned(schema, 'n', 'found')}",
            ids=ids.slice(start, BATCH_ROWS).to_pylist(),
        )
        parts.append(table(schema, rows[0]))
    return pa.concat_tables(parts) if parts else schema.empty_table()


def numbers(tx: Statements, label: NodeLabel, ids: pa.Array) -> IntVector:
    """The server's own numbers of nodes, -1 for one that is not there; they are a node's until it is deleted."""
    found = [np.empty(0, dtype=np.int64)]
    for start in range(0, len(ids), BATCH_ROWS):
        (values,) = tx.run(
            f"UNWIND $ids AS id OPTIONAL {by_id('n', label, 'id')} RETURN collect(coalesce(id(n), -1))",
            ids=ids.slice(start, BATCH_ROWS).to_pylist(),
        )
        found.append(np.array(values[0], dtype=np.int64))
    return np.concatenate(found)


def check_known(tx: Statements, label: NodeLabel, ids: pa.ChunkedArray) -> None:
    """Refuse ids that are not in the graph."""
    ids = pc.unique(ids).cast(pa.string())
    known = look_up(tx, label, pa.chunked_array([ids]), ["id"])
    if known.num_rows < len(ids):
        raise missing(label, ids.filter(absent(ids, known["id"])).to_pylist())


def create_nodes(tx: Statements, label: NodeLabel, nodes: pa.Table) -> int:
    """Add nodes whose ids are not there yet."""
    if nodes.num_rows == 0:
        return 0
    schema = node_schema(label)
    values = Values(nodes.select(schema.names).cast(schema))
    for rows in values.batches():
        tx.run(f"UNWIND $rows AS r CREATE (:{label} {values.map})", rows=rows, **values.constants)
    return int(nodes.num_rows)


def set_properties(tx: Statements, label: NodeLabel, changes: pa.Table) -> None:
    """Set the columns of `changes` other than `id` on the nodes of those ids.

    Raises:
        InputError: one of them is not there.
    """
    if changes.num_rows == 0:
        return
    schema = node_columns(label, [name for name in changes.column_names if name != "id"])
    values = Values(changes.select(schema.names).cast(schema), first=1)
    sets = ", ".join(f"n.`{name}` = {value}" for name, value in values.expressions.items())
    found = 0
    for rows in values.batches(changes["id"].to_pylist()):
        statement = f"UNWIND $rows AS r {by_id('n', label, 'r[0]')} SET {sets} RETURN count(*)"
        found += tx.run(statement, rows=rows, **values.constants)[0][0]
    if found != changes.num_rows:
        raise InputError(f"of {changes.num_rows} {label} nodes to change only {found} are in the graph")


def create_edges(tx: Statements, edge: EdgeType, source: NodeLabel, target: NodeLabel, edges: pa.Table) -> None:
    """Add edges to a few targets: `source` and `target` are ids, the other columns the edge's properties.

    Raises:
        InputError: an end is not there, so that edges would be missing.
    """
    if edges.num_rows == 0:
        return
    targets = pc.unique(edges["target"])
    places = pc.index_in(edges["target"], value_set=targets).to_pylist()
    values = Values(edges.select(edge_schema(edge).names).cast(edge_schema(edge)), first=2)
    statement = (
        f"{listed('b', target, [])} UNWIND $rows AS r {by_id('a', source, 'r[0]')} WITH r, a, b_nodes[r[1]] AS b "
        f"CREATE (a)-[:{edge} {values.map}]->(b) RETURN count(*)"
    )
    made = 0
    for rows in values.batches(edges["source"].to_pylist(), places):
        made += tx.run(statement, rows=rows, b_ids=targets.to_pylist(), **values.constants)[0][0]
    if made != edges.num_rows:
        raise InputError(f"of {edges.num_rows} {edge} edges only {made} have both ends in the graph")


class Values:
    """The columns of a table as properties, for a statement that has UNWIND $rows AS r."""

    def __init__(self, columns: pa.Table, *, first: int = 0) -> None:
        """Sort the columns into constants and those that vary, the first of which is `r[first]`."""
        self.constants: dict[str, Any] = {}
        self.expressions: dict[str, str] = {}
        self._varying: list[list[Any]] = []
        for name in columns.column_names:
            column = columns[name]
            if column.null_count == len(column):
                self.expressions[name] = "null"
            elif column.null_count == 0 and name != "id" and pc.all(pc.equal(column, column[0])).as_py():
                self.constants[f"c_{name}"] = column[0].as_py()
                self.expressions[name] = f"$c_{name}"
            else:
                self.expressions[name] = f"r[{first + len(self._varying)}]"
                self._varying.append(column.to_pylist())

    @property
    def map(self) -> str:
        """The properties as a map, for CREATE."""
        return "{" + ", ".join(f"`{name}`: {value}" for name, value in self.expressions.items()) + "}"

    def batches(self, *before: Sequence[Any]) -> Iterator[list[list[Any]]]:
        """Rows of the columns given here and of those that vary."""
        return _batches([*before, *self._varying])


def _batches(columns: Sequence[Sequence[Any]]) -> Iterator[list[list[Any]]]:
    rows = map(list, zip(*columns, strict=True))
    while batch := list(itertools.islice(rows, BATCH_ROWS)):
        yield batch


def absent(ids: pa.ChunkedArray, known: pa.ChunkedArray) -> pa.ChunkedArray:
    """Mask of the `ids` that are not `known`."""
    return pc.invert(pc.is_in(ids, value_set=known))
