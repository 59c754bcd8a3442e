"""Columns of nodes and COO of edges, page by page.

A page is a read transaction of its own: so many nodes after the last id, in the order of the index on (namespace, id),
which the ORDER BY must name in full to be used. Its columns come collected into lists, edges as one list a node: a row
an edge takes several times as long. Server and client hold a few pages at a time, and what was read as Arrow.

Nodes are never deleted by memstore. What others add meanwhile may be in a page or not; an edge whose end came after
the ids were read is left out.
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
from memstore.graph.neo4j.statements import look_up, node_columns, returned, table
from memstore.graph.protocol import EdgeTable
from memstore.graph.rules import check_columns, check_ends
from memstore.types import IntVector
from memstore_schema.columns import EDGE_ENDS, EdgeType, NodeLabel, edge_schema

PAGE_ROWS = 5_000
LONG_PAGE_ROWS = 1_000
"""Nodes of a page where texts are read: at 100 kB each, 100 MB."""
LONG_COLUMNS = frozenset({"text", "gold", "metadata", "metrics"})
EDGE_PAGE_NODES = 5_000
READERS = 2
"""Pages that are read at once."""


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
    """The nodes of a page, in the order of ids."""
    return (
        f"MATCH ({name}:{label}) USING INDEX SEEK {name}:{label}(namespace, id) "
        f"WHERE {name}.id > $after AND {name}.id <= $until WITH {name} ORDER BY {name}.namespace, {name}.id"
    )


def _pages(connection: Connection, label: NodeLabel, statement: str, size: int) -> Iterator[list[Any]]:
    """The one row of each page.

    Two pages are read at a time, so that the server works while the client unpacks; no more than three are held.
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
    """Cut the ids of a label into ranges (after, until] of so many."""
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


def edges(connection: Connection, edge: EdgeType, source: NodeLabel, target: NodeLabel) -> EdgeTable:
    """See `GraphStore.edges`.

    Pages go by the source; for PRODUCED by the target, since a run may have produced half of the memory.
    """
    check_ends(edge, source, target)
    by, other = (target, source) if edge is EdgeType.PRODUCED else (source, target)
    places = _places(connection, by)
    others = places if other is by else _places(connection, other)
    near, far, properties = _collected(connection, edge, by, other)
    near, far = _look_up(places, near), _look_up(others, far)
    known = (near >= 0) & (far >= 0)
    f, t, last = (far, near, len(places[0])) if edge is EdgeType.PRODUCED else (near, far, len(others[0]))
    order = np.argsort(f * (last + 1) + t, kind="stable")
    order = order[known[order]]
    return EdgeTable(f[order], t[order], properties.take(order) if properties.num_columns else properties)


class _Places(NamedTuple):
    """The server's numbers of a label's nodes, ascending, and the position of each in the order of ids."""

    number: IntVector
    position: IntVector


def _places(connection: Connection, label: NodeLabel) -> _Places:
    statement = f"{_page('n', label)} RETURN collect(id(n))"
    pages = [np.array(numbers, dtype=np.int64) for (numbers,) in _pages(connection, label, statement, PAGE_ROWS)]
    numbers = np.concatenate([np.empty(0, dtype=np.int64), *pages])
    order = np.argsort(numbers)
    return _Places(numbers[order], order)


def _look_up(places: _Places, numbers: IntVector) -> IntVector:
    """Positions of nodes by the server's numbers; -1 for one that came later."""
    if len(places.number) == 0:
        return np.full(len(numbers), -1, dtype=np.int64)
    at = np.minimum(np.searchsorted(places.number, numbers), len(places.number) - 1)
    return np.where(places.number[at] == numbers, places.position[at], -1)


def _collected(
    connection: Connection, edge: EdgeType, by: NodeLabel, other: NodeLabel
) -> tuple[IntVector, IntVector, pa.Table]:
    """The server's numbers of both ends of each edge, those first by which the pages go, and the properties.

    A node's neighbours come as one text of numbers, and so do their scores: what costs is the number of values.
    """
    schema = edge_schema(edge)
    arrow = "<-[r:{}]-" if edge is EdgeType.PRODUCED else "-[r:{}]->"
    label = f":{other}" if sum(one is by for one, _ in EDGE_ENDS[edge]) > 1 else ""
    lists = "".join(f", {_list(field)}" for field in schema)
    statement = (
        f"{_page('a', by)} OPTIONAL MATCH (a){arrow.format(edge)}(b{label}) "
        "WITH a, collect(b) AS bs, collect(r) AS rs RETURN "
        f"collect(CASE WHEN size(bs) > 0 THEN [id(a), {_text('b', 'bs', 'id(b)')}{lists}] END)"
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


def _list(field: pa.Field) -> str:
    if field.type == pa.float32():
        return _text("r", "rs", f"coalesce(toString(r.`{field.name}`), 'nan')")
    return returned(pa.schema([field]), "r", "rs").removesuffix(f" AS `{field.name}`")


def _text(element: str, elements: str, value: str) -> str:
    return f"reduce(text = '', {element} IN {elements} | text + {value} + ' ')"


def _flat(lists: Sequence[Any], field: pa.Field) -> Any:
    """The values of one property of a page, from a list or a text a node."""
    if field.type != pa.float32():
        return list(itertools.chain.from_iterable(lists))
    numbers = np.fromstring("".join(lists), dtype=np.float64, sep=" ")
    return pa.array(numbers.astype(np.float32), from_pandas=True)
