"""Scores as the Arrow table that a graph store records."""

from __future__ import annotations

import pyarrow as pa

from memstore_gnn.scoring.score import Scores


def score_table(scores: Scores) -> pa.Table:
    """Columns id and source (string), probability and reward (float64) for `memstore.graph.protocol.ScoreBatch`."""
    return pa.table(
        {
            "id": pa.array(scores.id.tolist(), pa.string()),
            "probability": pa.array(scores.probability, pa.float64()),
            "reward": pa.array(scores.reward, pa.float64()),
            "source": pa.array(scores.source.tolist(), pa.string()),
        }
    )
