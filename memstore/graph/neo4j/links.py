"""Replace SIMILAR_TO neighbour lists on Neo4j.

Neo4j keeps a transaction in memory (400,000 edges take more than 700 MB). An update of more than `PART_WEIGHT` nodes
and edges is therefore split into several transactions, each of complete lists. Nodes that the update marks as linked
are written last: an interrupted update leaves nodes unmarked, the next `memstore link` links those again, and every
other list is already correct.

Nodes are looked up once by id and then addressed by their internal ids.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from memstore.errors import InputError, StoreError
from memstore.graph.neo4j.connection import Connection, Statements
from memstore.graph.neo4j.link_lease import check as check_lease
from memstore.graph.neo4j.statements import by_number, numbers
from memstore.graph.protocol import LinkUpdate
from memstore.graph.rules import absent, missing
from memstore.types import BoolVector, IntVector
from memstore_schema.columns import EdgeType, NodeLabel

PART_WEIGHT = 100_000
BATCH_SOURCES = 5_000
"""Source nodes per statement."""

_MARK = "SET a.linked = $fingerprint"
_EMPTY = f"WITH a MATCH (a)-[r:{EdgeType.SIMILAR_TO}]->() DELETE r"


class _Nodes:
    """The nodes of an update, ascending by id; the other parts of the update refer to them by position."""

    def __init__(self, update: LinkUpdate) -> None:
        self.label = update.label
        named = [pa.array(ids, pa.string()) for ids in (update.sources, update.linked)]
        ids = pc.unique(pa.chunked_array([*named, *update.edges["target"].chunks]))
        self.ids = ids.take(pc.sort_indices(ids))  # look-ups in index order are faster
        self.linked = np.unique(self.positions(named[1]))
        self._needed = np.union1d(self.linked, self.positions(update.edges["target"]))
        self._numbers: IntVector = np.empty(0, dtype=np.int64)
        self._written: int | None = None

    def positions(self, ids: pa.Array | pa.ChunkedArray) -> IntVector:
        """Positions of these ids."""
        found: IntVector = pc.index_in(ids, value_set=self.ids).to_numpy().astype(np.int64)
        return found

    def numbers(self, tx: Statements) -> IntVector:
        """Internal ids of all nodes; -1 for a source without neighbours that is not in the graph.

        They are looked up under the writers' lock, and again if another writer has committed since the last
        transaction of this update.

        Raises:
            InputError: a node to mark, or the target of an edge, is not in the graph.
        """
        if self._written is None or tx.writes != self._written + 1:
            self._numbers = numbers(tx, self.label, self.ids)
            lacking = self._needed[self._numbers[self._needed] < 0]
            if len(lacking):
                raise missing(self.label, self.ids.take(pa.array(lacking)).to_pylist())
        return self._numbers

    def committed(self, writes: int) -> None:
        """Note that a transaction with valid internal ids has committed; `writes` is the lock's counter in it."""
        self._written = writes


class _Part(NamedTuple):
    """Neighbour lists that are replaced in one transaction, one after the other; nodes by position."""

    source: IntVector
    is_linked: BoolVector
    """Which sources are marked."""
    offset: IntVector
    """Where each source's list begins, and where the last one ends."""
    target: IntVector
    score: pa.Array


def replace_links(connection: Connection, update: LinkUpdate, *, lease: int | None) -> None:
    """See `GraphStore.replace_links`; an update of more than `PART_WEIGHT` nodes and edges is written in parts.

    Args:
        lease: number of the lease under which the lists were computed (see `link_lease`); None without a lease.

    Raises:
        StoreError: the lease has expired.
        InputError: an edge leaves a node that is not in `update.sources`, or ends at a node that does not exist.
    """
    sources = pc.unique(pa.array(update.sources, pa.string()))
    stray = update.edges.filter(absent(update.edges["source"], sources))
    if stray.num_rows:
        raise InputError(
            f"an edge leaves {update.label} {stray['source'][0]}, whose links are not replaced; name it as a source"
        )
    nodes = _Nodes(update)
    source = nodes.positions(sources)
    rest = np.setdiff1d(nodes.linked, source)
    parts = list(_cut(nodes, source, update.edges))
    for part in parts:
        replace = partial(_replace, lease=lease, nodes=nodes, part=part, fingerprint=update.fingerprint)
        nodes.committed(connection.write(partial(replace, rest=rest if part is parts[-1] else rest[:0])))


def _cut(nodes: _Nodes, source: IntVector, edges: pa.Table) -> Iterator[_Part]:
    """Cut the lists into parts, sources to be marked last; yields one empty part if there are none."""
    is_linked = np.isin(source, nodes.linked)
    first_unmarked = np.argsort(is_linked, kind="stable")
    source, is_linked = source[first_unmarked], is_linked[first_unmarked]
    position = np.empty(len(nodes.ids), dtype=np.int64)
    position[source] = np.arange(len(source))
    leaves = position[nodes.positions(edges["source"])]
    order = np.argsort(leaves, kind="stable")
    target, score = nodes.positions(edges["target"])[order], edges["score"].combine_chunks().take(pa.array(order))
    counts = np.bincount(leaves, minlength=len(source))
    offset = np.concatenate([[0], np.cumsum(counts)])
    weight = np.cumsum(counts + 1) // PART_WEIGHT
    cuts = [0, *(np.flatnonzero(np.diff(weight)) + 1).tolist(), len(source)]
    for begin, end in itertools.pairwise(cuts):
        first, last = offset[begin], offset[end]
        lists = (offset[begin : end + 1] - first, target[first:last], score[first:last])
        yield _Part(source[begin:end], is_linked[begin:end], *lists)


def _replace(
    tx: Statements, *, lease: int | None, nodes: _Nodes, part: _Part, rest: IntVector, fingerprint: str
) -> int:
    """Replace the lists of a part and mark its linked sources and `rest` as linked."""
    check_lease(tx, lease)
    number = nodes.numbers(tx)
    unmarked, marked = part.source[~part.is_linked], part.source[part.is_linked]
    for changed, change in ((unmarked, _EMPTY), (marked, f"{_MARK} {_EMPTY}"), (rest, _MARK)):
        for start in range(0, len(changed), BATCH_SOURCES):
            tx.start(
                f"UNWIND $nodes AS node {by_number('a', nodes.label, 'node')} {change} RETURN count(*)",
                nodes=number[changed[start : start + BATCH_SOURCES]].tolist(),
                fingerprint=fingerprint,
            )
    for check in [_create(tx, nodes.label, rows) for rows in _batches(part, number)]:
        check()
    return tx.writes


def _batches(part: _Part, number: IntVector) -> Iterator[list[list[Any]]]:
    """Rows of (internal id of a source, those of its neighbours, their scores), for sources with neighbours."""
    chosen = np.flatnonzero(np.diff(part.offset))
    for start in range(0, len(chosen), BATCH_SOURCES):
        some = chosen[start : start + BATCH_SOURCES]
        first, last = part.offset[some[0]], part.offset[some[-1] + 1]
        offset = pa.array(np.append(part.offset[some], last) - first, pa.int32())
        columns = (pa.array(number[part.target[first:last]]), part.score[first:last])
        lists = (pa.ListArray.from_arrays(offset, column).to_pylist() for column in columns)
        yield [list(row) for row in zip(number[part.source[some]].tolist(), *lists, strict=True)]


def _create(tx: Statements, label: NodeLabel, rows: list[list[Any]]) -> Callable[[], None]:
    """Start to create edges; the returned function waits for them and checks their number."""
    made = tx.start(
        f"UNWIND $rows AS r {by_number('a', label, 'r[0]')} UNWIND range(0, size(r[1]) - 1) AS i "
        f"{by_number('b', label, 'r[1][i]')} CREATE (a)-[:{EdgeType.SIMILAR_TO} {{score: r[2][i]}}]->(b) "
        "RETURN count(*)",
        rows=rows,
    )
    wanted = sum(len(row[1]) for row in rows)

    def check() -> None:
        if (count := made()[0][0]) != wanted:
            raise StoreError(
                f"only {count} of {wanted} links could be created, because another program deletes nodes of this "
                "memory; run `memstore link` when it has ended"
            )

    return check
