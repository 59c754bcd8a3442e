"""SIMILAR_TO: a node's neighbour list is replaced as a whole.

A transaction of Neo4j lives in the server's memory (400,000 edges take more than 700 MB), so a large update is several
transactions, each of whole lists; one of up to `PART_WEIGHT` nodes and edges is a single one. Nodes that the update
marks as linked come after all others. So an update that is cut short leaves nodes unmarked, the next `memstore link`
does those again, and every list that is not done again is right already.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from memstore.errors import InputError
from memstore.graph.neo4j.connection import Connection, Statements
from memstore.graph.neo4j.statements import absent, by_id, check_known, listed, set_properties
from memstore.graph.neo4j.turns import check as check_turn
from memstore.graph.protocol import LinkUpdate
from memstore_schema.columns import EdgeType, NodeLabel

PART_WEIGHT = 100_000
BATCH_SOURCES = 5_000
"""Sources of one statement."""


_MARK = "SET a.linked = $fingerprint"


class _Part(NamedTuple):
    """Neighbour lists that are replaced in one transaction."""

    sources: pa.Array
    edges: pa.Table
    """The edges that leave them, ordered as the sources are."""


def replace_links(connection: Connection, update: LinkUpdate, *, turn: int | None) -> None:
    """See `GraphStore.replace_links`; more than `PART_WEIGHT` are replaced in parts.

    Args:
        turn: the turn in which the lists were computed (see `turns`); None where nobody else links.

    Raises:
        StoreError: the turn is over.
        InputError: an edge leaves a node that is not among `update.sources`, or ends at one that is nowhere.
    """
    label = update.label
    sources, linked = (pc.unique(pa.array(ids, pa.string())) for ids in (update.sources, update.linked))
    stray = update.edges.filter(absent(update.edges["source"], sources))
    if stray.num_rows:
        raise InputError(
            f"an edge leaves {label} {stray['source'][0]}, whose neighbours are not replaced; name it as a source"
        )
    marked = pc.is_in(sources, value_set=linked)
    parts = list(_cut(pa.concat_arrays([sources.filter(pc.invert(marked)), sources.filter(marked)]), update.edges))
    if len(parts) > 1:
        targets = pa.chunked_array([linked, *update.edges["target"].chunks])
        connection.read(lambda tx: check_known(tx, label, targets))
    rest = linked.filter(absent(linked, sources))
    for part in parts:
        replace = partial(_replace, turn=turn, label=label, part=part, linked=linked, fingerprint=update.fingerprint)
        connection.write(partial(replace, rest=rest if part is parts[-1] else rest[:0]))


def _cut(sources: pa.Array, edges: pa.Table) -> Iterator[_Part]:
    """Sources in their order with their edges, in parts; one, and an empty one, where there is nothing."""
    place = pc.index_in(edges["source"], value_set=sources).to_numpy()
    edges = edges.take(np.argsort(place, kind="stable"))
    counts = np.bincount(place, minlength=len(sources))
    begins = np.concatenate([[0], np.cumsum(counts)])
    weight = np.cumsum(counts + 1) // PART_WEIGHT
    cuts = [0, *(np.flatnonzero(np.diff(weight)) + 1).tolist(), len(sources)]
    for first, last in itertools.pairwise(cuts):
        yield _Part(sources[first:last], edges.slice(begins[first], begins[last] - begins[first]))


def _replace(
    tx: Statements,
    *,
    turn: int | None,
    label: NodeLabel,
    part: _Part,
    linked: pa.Array,
    rest: pa.Array,
    fingerprint: str,
) -> None:
    """Replace the lists of a part; mark those of its sources that are linked now, and `rest`."""
    check_turn(tx, turn)
    marked = pc.is_in(part.sources, value_set=linked)
    for sources, mark in ((part.sources.filter(pc.invert(marked)), ""), (part.sources.filter(marked), _MARK)):
        for start in range(0, len(sources), BATCH_SOURCES):
            tx.start(
                f"UNWIND $ids AS id {by_id('a', label, 'id')} {mark} "
                f"WITH a MATCH (a)-[r:{EdgeType.SIMILAR_TO}]->() DELETE r RETURN count(*)",
                ids=sources[start : start + BATCH_SOURCES].to_pylist(),
                fingerprint=fingerprint,
            )
    for check in [_create(tx, label, edges) for edges in _batches(part.edges)]:
        check()
    fingerprints = pa.array([fingerprint] * len(rest), pa.string())
    set_properties(tx, label, pa.table({"id": rest, "linked": fingerprints}))


def _batches(edges: pa.Table) -> Iterator[pa.Table]:
    """Cut edges that come in runs of one source where a source ends, after so many of them."""
    if edges.num_rows == 0:
        return
    source = edges["source"].combine_chunks()
    begins = np.flatnonzero(pc.not_equal(source[1:], source[:-1]).to_numpy(zero_copy_only=False)) + 1
    cuts = [0, *begins[BATCH_SOURCES - 1 :: BATCH_SOURCES].tolist(), edges.num_rows]
    for begin, end in itertools.pairwise(cuts):
        yield edges.slice(begin, end - begin)


def _create(tx: Statements, label: NodeLabel, edges: pa.Table) -> Callable[[], None]:
    """Begin to make edges; what is returned waits for them, and looks whether they are all there.

    Both ends are looked up once and then named by their place in a list.
    """
    ids = pc.unique(pa.chunked_array([*edges["source"].chunks, *edges["target"].chunks]))
    ids = ids.take(pc.sort_indices(ids))  # the server finds them faster in the order of its index
    made = tx.start(
        f"{listed('n', label, [])} UNWIND $rows AS r UNWIND range(0, size(r[1]) - 1) AS i "
        "WITH n_nodes[r[0]] AS a, n_nodes[r[1][i]] AS b, r[2][i] AS score "
        f"CREATE (a)-[:{EdgeType.SIMILAR_TO} {{score: score}}]->(b) RETURN count(*)",
        n_ids=ids.to_pylist(),
        rows=_grouped(edges, ids),
    )

    def check() -> None:
        if made()[0][0] != edges.num_rows:
            check_known(tx, label, pa.chunked_array([ids]))

    return check


def _grouped(edges: pa.Table, ids: pa.Array) -> list[list[Any]]:
    """A row a source: its place in `ids`, its neighbours' places, their scores."""
    at = pc.index_in(edges["source"], value_set=ids).to_numpy()
    begins = np.flatnonzero(np.diff(at, prepend=-1))
    offsets = pa.array(np.append(begins, len(at)), pa.int32())
    places = pc.index_in(edges["target"], value_set=ids).combine_chunks()
    lists = (pa.ListArray.from_arrays(offsets, each) for each in (places, edges["score"].combine_chunks()))
    return [list(row) for row in zip(at[begins].tolist(), *(each.to_pylist() for each in lists), strict=True)]
