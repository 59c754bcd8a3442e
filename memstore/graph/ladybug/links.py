"""SIMILAR_TO: a node's neighbour list is replaced as a whole."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from memstore.errors import InputError
from memstore.graph.ladybug.statements import absent, create_edges, set_properties
from memstore.graph.protocol import LinkUpdate
from memstore_schema.columns import EdgeType


def replace_links(connection: Any, update: LinkUpdate) -> None:
    """See `GraphStore.replace_links`; runs inside one transaction.

    Raises:
        InputError: an edge leaves a node that is not among `update.sources`.
    """
    label = update.label
    sources = pc.unique(pa.array(update.sources, pa.string()))
    edges = update.edges
    stray = edges.filter(absent(edges["source"], sources))
    if stray.num_rows:
        raise InputError(
            f"an edge leaves {label} {stray['source'][0]}, whose neighbours are not replaced; name it as a source"
        )
    if len(sources):
        connection.execute(
            f"LOAD FROM $rows MATCH (a:{label})-[r:{EdgeType.SIMILAR_TO}]->(:{label}) WHERE a.id = k DELETE r",
            {"rows": pa.table({"k": sources})},
        )
    # In the order of their targets, since both ends are looked up and the sources come in runs anyway: a third faster.
    create_edges(connection, EdgeType.SIMILAR_TO, label, label, edges.sort_by("target"))
    linked = pc.unique(pa.array(update.linked, pa.string()))
    fingerprints = pa.array([update.fingerprint] * len(linked), pa.string())
    set_properties(connection, label, pa.table({"id": linked, "linked": fingerprints}))
