"""SIMILAR_TO: a node's neighbour list is replaced as a whole."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from memstore.errors import InputError
from memstore.graph.neo4j.connection import Statements
from memstore.graph.neo4j.statements import absent, look_up, set_properties
from memstore.graph.protocol import LinkUpdate
from memstore.graph.rules import missing
from memstore_schema.columns import EdgeType

SOURCES = 5_000
"""Sources of one statement; their neighbours come with them."""


def replace_links(tx: Statements, update: LinkUpdate) -> None:
    """See `GraphStore.replace_links`; runs inside one transaction.

    Raises:
        InputError: an edge leaves a node that is not among `update.sources`, or ends at one that is nowhere.
    """
    label = update.label
    sources = pc.unique(pa.array(update.sources, pa.string()))
    edges = update.edges
    stray = edges.filter(absent(edges["source"], sources))
    if stray.num_rows:
        raise InputError(
            f"an edge leaves {label} {stray['source'][0]}, whose neighbours are not replaced; name it as a source"
        )
    for start in range(0, len(sources), SOURCES):
        tx.run(
            f"UNWIND $ids AS id MATCH (a:{label} {{id: id}})-[r:{EdgeType.SIMILAR_TO}]->(:{label}) DELETE r",
            ids=sources.slice(start, SOURCES).to_pylist(),
        )
    _create(tx, update)
    _mark(tx, update)


def _create(tx: Statements, update: LinkUpdate) -> None:
    """Edges, grouped by source. Nodes are looked up once a statement and then named by their place in a list."""
    label = update.label
    for part in _parts(update.edges.sort_by("source")):
        ids = pc.unique(pa.chunked_array([*part["source"].chunks, *part["target"].chunks]))
        made = tx.run(
            f"UNWIND $ids AS id MATCH (n:{label} {{id: id}}) WITH collect(n) AS nodes WHERE size(nodes) = size($ids) "
            "UNWIND $rows AS r UNWIND range(0, size(r[1]) - 1) AS i "
            "WITH nodes[r[0]] AS a, nodes[r[1][i]] AS b, r[2][i] AS score "
            f"CREATE (a)-[:{EdgeType.SIMILAR_TO} {{score: score}}]->(b) RETURN count(*)",
            ids=ids.to_pylist(),
            rows=_grouped(part, ids),
        )[0][0]
        if made != part.num_rows:
            known = look_up(tx, label, pa.chunked_array([ids]), ["id"])
            raise missing(label, ids.filter(absent(ids, known["id"])).to_pylist())


def _parts(edges: pa.Table) -> Iterator[pa.Table]:
    """Cut edges that are ordered by source where a source ends, after so many of them."""
    if edges.num_rows == 0:
        return
    source = edges["source"].combine_chunks()
    begins = np.flatnonzero(pc.not_equal(source[1:], source[:-1]).to_numpy(zero_copy_only=False)) + 1
    cuts = [0, *begins[SOURCES - 1 :: SOURCES].tolist(), edges.num_rows]
    for begin, end in itertools.pairwise(cuts):
        yield edges.slice(begin, end - begin)


def _grouped(part: pa.Table, ids: pa.Array) -> list[list[Any]]:
    """A row a source: its place in `ids`, its neighbours' places, their scores."""
    at = pc.index_in(part["source"], value_set=ids).to_numpy()
    begins = np.flatnonzero(np.diff(at, prepend=-1))
    offsets = pa.array(np.append(begins, len(at)), pa.int32())
    places = pc.index_in(part["target"], value_set=ids).combine_chunks()
    lists = (pa.ListArray.from_arrays(offsets, each) for each in (places, part["score"].combine_chunks()))
    return [list(row) for row in zip(at[begins].tolist(), *(each.to_pylist() for each in lists), strict=True)]


def _mark(tx: Statements, update: LinkUpdate) -> None:
    linked = pc.unique(pa.array(update.linked, pa.string()))
    fingerprints = pa.array([update.fingerprint] * len(linked), pa.string())
    set_properties(tx, update.label, pa.table({"id": linked, "linked": fingerprints}))
