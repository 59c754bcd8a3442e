"""Features of rollouts: numbers that a policy gives of them, such as a hidden state.

They are stored beside the vectors of the texts, in a collection of their own. The first rollout that has features
decides their length. Unlike the vectors of texts they cannot be computed again: a memory has them from rows or from a
snapshot. The features of a stored rollout stay as they are, and a row can add them to a rollout that has none. They
are written after the graph; an ingest that was killed in between adds them when it is run again.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping

import numpy as np

from memstore.locations.stores import Stores
from memstore.types import FloatMatrix
from memstore_schema.columns import NodeLabel

_ROWS = 5_000
"""Rows that are written in one request."""


def features_conflict(length: int | None, stored: int | None) -> str | None:
    """Why features of this length cannot join those of length `stored`, as a message; None if they can."""
    if length is None or stored is None or length == stored:
        return None
    return (
        f"its features have {length} numbers, and those of the memory have {stored}; take them from one model and one "
        "layer, or ingest the rows into another memory"
    )


def add_features(stores: Stores, features: Mapping[str, array[float]]) -> int:
    """Store the features of rollouts that have none yet, by id; all have one length. Returns how many were added."""
    if not features:
        return 0
    rows = np.array([np.frombuffer(row, np.float32) for row in features.values()])
    return write_features(stores, list(features), rows)


def write_features(stores: Stores, ids: list[str], rows: FloatMatrix) -> int:
    """Store the features float32 [N, F] of rollouts that have none yet; returns how many were added."""
    if stores.features_dimension is None:
        stores.record_features(rows.shape[1])
    absent = set(stores.features.missing(ids))
    chosen = [position for position, name in enumerate(ids) if name in absent]
    for start in range(0, len(chosen), _ROWS):
        block = chosen[start : start + _ROWS]
        stores.features.upsert("thinking", [ids[position] for position in block], np.ascontiguousarray(rows[block]))
    stores.features.flush()
    return len(chosen)


def orphan_features(stores: Stores) -> list[str]:
    """Ids of stored features whose rollout is not in the graph."""
    if stores.features_dimension is None:
        return []
    known = set(stores.graph.nodes(NodeLabel.THINKING, ["id"])["id"].to_pylist())
    return [name for block in stores.features.ids("thinking") for name in block if name not in known]


def delete_orphan_features(stores: Stores) -> int:
    """Delete the features whose rollout is not in the graph; returns how many were deleted.

    Without the last features, the next ones may have any length.
    """
    orphans = orphan_features(stores)
    if orphans:
        stores.features.delete(orphans)
        stores.features.flush()
        if not stores.features.count():
            stores.record_features(None)
    return len(orphans)
