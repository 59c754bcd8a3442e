"""Columns of nodes and COO of edges, page by page.

A page is a read transaction of its own: so many nodes after the last id, in the order of the index on (namespace, id),
which the ORDER BY must name in full to be used. Its columns come collected into lists, edges as one list a node: a row
an edge takes several times as long. Server and client hold one page at a time, and what was read as Arrow.

Nodes are never deleted by memstore. What others add meanwhile may be in a page or not; an edge whose end came after
the ids were read is left out.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from memstore.graph.neo4j.connection import Connection, Statements
from memstore.graph.neo4j.statements import look_up, node_columns, returned, table
from memstore.graph.protocol import EdgeTable
from memstore.graph.rules import check_columns, check_ends
from memstore_schema.columns import EdgeType, NodeLabel, edge_schema

PAGE_ROWS = 10_000
LONG_PAGE_ROWS = 1_000
"""Nodes of a page where texts are read: at 100 kB each, 100 MB."""
LONG_COLUMNS = frozenset({"text", "gold", "metadata", "metrics"})
EDGE_PAGE_NODES = 5_000


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
    return [table(schema, row) for row in _pages(connection, statement, size)]


def _some(connection: Connection, label: NodeLabel, schema: pa.Schema, size: int, ids: Sequence[str]) -> list[pa.Table]:
    unique = pc.unique(pa.array(ids, pa.string()))

    def part(start: int) -> pa.Table:
        return connection.read(lambda tx: look_up(tx, label, unique.slice(start, size), schema.names))

    return [part(start) for start in range(0, len(unique), size)]


def _page(name: str, label: NodeLabel) -> str:
    """So many nodes after an id."""
    return (
        f"MATCH ({name}:{label}) USING INDEX SEEK {name}:{label}(namespace, id) WHERE {name}.id > $after "
        f"WITH {name} ORDER BY {name}.namespace, {name}.id LIMIT $size"
    )


def _pages(connection: Connection, statement: str, size: int) -> list[list[Any]]:
    """The one row of each page; its first column are the ids of the page's nodes."""
    pages, after = [], ""

    def page(after: str) -> Callable[[Statements], list[Any]]:
        return lambda tx: tx.run(statement, after=after, size=size)[0]

    while True:
        row = connection.read(page(after))
        pages.append(row)
        if len(row[0]) < size:
            return pages
        after = row[0][-1]


def edges(connection: Connection, edge: EdgeType, source: NodeLabel, target: NodeLabel) -> EdgeTable:
    """See `GraphStore.edges`."""
    check_ends(edge, source, target)
    source_ids = nodes(connection, source, ["id"], None)["id"]
    target_ids = source_ids if target is source else nodes(connection, target, ["id"], None)["id"]
    near, far, properties = _collected(connection, edge, source, target)
    if edge is EdgeType.PRODUCED:
        near, far = far, near
    f, t = (pc.index_in(ends, value_set=ids) for ends, ids in ((near, source_ids), (far, target_ids)))
    known = pc.and_(pc.is_valid(f), pc.is_valid(t))
    if not pc.all(known).as_py():
        f, t, properties = f.filter(known), t.filter(known), properties.filter(known)
    from_, to = (ends.to_numpy(zero_copy_only=False).astype(np.int64) for ends in (f, t))
    order = np.argsort(from_ * (len(target_ids) + 1) + to, kind="stable")
    return EdgeTable(from_[order], to[order], properties.take(order) if properties.num_columns else properties)


def _collected(
    connection: Connection, edge: EdgeType, source: NodeLabel, target: NodeLabel
) -> tuple[pa.ChunkedArray, pa.ChunkedArray, pa.Table]:
    """The ids of both ends of each edge, those first by which the pages go, and the properties.

    Pages go by the source; for PRODUCED by the target, since a run may have produced half of the memory.
    """
    schema = edge_schema(edge)
    by, other, arrow = (source, target, ("-", "->")) if edge is not EdgeType.PRODUCED else (target, source, ("<-", "-"))
    lists = "".join(f", collect({_list(field)})" for field in schema)
    statement = (
        f"{_page('a', by)} OPTIONAL MATCH (a){arrow[0]}[r:{edge}]{arrow[1]}(b:{other}) WITH a, collect(b) AS bs, collect(r) AS rs "
        f"RETURN collect(a.id), collect([b IN bs | b.id]){lists}"
    )
    near, far, properties = [], [], []
    for ids, others, *values in _pages(connection, statement, EDGE_PAGE_NODES):
        counts = np.fromiter(map(len, others), dtype=np.int64, count=len(others))
        near.append(pa.array(ids, pa.string()).take(pa.array(np.repeat(np.arange(len(ids)), counts))))
        far.append(pa.array(list(itertools.chain.from_iterable(others)), pa.string()))
        properties.append(table(schema, [list(itertools.chain.from_iterable(column)) for column in values]))
    return pa.chunked_array(near), pa.chunked_array(far), pa.concat_tables(properties)


def _list(field: pa.Field) -> str:
    return returned(pa.schema([field]), "r", "rs").removesuffix(f" AS `{field.name}`")
