"""The interface of a graph backend, `GraphStore`, and the types that it exchanges.

The conformance suite in `memstore.testing` checks these assumptions on every backend:

1. `write_block`, `append_scores`, `replace_influences`, `replace_reliabilities`, `set_labels` and `clear_labels` are
   atomic: after a crash either the whole call or none of it is in the graph. `replace_links` is atomic too, except that
   a server may split a large update: then every list is complete, and nodes are marked as linked last. All are
   idempotent.
2. Node tables are ordered by `id` (bytewise). Edge endpoints are positions in that order, not database ids.
3. Bulk data is columnar: pyarrow tables in and out, never one Python object per row.
4. An embedded store has one owning process; `LockedError` names it.

Columns are declared once, in `memstore_schema.columns`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

import pyarrow as pa

from memstore.graph.cypher_result import CypherResult as CypherResult
from memstore.types import IntVector
from memstore_schema.columns import ALIAS_SCHEMA, EdgeOwner, EdgeType, NodeLabel, node_schema

if TYPE_CHECKING:
    from memstore.graph.query_filter import QueryFilter


class WriteCounts(NamedTuple):
    """Numbers of nodes that one `write_block` added or changed."""

    queries_added: int
    thinkings_added: int
    thinkings_changed: int
    """Existing rollouts whose label was set or replaced."""
    answers_added: int


@dataclass(frozen=True)
class GraphBlock:
    """Rollouts that are written to the graph in one transaction.

    Tables have the columns of `memstore_schema.columns` for their label, and unique ids. `thinkings` has the further
    columns `query_id`, `answer_id`, `answer_text` and `policy_id`. The answer's two are null if no answer could be
    extracted, and `policy_id` is null if the policy is not known. The edges GENERATES, LEADS_TO, WROTE and PRODUCED
    follow from these columns and `run`. A query of `aliases` is in the block or the graph.
    """

    queries: pa.Table
    thinkings: pa.Table
    answers: pa.Table
    runs: pa.Table
    batch: Mapping[str, Any]
    """Properties of the Batch node, including `id`; written in the same transaction."""
    policies: pa.Table = field(default_factory=node_schema(NodeLabel.POLICY).empty_table)
    datasets: pa.Table = field(default_factory=node_schema(NodeLabel.DATASET).empty_table)
    aliases: pa.Table = field(default_factory=ALIAS_SCHEMA.empty_table)
    """Names of the queries in their sources (`ALIAS_SCHEMA`), an IN edge each."""


@dataclass(frozen=True)
class EdgeTable:
    """Edges of one type between two labels, as COO.

    `source` and `target` are int64 [E] positions in the id-ordered node tables of their labels. `properties` has
    one row per edge, in the same order. Edges are ordered by (source, target).
    """

    source: IntVector
    target: IntVector
    properties: pa.Table

    def __len__(self) -> int:
        return len(self.source)

    def __repr__(self) -> str:
        return f"EdgeTable(edges={len(self)}, properties={self.properties.column_names})"


@dataclass(frozen=True)
class LinkUpdate:
    """New neighbour lists for nodes of one label; they replace the existing lists of these sources.

    `sources` (ids) may include nodes that have no neighbours any more. `edges` has the columns `source` and `target`
    (ids) and `score` (float32 cosine). `linked` (ids) are the nodes to mark as linked under `fingerprint`.
    """

    label: NodeLabel
    sources: Sequence[str]
    edges: pa.Table
    linked: Sequence[str]
    fingerprint: str


@dataclass(frozen=True)
class ScoreBatch:
    """Predictions of one reward model for rollouts of the memory. Those of other models are never overwritten.

    `scores` has the columns `id` (rollout), `probability` (float64 0..1), `reward` (float64; a shaped reward can lie
    outside 0..1), and `source`, which is `remembered` where the score is the verdict on the rollout's answer and
    `predicted` elsewhere. `model` holds the properties of the RewardModel node, including `id`. With `replace`, the
    scores take the place of earlier ones of the same model and rollout; without it, these stay.
    """

    model: Mapping[str, Any]
    scores: pa.Table
    properties: Mapping[str, Any] = field(default_factory=dict)
    replace: bool = False


@dataclass(frozen=True)
class InfluenceUpdate:
    """Influences on one reward model's scores of some rollouts; they replace the existing ones.

    `rollouts` (ids) may include rollouts without influences. `edges` maps the label of the targets (Query, Thinking,
    Answer, Policy or RewardModel) to a table of `source` (one of `rollouts`), `target` (id), `weight` (float64, the
    target's share of the score's logit) and `effect` (float64, the probability less the probability without the
    target). A pair of nodes has one edge of a model.
    """

    model: str
    rollouts: Sequence[str]
    edges: Mapping[NodeLabel, pa.Table]


class GraphReader(Protocol):
    """Reads nodes and edges, of a graph store or of what stands in for one."""

    def nodes(self, label: NodeLabel, columns: Sequence[str], *, ids: Sequence[str] | None = None) -> pa.Table:
        """Columns of all nodes of a label, or of the existing nodes in `ids`; ordered by id, without duplicates."""
        ...

    def edges(
        self, edge: EdgeType, source: NodeLabel, target: NodeLabel, columns: Sequence[str] | None = None
    ) -> EdgeTable:
        """All edges of a type between two labels; endpoints are positions in `nodes(label, ["id"])`.

        Args:
            columns: the properties to read; None reads all, which a graph of an older schema may lack.
        """
        ...

    def edges_of(
        self,
        edge: EdgeType,
        source: NodeLabel,
        target: NodeLabel,
        ids: Sequence[str],
        *,
        by: EdgeOwner = "source",
        columns: Sequence[str] = (),
    ) -> pa.Table:
        """The edges of a type that leave these nodes or, with `by="target"`, reach them, in any order.

        It reads no other edges, so it is fast in a large graph. With `by="query"` the ids are of queries, and the edges
        are those that leave their rollouts, which is faster than to name the rollouts.

        Returns:
            `source_id`, `target_id`, and these properties.
        """
        ...


class GraphStore(GraphReader, Protocol):
    """A graph database that holds a memory; the module docstring lists the assumptions."""

    backend: str
    """`ladybug`, `neo4j` or `memory`."""
    speaks_cypher: bool
    """False only for the in-memory test double."""

    @property
    def read_only(self) -> bool:
        """Whether the graph was opened for reading only, because its folder cannot be written to."""
        ...

    def version(self) -> int | None:
        """A number that changes with every write; None where another process may write."""
        ...

    def schema_version(self) -> int:
        """Number of the newest applied migration; 0 for an empty store."""
        ...

    def migrate(self) -> list[str]:
        """Apply the pending migrations, each in its own transaction; return their names.

        Raises:
            SchemaError: the store has a newer schema than this version of memstore.
        """
        ...

    def read_meta(self) -> dict[str, str]:
        """Settings that the stored data depend on: embedder, splitter version, link settings, ..."""
        ...

    def write_meta(self, values: Mapping[str, str]) -> None:
        """Add or overwrite settings."""
        ...

    def write_block(self, block: GraphBlock, *, replace: bool = False) -> WriteCounts:
        """Add the nodes and edges of a block; existing nodes keep their properties, and only nulls are filled in.

        An alias that a query has already is not added again. An existing rollout without a reward takes the reward of
        the block. Query.gold likewise: the first value stays unless `replace` is set. Run.policy becomes the sorted,
        comma-joined union. The verdicts of answers follow from the labels of their rollouts
        (`memstore.graph.verdicts`); those of `block.answers` are not read.

        Raises:
            LabelConflict: a reward differs from the stored one and `replace` is False. Nothing is written. The
                caller is expected to reject such rows beforehand (see `memstore.pipeline.ingest`).
            InputError: an id occurs twice, or a rollout names a query, answer, policy or run that does not exist.
        """
        ...

    def find_queries(self, wanted: QueryFilter, after: str, limit: int, *, timeout_s: float) -> list[str]:
        """The ids of the first queries that a filter selects and that come after an id, in their order.

        Raises:
            QueryTimeout: it takes longer than `timeout_s` seconds.
        """
        ...

    def aliases(self, queries: Sequence[str]) -> pa.Table:
        """The names of these queries in their sources, one row an IN edge (`ALIAS_SCHEMA`), in any order."""
        ...

    def answer_texts(self, thinkings: Sequence[str]) -> pa.Table:
        """The answers of these rollouts as written (`ANSWER_TEXTS`), in any order. Not all have an answer."""
        ...

    def replace_links(self, update: LinkUpdate) -> None:
        """Replace the SIMILAR_TO edges that leave `update.sources` and mark `update.linked`."""
        ...

    def linking(self) -> AbstractContextManager[None]:
        """Hold the linking lease, so that no other process links this memory at the same time.

        A second process waits; other operations do not. It does nothing on a store with a single owner.
        """
        ...

    def append_scores(self, batch: ScoreBatch) -> None:
        """Write SCORED_BY edges, and the RewardModel node if it is new.

        A rollout that this model has scored before keeps its score, or gets the new one with `batch.replace`.
        `batch.properties` are set on every edge.

        Raises:
            InputError: an id is not in the memory; nothing is written.
        """
        ...

    def replace_influences(self, update: InfluenceUpdate) -> None:
        """Replace the INFLUENCED_BY edges of one model that leave `update.rollouts`; edges of other models stay.

        Raises:
            InputError: an id is not in the memory, or an edge leaves another rollout; nothing is written.
        """
        ...

    def replace_reliabilities(self, edges: pa.Table) -> None:
        """Replace all RELIABLE_IN edges.

        Args:
            edges: the ids of policies (`source`) and datasets (`target`), and the columns of RELIABLE_IN.

        Raises:
            InputError: an id is not in the memory; nothing is written.
        """
        ...

    def set_labels(self, labels: pa.Table, *, replace: bool = False) -> int:
        """Set `reward` and `reward_source` by `id`, and the verdicts that follow from them.

        Returns:
            Number of changed rollouts.

        Raises:
            LabelConflict: a reward differs from the stored one and `replace` is False; nothing is written.
            InputError: an id is not in the memory; nothing is written.
        """
        ...

    def clear_labels(self, ids: Sequence[str]) -> int:
        """Remove `reward` and `reward_source` of these rollouts, and the verdicts that follow from them.

        Returns:
            How many had a reward.

        Raises:
            InputError: an id that is not in the memory; nothing is written.
        """
        ...

    def refresh_verdicts(self, answers: Sequence[str]) -> None:
        """Set the verdicts of these answers (ids) to what the labels of their rollouts say.

        Writing a block and changing labels do this for the answers concerned, in the same transaction. It is needed
        after rollouts were deleted, or labels changed by a Cypher statement.

        Raises:
            InputError: an id is not in the memory; nothing is written.
        """
        ...

    def write_batch(self, batch: Mapping[str, Any]) -> None:
        """Add or update a Batch node by `id`; only the given properties change."""
        ...

    def cypher(
        self,
        query: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        write: bool = False,
        timeout_s: float | None = None,
    ) -> CypherResult:
        """Run a user's Cypher, read-only unless `write`.

        Raises:
            InputError: the query is not valid, or writes without `write`.
            QueryTimeout: it ran past `timeout_s` seconds.
        """
        ...

    def checkpoint(self) -> None:
        """Compact the store, so that it opens quickly; a no-op on servers, which do this on their own."""
        ...

    def drop_cache(self) -> None:
        """Free the memory that reads have filled; later reads fill it again. A no-op where nothing is cached here."""
        ...

    def close(self) -> None:
        """Release the store; calling it again does nothing."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
