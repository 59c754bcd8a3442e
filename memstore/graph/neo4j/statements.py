"""Statements of Neo4j that all reads and writes are made of: an Arrow table in, an Arrow table out.

They implement `memstore.graph.writes.Primitives`. Columns travel as lists, a page or a batch in one row or parameter.
A column with one value throughout is sent once, an all-null column not at all. A look-up followed by CREATE costs the
server about half of a MERGE for every node and edge. Labels and columns come from `memstore_schema.columns` only.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from memstore.errors import InputError
from memstore.graph.neo4j.connection import Statements
from memstore.graph.rules import absent, missing
from memstore.graph.verdicts import ANSWER_LABELS
from memstore.types import IntVector
from memstore_schema.columns import (
    ALIAS_SCHEMA,
    ANSWER_TEXTS,
    EdgeType,
    NodeLabel,
    column_type,
    edge_schema,
    node_schema,
)

BATCH_ROWS = 4_096
"""Rows per statement; a transaction runs as many statements as it needs."""


def node_columns(label: NodeLabel, columns: Sequence[str]) -> pa.Schema:
    """Arrow schema of these columns of a label, in their order."""
    return pa.schema([(name, column_type(label, name)) for name in columns])


def by_id(name: str, label: NodeLabel, value: str) -> str:
    """MATCH of a node by id. Without the hint, the planner reads the whole index while statistics are new."""
    return f"MATCH ({name}:{label} {{id: {value}}}) USING INDEX SEEK {name}:{label}(namespace, id)"


def by_number(name: str, label: NodeLabel, value: str) -> str:
    """MATCH of a node by the internal number that `numbers` looked up."""
    return f"MATCH ({name}:{label}) WHERE id({name}) = {value}"


def listed(name: str, label: NodeLabel, kept: Sequence[str]) -> str:
    """Clause that collects the nodes of `$<name>_ids` in the list `<name>_nodes`; no row if a node is missing.

    Args:
        kept: names of earlier lists to carry along.
    """
    carried = "".join(f"{each}_nodes, " for each in kept)
    return (
        f"UNWIND ${name}_ids AS id {by_id('n', label, 'id')} WITH {carried}collect(n) AS {name}_nodes "
        f"WHERE size({name}_nodes) = size(${name}_ids)"
    )


def returned(schema: pa.Schema, element: str, elements: str) -> str:
    """RETURN items for properties of a list of nodes or relationships: one list per column, with nulls."""
    return ", ".join(f"[{element} IN {elements} | {_read(field, element)}] AS `{field.name}`" for field in schema)


def _read(field: pa.Field, element: str) -> str:
    """Expression for a property. Times are sent as microseconds: 80,000 time objects cost more than all the rest."""
    value = f"{element}.`{field.name}`"
    return f"{value}.epochSeconds * 1000000 + {value}.microsecond" if pa.types.is_timestamp(field.type) else value


def table(schema: pa.Schema, columns: Sequence[list[Any]]) -> pa.Table:
    """Arrow table of column lists."""
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
    """Internal numbers of nodes, -1 for a missing node; a number is valid until its node is deleted."""
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
    """Create nodes whose ids are not in the graph; returns their number."""
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
        InputError: a node is not in the graph.
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
        raise InputError(f"of {changes.num_rows} {label} nodes to change, only {found} are in the graph")


def create_edges(tx: Statements, edge: EdgeType, source: NodeLabel, target: NodeLabel, edges: pa.Table) -> None:
    """Create edges to few distinct targets; `source_id` and `target_id` are the ends, the other columns properties.

    Raises:
        InputError: an end is not in the graph.
    """
    if edges.num_rows == 0:
        return
    targets = pc.unique(edges["target_id"])
    places = pc.index_in(edges["target_id"], value_set=targets).to_pylist()
    values = Values(edges.select(edge_schema(edge).names).cast(edge_schema(edge)), first=2)
    statement = (
        f"{listed('b', target, [])} UNWIND $rows AS r {by_id('a', source, 'r[0]')} WITH r, a, b_nodes[r[1]] AS b "
        f"CREATE (a)-[:`{edge}` {values.map}]->(b) RETURN count(*)"
    )
    made = 0
    for rows in values.batches(edges["source_id"].to_pylist(), places):
        made += tx.run(statement, rows=rows, b_ids=targets.to_pylist(), **values.constants)[0][0]
    if made != edges.num_rows:
        raise InputError(f"of {edges.num_rows} {edge} edges, only {made} have both ends in the graph")


def delete_edges(tx: Statements, edge: EdgeType, source: NodeLabel, target: NodeLabel) -> None:
    """See `Primitives.delete_edges`."""
    tx.run(f"MATCH (:{source})-[r:`{edge}`]->(:{target}) DELETE r")


def put_node(tx: Statements, label: NodeLabel, node: pa.Table) -> None:
    """Create or change the node of a table with one row; columns that are not given stay as they are."""
    values = Values(node.select([name for name in node.column_names if name != "id"]))
    sets = ", ".join(f"n.`{name}` = {value}" for name, value in values.expressions.items())
    statement = f"MERGE (n:{label} {{id: $id}}) {'SET ' + sets if sets else ''}"
    tx.run(statement, id=node["id"][0].as_py(), **values.constants)


def scored(tx: Statements, model: str, ids: pa.ChunkedArray) -> pa.ChunkedArray:
    """Those of `ids` that the reward model has scored."""
    found = tx.run(
        f"{by_id('m', NodeLabel.REWARD_MODEL, '$model')} UNWIND $ids AS id {by_id('n', NodeLabel.THINKING, 'id')} "
        f"WITH n, m WHERE EXISTS {{ (n)-[:{EdgeType.SCORED_BY}]->(m) }} RETURN collect(n.id)",
        ids=ids.to_pylist(),
        model=model,
    )
    return pa.chunked_array([pa.array(found[0][0], pa.string())])


def delete_scores(tx: Statements, model: str, ids: pa.ChunkedArray) -> None:
    """See `Primitives.delete_scores`."""
    tx.run(
        f"{by_id('m', NodeLabel.REWARD_MODEL, '$model')} UNWIND $ids AS id {by_id('n', NodeLabel.THINKING, 'id')} "
        f"WITH n, m MATCH (n)-[r:{EdgeType.SCORED_BY}]->(m) DELETE r",
        ids=ids.to_pylist(),
        model=model,
    )


def aliases(tx: Statements, queries: pa.ChunkedArray) -> pa.Table:
    """The IN edges of queries, with the dataset's name (`ALIAS_SCHEMA`); `queries` must be unique."""
    parts = [ALIAS_SCHEMA.empty_table()]
    for start in range(0, len(queries), BATCH_ROWS):
        rows = tx.run(
            f"UNWIND $ids AS id {by_id('q', NodeLabel.QUERY, 'id')} "
            f"MATCH (q)-[r:`{EdgeType.IN}`]->(d:{NodeLabel.DATASET}) "
            "RETURN collect(q.id), collect(d.name), [x IN collect([r.key]) | x[0]], [x IN collect([r.split]) | x[0]]",
            ids=queries.slice(start, BATCH_ROWS).to_pylist(),
        )
        parts.append(table(ALIAS_SCHEMA, rows[0]))
    return pa.concat_tables(parts)


def answer_texts(tx: Statements, thinkings: pa.ChunkedArray) -> pa.Table:
    """The answers of these rollouts as written (`ANSWER_TEXTS`); `thinkings` must be unique."""
    parts = [ANSWER_TEXTS.empty_table()]
    for start in range(0, len(thinkings), BATCH_ROWS):
        rows = tx.run(
            f"UNWIND $ids AS id {by_id('t', NodeLabel.THINKING, 'id')} "
            f"MATCH (t)-[r:{EdgeType.LEADS_TO}]->(:{NodeLabel.ANSWER}) RETURN collect(t.id), collect(r.text)",
            ids=thinkings.slice(start, BATCH_ROWS).to_pylist(),
        )
        parts.append(table(ANSWER_TEXTS, rows[0]))
    return pa.concat_tables(parts)


def answers_of(tx: Statements, thinkings: pa.ChunkedArray) -> pa.ChunkedArray:
    """Ids of the answers that these rollouts lead to; both are unique."""
    found: dict[str, None] = {}
    for start in range(0, len(thinkings), BATCH_ROWS):
        rows = tx.run(
            f"UNWIND $ids AS id {by_id('t', NodeLabel.THINKING, 'id')} "
            f"MATCH (t)-[:{EdgeType.LEADS_TO}]->(a:{NodeLabel.ANSWER}) RETURN collect(DISTINCT a.id)",
            ids=thinkings.slice(start, BATCH_ROWS).to_pylist(),
        )
        found |= dict.fromkeys(rows[0][0])
    return pa.chunked_array([pa.array(list(found), pa.string())])


def labels_of(tx: Statements, answers: pa.ChunkedArray) -> pa.Table:
    """The labelled rollouts that lead to these answers (`ANSWER_LABELS`); `answers` must be unique."""
    labels = pa.schema(list(ANSWER_LABELS)[1:])
    parts = [ANSWER_LABELS.empty_table()]
    for start in range(0, len(answers), BATCH_ROWS):
        rows = tx.run(
            f"UNWIND $ids AS id {by_id('a', NodeLabel.ANSWER, 'id')} "
            f"MATCH (a)<-[:{EdgeType.LEADS_TO}]-(t:{NodeLabel.THINKING}) WHERE t.reward IS NOT NULL "
            f"WITH collect(a.id) AS answers, collect(t) AS found RETURN answers, {returned(labels, 't', 'found')}",
            ids=answers.slice(start, BATCH_ROWS).to_pylist(),
        )
        parts.append(table(ANSWER_LABELS, rows[0]))
    return pa.concat_tables(parts)


def create_rollouts(tx: Statements, new: pa.Table) -> None:
    """See `Primitives.create_rollouts`."""
    for has_ends in itertools.product((True, False), repeat=len(_OPTIONAL_ENDS)):
        alike, ends = new, [_QUERY_END]
        for end, has in zip(_OPTIONAL_ENDS, has_ends, strict=True):
            alike = alike.filter(pc.equal(pc.is_valid(alike[end.column]), has))
            ends += [end] if has else []
        _create_rollouts(tx, alike, ends)


class _End(NamedTuple):
    """The other end of a rollout's edge: its label, the column of its id, and the CREATE of the edge."""

    name: str
    label: NodeLabel
    column: str
    edge: str


_QUERY_END = _End("query", NodeLabel.QUERY, "query_id", f"CREATE (query)-[:{EdgeType.GENERATES}]->(t)")
_OPTIONAL_ENDS = (
    _End("answer", NodeLabel.ANSWER, "answer_id", f"CREATE (t)-[:{EdgeType.LEADS_TO} {{text: r[0]}}]->(answer)"),
    _End("policy", NodeLabel.POLICY, "policy_id", f"CREATE (policy)-[:{EdgeType.WROTE}]->(t)"),
    _End("run", NodeLabel.RUN, "run_id", f"CREATE (run)-[:{EdgeType.PRODUCED}]->(t)"),
)


def _create_rollouts(tx: Statements, new: pa.Table, ends: Sequence[_End]) -> None:
    """Create rollouts that all have these ends; each end is looked up once and then addressed by its list position."""
    if new.num_rows == 0:
        return
    ids = {end.name: pc.unique(new[end.column]) for end in ends}
    places = [pc.index_in(new[end.column], value_set=ids[end.name]).to_pylist() for end in ends]
    schema = node_schema(NodeLabel.THINKING)
    values = Values(new.select(schema.names).cast(schema), first=1 + len(ends))
    lists = [listed(end.name, end.label, [other.name for other in ends[:at]]) for at, end in enumerate(ends)]
    named = ", ".join(f"{end.name}_nodes[r[{at}]] AS {end.name}" for at, end in enumerate(ends, start=1))
    statement = (
        f"{' '.join(lists)} UNWIND $rows AS r WITH r, {named} CREATE (t:{NodeLabel.THINKING} {values.map}) "
        f"{' '.join(end.edge for end in ends)} RETURN count(*)"
    )
    parameters = {f"{name}_ids": found.to_pylist() for name, found in ids.items()} | values.constants
    batches = values.batches(new["answer_text"].to_pylist(), *places)
    made = [tx.start(statement, rows=rows, **parameters) for rows in batches]
    if sum(rows()[0][0] for rows in made) != new.num_rows:
        for end in ends:
            check_known(tx, end.label, new[end.column])


class Values:
    """Columns of a table as properties, for a statement with UNWIND $rows AS r."""

    def __init__(self, columns: pa.Table, *, first: int = 0) -> None:
        """Split the columns into constants and varying ones, the first of which is `r[first]`."""
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
        """Map of the properties, for CREATE."""
        return "{" + ", ".join(f"`{name}`: {value}" for name, value in self.expressions.items()) + "}"

    def batches(self, *before: Sequence[Any]) -> Iterator[list[list[Any]]]:
        """Batches of rows of the columns given here and the varying ones."""
        return _batches([*before, *self._varying])


def _batches(columns: Sequence[Sequence[Any]]) -> Iterator[list[list[Any]]]:
    rows = map(list, zip(*columns, strict=True))
    while batch := list(itertools.islice(rows, BATCH_ROWS)):
        yield batch
