"""SIMILAR_TO: a node's neighbour list is replaced as a whole.

A transaction of Neo4j lives in the server's memory (400,000 edges take more than 700 MB), so a large update is several
transactions, each of whole lists; one of up to `PART_WEIGHT` nodes and edges is a single one. Nodes that the update
marks as linked come after all others. So an update that is cut short leaves nodes unmarked, the next `memstore link`
does those again, and every list that is not done again is right already.

Nodes are looked up once, by their ids, and then named by the server's own numbers.
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
from memstore.graph.neo4j.link_lease import check as check_turn
from memstore.graph.neo4j.statements import by_number, numbers
from memstore.graph.protocol import LinkUpdate
from memstore.graph.rules import absent, missing
from memstore.types import BoolVector, IntVector
from memstore_schema.columns import EdgeType, NodeLabel

PART_WEIGHT = 100_000
BATCH_SOURCES = 5_000
"""Sources of one statement."""

_MARK = "SET a.linked = $fingerprint"
_EMPTY = f"WITH a MATCH (a)-[r:{EdgeType.SIMILAR_TO}]->() DELETE r"


class _Nodes:
    """The nodes of an update, ascending by id; all else of it names them by their positions here."""

    def __init__(self, update: LinkUpdate) -> None:
        self.label = update.label
        named = [pa.array(ids, pa.string()) for ids in (update.sources, update.linked)]
        ids = pc.unique(pa.chunked_array([*named, *update.edges["target"].chunks]))
        self.ids = ids.take(pc.sort_indices(ids))  # the server finds them faster in the order of its index
        self.linked = np.unique(self.positions(named[1]))
        self._needed = np.union1d(self.linked, self.positions(update.edges["target"]))
        self._numbers: IntVector = np.empty(0, dtype=np.int64)
        self._written: int | None = None

    def positions(self, ids: pa.Array | pa.ChunkedArray) -> IntVector:
        """Where these ids are."""
        found: IntVector = pc.index_in(ids, value_set=self.ids).to_numpy().astype(np.int64)
        return found

    def numbers(self, tx: Statements) -> IntVector:
        """The server's numbers of all; -1 for a source without neighbours that is not in the graph.

        They are looked up under the writers' lock, and again where another writer came after our last transaction.

        Raises:
            InputError: a node that is to be marked, or to which an edge leads, is not in the graph.
        """
        if self._written is None or tx.writes != self._written + 1:
            self._numbers = numbers(tx, self.label, self.ids)
            lacking = self._needed[self._numbers[self._needed] < 0]
            if len(lacking):
                raise missing(self.label, self.ids.take(pa.array(lacking)).to_pylist())
        return self._numbers

    def committed(self, writes: int) -> None:
        """A transaction in which the numbers were right is done; `writes` is what the lock counted in it."""
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


def replace_links(connection: Connection, update: LinkUpdate, *, turn: int | None) -> None:
    """See `GraphStore.replace_links`; more than `PART_WEIGHT` are replaced in parts.

    Args:
        turn: the turn in which the lists were computed (see `turns`); None where nobody else links.

    Raises:
        StoreError: the turn is over.
        InputError: an edge leaves a node that is not among `update.sources`, or ends at one that is nowhere.
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
        replace = partial(_replace, turn=turn, nodes=nodes, part=part, fingerprint=update.fingerprint)
        nodes.committed(connection.write(partial(replace, rest=rest if part is parts[-1] else rest[:0])))


def _cut(nodes: _Nodes, source: IntVector, edges: pa.Table) -> Iterator[_Part]:
    """Sources, those that are marked last, with their lists, in parts; an empty one where there is nothing."""
    is_linked = np.isin(source, nodes.linked)
    first_unmarked = np.argsort(is_linked, kind="stable")
    source, is_linked = source[first_unmarked], is_linked[first_unmarked]
    place = np.empty(len(nodes.ids), dtype=np.int64)
    place[source] = np.arange(len(source))
    leaves = place[nodes.positions(edges["source"])]
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


def _replace(tx: Statements, *, turn: int | None, nodes: _Nodes, part: _Part, rest: IntVector, fingerprint: str) -> int:
    """Replace the lists of a part; mark those of its sources that are linked now, and `rest`."""
    check_turn(tx, turn)
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
    """A row a source that has neighbours: its number, its neighbours' numbers, their scores."""
    chosen = np.flatnonzero(np.diff(part.offset))
    for start in range(0, len(chosen), BATCH_SOURCES):
        some = chosen[start : start + BATCH_SOURCES]
        first, last = part.offset[some[0]], part.offset[some[-1] + 1]
        offset = pa.array(np.append(part.offset[some], last) - first, pa.int32())
        columns = (pa.array(number[part.target[first:last]]), part.score[first:last])
        lists = (pa.ListArray.from_arrays(offset, column).to_pylist() for column in columns)
        yield [list(row) for row in zip(number[part.source[some]].tolist(), *lists, strict=True)]


def _create(tx: Statements, label: NodeLabel, rows: list[list[Any]]) -> Callable[[], None]:
    """Begin to make edges; what is returned waits for them, and looks whether they are all there."""
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
                f"of {wanted} links only {count} could be made: another program deletes nodes of this memory; once it "
                "has ended, `memstore link` does what is left"
            )

    return check
