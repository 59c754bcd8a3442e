"""The digest of a snapshot's content, which becomes its id."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from memstore.graph.protocol import EdgeTable
from memstore.types import FloatMatrix
from memstore_schema.columns import NodeLabel

DIGESTED_LABELS = (NodeLabel.QUERY, NodeLabel.THINKING, NodeLabel.ANSWER)
"""Labels whose ids are part of the digest."""
DIGESTED_EDGES = ("generates", "leads_to", "query_similar", "thinking_similar")
"""Edge tables that are part of the digest, in the order in which they are added."""


class ContentDigest:
    """Digest of node ids, rewards, edges, link scores and features, which are added in this order.

    The ids cover texts and vectors, because they are hashes of them. Predictions are not part of the digest: scoring a
    memory does not change its identity.
    """

    def __init__(self, tables: Mapping[NodeLabel, pa.Table]) -> None:
        """Begin with the `id` of `DIGESTED_LABELS` and the `reward` of the rollouts."""
        self._digest = hashlib.blake2b(digest_size=12)
        for label in DIGESTED_LABELS:
            if len(ids := tables[label]["id"]):
                self._digest.update(_joined(ids))
        rewards = tables[NodeLabel.THINKING]["reward"].to_numpy(zero_copy_only=False)
        self._digest.update(np.nan_to_num(rewards.astype(np.float64), nan=-1.0).tobytes())

    def add_edges(self, edge: EdgeTable) -> None:
        """Add the next of `DIGESTED_EDGES`."""
        self._digest.update(np.ascontiguousarray(edge.source).data)
        self._digest.update(np.ascontiguousarray(edge.target).data)
        if "score" in edge.properties.column_names:
            self._digest.update(edge.properties["score"].to_numpy(zero_copy_only=False).tobytes())

    def add_features(self, features: FloatMatrix) -> None:
        """Add the features of the next rollouts."""
        self._digest.update(np.ascontiguousarray(features).data)

    def id(self) -> str:
        """The id of a snapshot with this content."""
        return "s-" + self._digest.hexdigest()


def content_digest(
    tables: Mapping[NodeLabel, pa.Table], edges: Mapping[str, EdgeTable], features: FloatMatrix | None = None
) -> str:
    """The id of a snapshot with this content; see `ContentDigest`."""
    digest = ContentDigest(tables)
    for name in DIGESTED_EDGES:
        digest.add_edges(edges[name])
    if features is not None:
        digest.add_features(features)
    return digest.id()


def _joined(column: pa.ChunkedArray) -> pa.Buffer:
    """The ids as one text, which does not depend on how Arrow chunked the column."""
    ids = pa.concat_arrays(column.chunks)
    return pc.binary_join(pa.ListArray.from_arrays(pa.array([0, len(ids)], pa.int32()), ids), "\n")[0].as_buffer()
