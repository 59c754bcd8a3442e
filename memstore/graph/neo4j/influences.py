"""Replace the INFLUENCED_BY edges of a reward model in one transaction on Neo4j."""

from __future__ import annotations

import pyarrow as pa

from memstore.graph.neo4j.connection import Statements
from memstore.graph.neo4j.statements import BATCH_ROWS, by_id, check_known, create_edges
from memstore.graph.protocol import InfluenceUpdate
from memstore.graph.rules import ENDS, check_influences
from memstore_schema.columns import EdgeType, NodeLabel


def replace_influences(tx: Statements, update: InfluenceUpdate) -> None:
    """See `GraphStore.replace_influences`."""
    check_influences(update)
    rollouts = list(dict.fromkeys(update.rollouts))
    check_known(tx, NodeLabel.THINKING, pa.chunked_array([pa.array(rollouts, pa.string())]))
    for start in range(0, len(rollouts), BATCH_ROWS):
        tx.run(
            f"UNWIND $ids AS id {by_id('a', NodeLabel.THINKING, 'id')} "
            f"WITH a MATCH (a)-[r:{EdgeType.INFLUENCED_BY} {{model: $model}}]->() DELETE r",
            ids=rollouts[start : start + BATCH_ROWS],
            model=update.model,
        )
    for label, edges in update.edges.items():
        check_known(tx, label, edges["target"])
        named = edges.rename_columns(ENDS).append_column(
            "model", pa.array([update.model] * edges.num_rows, pa.string())
        )
        create_edges(tx, EdgeType.INFLUENCED_BY, NodeLabel.THINKING, label, named)
