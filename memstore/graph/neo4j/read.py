"""Read node columns and edges (COO) from Neo4j, page by page.

A page is a separate read transaction: the next nodes after the last id, in the order of the index on (namespace, id).
Neo4j uses that index only if the ORDER BY names both properties. Columns are collected into lists and edges into one
list per node, because one row per edge takes several times as long. Server and client hold a few pages at a time; the
result grows as Arrow tables.

memstore never deletes nodes. Nodes that other writers add while a read is running may be missing from it. An edge is
left out if one of its ends is not in the ids that were read.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from memstore.graph.neo4j.connection import Connection, Statements
from memstore.graph.neo4j.statements import by_id, look_up, node_columns, returned, table
from memstore.graph.protocol import EdgeTable
from memstore.graph.rules import check_columns, check_ends, check_owner
from memstore.types import IntVector
from memstore_schema.columns import EDGE_ENDS, EdgeOwner, EdgeType, NodeLabel, edge_schema, ends_schema

PAGE_ROWS = 5_000
LONG_PAGE_ROWS = 1_000
"""Nodes per page when texts are read: 100 MB at 100 kB each."""
LONG_COLUMNS = frozenset({"text", "gold", "metadata", "metrics"})
EDGE_PAGE_NODES = 5_000
READERS = 2
"""Pages that are read concurrently."""
_BY_TARGET = frozenset({EdgeType.PRODUCED, EdgeType.WROTE})
"""Edges of which one source may have half of the memory's."""


def nodes(connection: Connection, label: NodeLabel, columns: Sequence[str], ids: Sequence[str] | None) -> pa.Table:
    """See `GraphStore.nodes`."""
    check_columns(label, columns)
    schema = node_columns(label, list(dict.fromkeys(["id", *columns])))
    size = LONG_PAGE_ROWS if LONG_COLUMNS & set(columns) else PAGE_ROWS
    found = _all(connection, label, schema, size) if ids is None else _some(connection, label, schema, size, ids)
    whole = pa.concat_tables([schema.empty_table(), *found])
    if ids is not None:
        whole = whole.take(pc.sort_indices(whole["id"]))
    return whole.select(list(columns))


def _all(connection: Connection, label: NodeLabel, schema: pa.Schema, size: int) -> list[pa.Table]:
    statement = f"{_page('n', label)} WITH collect(n) AS found RETURN {returned(schema, 'n', 'found')}"
    return [table(schema, row) for row in _pages(connection, label, statement, size)]


def _some(connection: Connection, label: NodeLabel, schema: pa.Schema, size: int, ids: Sequence[str]) -> list[pa.Table]:
    unique = pc.unique(pa.array(ids, pa.string()))

    def part(start: int) -> pa.Table:
        return connection.read(lambda tx: look_up(tx, label, unique.slice(start, size), schema.names))

    return [part(start) for start in range(0, len(unique), size)]


def _page(name: str, label: NodeLabel) -> str:
    """Cypher clauses that match the nodes of one page, ordered by id."""
    return (
        f"MATCH ({name}:{label}) USING INDEX SEEK {name}:{label}(namespace, id) "
        f"WHERE {name}.id > $after AND {name}.id <= $until WITH {name} ORDER BY {name}.namespace, {name}.id"
    )


def _pages(connection: Connection, label: NodeLabel, statement: str, size: int) -> Iterator[list[Any]]:
    """Yield the single row of each page.

    Two pages are read concurrently, so that the server works while the client unpacks. At most three are held.
    """
    pending: deque[Future[list[list[Any]]]] = deque()
    with ThreadPoolExecutor(READERS) as pool:
        for after, until in _bounds(connection, label, size):
            page = partial(_run, statement=statement, after=after, until=until)
            pending.append(pool.submit(connection.read, page))
            if len(pending) > READERS:
                yield pending.popleft().result()[0]
        while pending:
            yield pending.popleft().result()[0]


def _bounds(connection: Connection, label: NodeLabel, size: int) -> Iterator[tuple[str, str]]:
    """Cut the ids of a label into ranges (after, until] of `size` nodes."""
    statement = (
        f"MATCH (n:{label}) USING INDEX SEEK n:{label}(namespace, id) WHERE n.id > $after "
        "WITH n ORDER BY n.namespace, n.id LIMIT $size RETURN max(n.id), count(*)"
    )
    after, found = "", size
    while found == size:
        [[until, found]] = connection.read(partial(_run, statement=statement, after=after, size=size))
        if found:
            yield after, until
            after = until


def _run(tx: Statements, statement: str, **parameters: Any) -> list[list[Any]]:
    return tx.run(statement, **parameters)


def edges(
    connection: Connection, edge: EdgeType, source: NodeLabel, target: NodeLabel, columns: Sequence[str] | None
) -> EdgeTable:
    """See `GraphStore.edges`.

    Pages are ranges of source nodes. For the edges of `_BY_TARGET` they are ranges of targets.
    """
    check_ends(edge, source, target)
    by, other = (target, source) if edge in _BY_TARGET else (source, target)
    near, far, properties = _read_edges(connection, edge, by, other, edge_schema(edge, columns))
    if not len(near):  # spares two passes over the ids
        return EdgeTable(near, far, properties)
    positions = _positions_of(connection, by)
    other_positions = positions if other is by else _positions_of(connection, other)
    near, far = _look_up(positions, near), _look_up(other_positions, far)
    known = (near >= 0) & (far >= 0)
    f, t, last = (far, near, len(positions[0])) if edge in _BY_TARGET else (near, far, len(other_positions[0]))
    order = np.argsort(f * (last + 1) + t, kind="stable")
    order = order[known[order]]
    return EdgeTable(f[order], t[order], properties.take(order) if properties.num_columns else properties)


class _Positions(NamedTuple):
    """Internal node ids of one label, ascending, and the position of each node in the order of ids."""

    number: IntVector
    position: IntVector


def _positions_of(connection: Connection, label: NodeLabel) -> _Positions:
    statement = f"{_page('n', label)} RETURN collect(id(n))"
    pages = [np.array(numbers, dtype=np.int64) for (numbers,) in _pages(connection, label, statement, PAGE_ROWS)]
    numbers = np.concatenate([np.empty(0, dtype=np.int64), *pages])
    order = np.argsort(numbers)
    return _Positions(numbers[order], order)


def _look_up(positions: _Positions, numbers: IntVector) -> IntVector:
    """Positions of nodes by their internal ids; -1 for a node that was added later."""
    if len(positions.number) == 0:
        return np.full(len(numbers), -1, dtype=np.int64)
    at = np.minimum(np.searchsorted(positions.number, numbers), len(positions.number) - 1)
    return np.where(positions.number[at] == numbers, positions.position[at], -1)


def edges_of(
    tx: Statements,
    edge: EdgeType,
    source: NodeLabel,
    target: NodeLabel,
    ids: Sequence[str],
    by: EdgeOwner,
    columns: Sequence[str],
) -> pa.Table:
    """See `GraphStore.edges_of`."""
    check_owner(edge, source, target, by)
    schema, unique = ends_schema(edge, columns), pc.unique(pa.array(ids, pa.string())).to_pylist()
    near, label = {"source": ("a", source), "target": ("b", target), "query": ("q", NodeLabel.QUERY)}[by]
    rollouts = f"(q)-[:{EdgeType.GENERATES}]->" if by == "query" else ""
    properties = f", {returned(edge_schema(edge, columns), 'r', 'found')}" if columns else ""
    statement = (
        f"UNWIND $ids AS id {by_id(near, label, 'id')} MATCH {rollouts}(a:{source})-[r:`{edge}`]->(b:{target}) "
        "WITH collect(a.id) AS sources, collect(b.id) AS targets, collect(r) AS found "
        f"RETURN sources, targets{properties}"
    )
    starts = range(0, len(unique), EDGE_PAGE_NODES)
    parts = [table(schema, tx.run(statement, ids=unique[start : start + EDGE_PAGE_NODES])[0]) for start in starts]
    return pa.concat_tables([schema.empty_table(), *parts])


def _read_edges(
    connection: Connection, edge: EdgeType, by: NodeLabel, other: NodeLabel, schema: pa.Schema
) -> tuple[IntVector, IntVector, pa.Table]:
    """Internal ids of both ends of each edge, paged end first, and the edges' properties.

    The neighbours of a node are returned as one string of numbers, and so are their scores, because the transfer time
    depends on the number of values.
    """
    arrow = "<-[r:`{}`]-" if edge in _BY_TARGET else "-[r:`{}`]->"
    label = f":{other}" if sum(one is by for one, _ in EDGE_ENDS[edge]) > 1 else ""
    lists = "".join(f", {_collected(field)}" for field in schema)
    statement = (
        f"{_page('a', by)} OPTIONAL MATCH (a){arrow.format(edge)}(b{label}) "
        "WITH a, collect(b) AS bs, collect(r) AS rs RETURN "
        f"collect(CASE WHEN size(bs) > 0 THEN [id(a), {_joined('b', 'bs', 'id(b)')}{lists}] END)"
    )
    near, far, properties = [], [], []
    for (rows,) in _pages(connection, by, statement, EDGE_PAGE_NODES):
        if not rows:
            continue
        ids, others, *values = zip(*rows, strict=True)
        counts = [text.count(" ") for text in others]
        near.append(np.repeat(np.array(ids, dtype=np.int64), counts))
        far.append(np.fromstring("".join(others), dtype=np.int64, sep=" "))
        properties.append(table(schema, [_flat(column, field) for column, field in zip(values, schema, strict=True)]))
    none = np.empty(0, dtype=np.int64)
    return (
        np.concatenate([none, *near]),
        np.concatenate([none, *far]),
        pa.concat_tables([schema.empty_table(), *properties]),
    )


def _collected(field: pa.Field) -> str:
    if field.type == pa.float32():
        return _joined("r", "rs", f"coalesce(toString(r.`{field.name}`), 'nan')")
    return returned(pa.schema([field]), "r", "rs").removesuffix(f" AS `{field.name}`")


def _joined(element: str, elements: str, value: str) -> str:
    return f"reduce(text = '', {element} IN {elements} | text + {value} + ' ')"


def _flat(lists: Sequence[Any], field: pa.Field) -> Any:
    """Values of one property of a page, given as one list or one string per node."""
    if field.type != pa.float32():
        return list(itertools.chain.from_iterable(lists))
    numbers = np.fromstring("".join(lists), dtype=np.float64, sep=" ")
    return pa.array(numbers.astype(np.float32), from_pandas=True)
