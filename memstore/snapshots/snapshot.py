"""`Snapshot`: a frozen, columnar copy of a memory, for training, analysis and backup.

It holds Arrow tables, COO edges and float32 matrices. Nodes are ordered by id, so positions are stable as long as the
nodes are the same. The ends of edges are such positions.
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
    """Origin of a snapshot."""

    id: str
    """Digest of the content; equal memories have equal ids."""
    schema_version: int
    embedder: str
    """`str(Fingerprint)` of the memory's embedder."""
    splitter: str
    """Version of the splitter that separated answers from reasoning."""
    links: str
    """The memory's link settings, such as `k=5 floor=0.0`."""
    namespace: str
    created_at: str
    """Time of the snapshot, ISO 8601 in UTC; not part of `id`."""


@dataclass(frozen=True)
class Snapshot:
    """A frozen copy of a memory.

    Node tables have the columns of `memstore_schema.columns` without `linked` and `batch`, ordered by id. A snapshot
    that was taken with `texts=False` lacks the columns `text`, `gold` and `metadata`.

    Edges (source -> target, positions in the node tables):
        generates: query -> thinking, one per thinking, ordered by (source, target)
        in: query -> dataset, with `key` and `split`: the names under which sources know the query, one or more
        leads_to: thinking -> answer, with `text` (absent without texts); a rollout without an answer has none
        query_similar, thinking_similar: node -> its nearest neighbours, with `score`
        produced: run -> thinking
        wrote: policy -> thinking
        reliable_in: policy -> dataset, with `reliability`, `low`, `high`, `votes`, `judged`, `estimated_at`
        scored_by: thinking -> reward model, with `probability`, `reward`, `source`, `scored_at`
        query_influence, thinking_influence, answer_influence, policy_influence, model_influence: thinking -> node of
            that label (reward model for the last), with `weight`, `effect`, `model`
    """

    manifest: Manifest
    queries: pa.Table
    thinkings: pa.Table
    answers: pa.Table
    runs: pa.Table
    reward_models: pa.Table
    datasets: pa.Table
    policies: pa.Table
    edges: Mapping[str, EdgeTable]
    query_x: FloatMatrix
    """float32 [Q, D]; zero where `query_has_x` is False, which means that the text is blank."""
    thinking_x: FloatMatrix
    """float32 [T, D]; vector of the thinking's text, or of the answer's if the thinking is blank."""
    query_has_x: BoolVector
    """bool [Q]"""
    thinking_has_x: BoolVector
    """bool [T]"""
    features: FloatMatrix | None = None
    """float32 [T, F]; what rows gave as features, of any length; zero where `has_features` is False. None if no rollout
    has features."""
    has_features: BoolVector | None = None
    """bool [T]"""

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
            "datasets": len(self.datasets),
            "policies": len(self.policies),
        }
