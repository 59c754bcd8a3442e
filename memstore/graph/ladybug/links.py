"""SIMILAR_TO and INFLUENCED_BY edges: each node's edges are replaced as a whole."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from memstore.errors import InputError
from memstore.graph.ladybug.statements import check_known, create_edges, set_properties
from memstore.graph.protocol import InfluenceUpdate, LinkUpdate
from memstore.graph.rules import ENDS, absent, check_influences
from memstore_schema.columns import EDGE_ENDS, EdgeType, NodeLabel


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
    # Sorted by target: both ends are looked up, and the sources come in runs anyway. A third faster.
    create_edges(connection, EdgeType.SIMILAR_TO, label, label, edges.sort_by("target").rename_columns(ENDS))
    linked = pc.unique(pa.array(update.linked, pa.string()))
    fingerprints = pa.array([update.fingerprint] * len(linked), pa.string())
    set_properties(connection, label, pa.table({"id": linked, "linked": fingerprints}))


def replace_influences(connection: Any, update: InfluenceUpdate) -> None:
    """See `GraphStore.replace_influences`; runs inside one transaction."""
    check_influences(update)
    rollouts = pc.unique(pa.array(update.rollouts, pa.string()))
    check_known(connection, NodeLabel.THINKING, pa.chunked_array([rollouts]))
    for source, target in EDGE_ENDS[EdgeType.INFLUENCED_BY]:
        connection.execute(
            f"LOAD FROM $rows MATCH (a:{source})-[r:{EdgeType.INFLUENCED_BY}]->(:{target}) "
            "WHERE a.id = k AND r.model = m DELETE r",
            {"rows": pa.table({"k": rollouts, "m": pa.array([update.model] * len(rollouts), pa.string())})},
        )
        if (edges := update.edges.get(target)) is not None:
            check_known(connection, target, edges["target"])
            named = edges.rename_columns(ENDS).append_column(
                "model", pa.array([update.model] * edges.num_rows, pa.string())
            )
            create_edges(connection, EdgeType.INFLUENCED_BY, source, target, named)
