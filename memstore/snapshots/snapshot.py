"""A snapshot: a frozen, columnar, read-only copy of a memory. What training reads and what one backs up.

In memory it is Arrow tables, COO edges and float32 matrices; in a folder the same as Arrow IPC and safetensors
with a manifest. Node order is by id, so a position is stable as long as the nodes are the same, and every edge
endpoint is such a position.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from memstore.graph.protocol import EdgeTable
from memstore.html_table import html_table
from memstore.types import BoolVector, FloatMatrix


@dataclass(frozen=True)
class Manifest:
    """What a snapshot is of. `id` is a digest of the content below: equal memories have equal snapshots."""

    id: str
    schema_version: int
    embedder: str
    """`str(Fingerprint)` of the memory's embedder."""
    splitter: str
    links: str
    """The link settings as recorded in the memory, e.g. `k=5 floor=0.0`."""
    namespace: str
    created_at: str
    """ISO 8601, UTC; not part of `id`."""


@dataclass(frozen=True)
class Snapshot:
    """A memory, frozen.

    Node tables have the columns of `memstore_schema.columns` (without `linked` and `batch`), ordered by id; the
    `text`, `gold` and `metadata` columns are absent where the snapshot was taken with `texts=False`.

    Edges (source -> target, positions in the node tables):
        generates: query -> thinking, one a thinking, ordered by (source, target)
        leads_to: thinking -> answer, with `text` (absent without texts); none for a rollout without an answer
        query_similar, thinking_similar: node -> its nearest neighbours, with `score`
        produced: run -> thinking
        scored_by: thinking -> reward model, with `probability`, `reward`, `scored_at`
    """

    manifest: Manifest
    queries: pa.Table
    thinkings: pa.Table
    answers: pa.Table
    runs: pa.Table
    reward_models: pa.Table
    edges: Mapping[str, EdgeTable]
    query_x: FloatMatrix
    """float32 [Q, D]; zero rows where `query_has_x` is False (a blank text)."""
    thinking_x: FloatMatrix
    """float32 [T, D]; the vector of the thinking's text, of the answer's where the thinking is blank."""
    query_has_x: BoolVector
    thinking_has_x: BoolVector

    def __repr__(self) -> str:
        counts = ", ".join(f"{name}={number}" for name, number in self._counts().items())
        return f"Snapshot(id={self.manifest.id!r}, {counts}, embedder={self.manifest.embedder!r})"

    def _repr_html_(self) -> str:
        rows: list[tuple[str, object]] = [
            *self._counts().items(),
            *((f"{name} edges", len(edges)) for name, edges in self.edges.items()),
            ("embedder", self.manifest.embedder),
            ("links", self.manifest.links),
            ("namespace", self.manifest.namespace),
            ("created", self.manifest.created_at),
        ]
        return html_table(["snapshot", self.manifest.id], rows)

    def _counts(self) -> dict[str, int]:
        labelled = self.thinkings["reward"]
        return {
            "queries": len(self.queries),
            "thinkings": len(self.thinkings),
            "labelled": len(labelled) - labelled.null_count,
            "answers": len(self.answers),
            "reward_models": len(self.reward_models),
        }
