"""What memstore asks of a graph database, and what a backend promises.

Assumptions, which the conformance suite in `memstore.testing` checks on every backend:

1. `write_block`, `append_scores`, `replace_influences` and `set_labels` are atomic: after a crash all of a call is
   there or nothing of it. So is `replace_links`, save that a server may take a large one in parts: then every list is
   whole, and nodes are marked as linked last. All are idempotent: the same call twice is the same graph.
2. Node tables come ordered by `id` (bytewise). Edge endpoints are positions in that order, not database ids.
3. What is columnar stays columnar: pyarrow tables in and out, never a Python object per row in a bulk path.
4. A store object has one user at a time inside one process; `LockedError` says who else holds an embedded one.

Columns are declared once, in `memstore_schema.columns`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

import pyarrow as pa

from memstore.html_table import html_table
from memstore.types import IntVector
from memstore_schema.columns import EdgeType, NodeLabel

if TYPE_CHECKING:
    import pandas as pd

SHOWN_ROWS = 20
"""Rows of a Cypher result that a notebook shows."""
COUNTED_ROWS = 1_000
"""Rows of a Cypher result that a notebook reads to say how many more there are."""


class WriteCounts(NamedTuple):
    """What one `write_block` changed."""

    queries_added: int
    thinkings_added: int
    thinkings_changed: int
    """Rollouts that were there and gained something: a first label, a replaced one."""
    answers_added: int


@dataclass(frozen=True)
class GraphBlock:
    """Rollouts that enter the graph together, in one transaction.

    Tables have the columns of `memstore_schema.columns` for their label and unique ids. `thinkings` carries one
    column more, `query_id`, and `answer_id` with `answer_text` (both null where no answer could be read): GENERATES,
    LEADS_TO and PRODUCED (by `run`) follow from them.
    """

    queries: pa.Table
    thinkings: pa.Table
    answers: pa.Table
    runs: pa.Table
    batch: Mapping[str, Any]
    """The Batch node's properties; `id` at least. Written in the same transaction."""


@dataclass(frozen=True)
class EdgeTable:
    """Edges of one type between two labels, as COO.

    `source` and `target` are int64 [E] positions in the id-ordered node tables of their labels; `properties` has
    one row an edge, in the same order. Ordered by (source, target).
    """

    source: IntVector
    target: IntVector
    properties: pa.Table

    def __len__(self) -> int:
        return len(self.source)

    def __repr__(self) -> str:
        return f"EdgeTable(edges={len(self)}, properties={self.properties.column_names})"


class CypherResult:
    """Columns and rows of a Cypher query.

    The rows are streamed: iterate over `rows` once, while the memory is open. `to_pandas` reads all remaining rows.
    In a notebook the first rows are shown; showing them does not consume them.

    Args:
        columns: names of the columns.
        rows: one tuple a row, in the order of `columns`.
    """

    columns: list[str]
    rows: Iterator[tuple[Any, ...]]

    def __init__(self, columns: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> None:
        self.columns = list(columns)
        self.rows = self._stream = _RowStream(rows)

    def to_pandas(self) -> pd.DataFrame:
        """The remaining rows as a pandas data frame."""
        import pandas as pd

        return pd.DataFrame.from_records(list(self.rows), columns=self.columns)

    def __repr__(self) -> str:
        # Without the rows: reading them queries the store.
        return f"CypherResult(columns={self.columns})"

    def _repr_html_(self) -> str:
        rows = self._stream.peek(COUNTED_ROWS + 1)
        more = len(rows) - SHOWN_ROWS
        if len(rows) > COUNTED_ROWS:
            note = f"and more than {more - 1:,} more rows"
        else:
            note = f"and {more:,} more rows" if more > 0 else f"{len(rows)} {'row' if len(rows) == 1 else 'rows'}"
        return html_table(self.columns, rows[:SHOWN_ROWS], note=note)


class _RowStream(Iterator[tuple[Any, ...]]):
    """An iterator whose next rows can be looked at before they are consumed."""

    def __init__(self, rows: Iterable[tuple[Any, ...]]) -> None:
        self._rows = iter(rows)
        self._buffer: deque[tuple[Any, ...]] = deque()

    def __next__(self) -> tuple[Any, ...]:
        return self._buffer.popleft() if self._buffer else next(self._rows)

    def peek(self, count: int) -> list[tuple[Any, ...]]:
        """The next rows, at most `count`."""
        self._buffer.extend(islice(self._rows, max(0, count - len(self._buffer))))
        return list(islice(self._buffer, count))


@dataclass(frozen=True)
class LinkUpdate:
    """New neighbour lists for some nodes of one label: what was there for these sources is replaced.

    `sources` (ids) may include nodes with no neighbour left. `edges` has `source` and `target` (ids) and `score`
    (float32 cosine). `linked` (ids) are the nodes to mark as linked under `fingerprint`.
    """

    label: NodeLabel
    sources: Sequence[str]
    edges: pa.Table
    linked: Sequence[str]
    fingerprint: str


@dataclass(frozen=True)
class ScoreBatch:
    """Predictions of one reward model for rollouts of the memory; appended, never overwritten.

    `scores` has `id` (rollout), `probability` and `reward` (float64 0..1). `model` are the RewardModel node's
    properties; `id` at least.
    """

    model: Mapping[str, Any]
    scores: pa.Table
    properties: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class InfluenceUpdate:
    """What moved one reward model's scores of some rollouts: what was there for them and this model is replaced.

    `rollouts` (ids) may include some that nothing moved. `edges` has, by the label of their targets (Query or
    Thinking), tables of `source` (a rollout of `rollouts`), `target` (id) and `weight` (float64: how much higher the
    probability is because of the target).
    """

    model: str
    rollouts: Sequence[str]
    edges: Mapping[NodeLabel, pa.Table]


class GraphStore(Protocol):
    """A graph database that holds a memory. See the module's assumptions."""

    backend: str
    """`ladybug`, `neo4j` or `memory`."""
    speaks_cypher: bool
    """False only for the in-memory double."""

    def schema_version(self) -> int:
        """Number of the newest migration applied to this store; 0 for an empty one."""
        ...

    def migrate(self) -> list[str]:
        """Apply the migrations that are missing, each in its own transaction; return their names.

        Raises:
            SchemaError: the store has a newer schema than this code knows.
        """
        ...

    def read_meta(self) -> dict[str, str]:
        """The memory's settings that data depend on: embedder, splitter version, link settings, ..."""
        ...

    def write_meta(self, values: Mapping[str, str]) -> None:
        """Add or overwrite settings."""
        ...

    def write_block(self, block: GraphBlock, *, replace: bool = False) -> WriteCounts:
        """Add a block's nodes and edges; what is there already stays as it is, save that nulls are filled in.

        A rollout that is there without a reward gains the block's. Query.gold likewise: the first one stays, save
        with `replace`. Run.policy becomes the sorted, comma-joined union.

        Raises:
            LabelConflict: a reward differs from the stored one and `replace` is False. Nothing is written. The
                caller is expected to have set such rows aside before (see `memstore.pipeline.ingest`).
            InputError: an id occurs twice, or a rollout names a query, answer or run that is nowhere.
        """
        ...

    def nodes(self, label: NodeLabel, columns: Sequence[str], *, ids: Sequence[str] | None = None) -> pa.Table:
        """Columns of all nodes of a label, or of those of `ids` that exist; ordered by id, duplicates removed."""
        ...

    def edges(self, edge: EdgeType, source: NodeLabel, target: NodeLabel) -> EdgeTable:
        """All edges of a type between two labels, endpoints as positions in `nodes(label, ["id"])`."""
        ...

    def replace_links(self, update: LinkUpdate) -> None:
        """Replace the SIMILAR_TO edges that leave `update.sources` and mark `update.linked`."""
        ...

    def linking(self) -> AbstractContextManager[None]:
        """Keep others from linking this memory, from before its nodes are read until after the lists are written.

        Who comes second waits; nothing else does. A store that has one owner has nobody to keep out.
        """
        ...

    def append_scores(self, batch: ScoreBatch) -> None:
        """Write SCORED_BY edges (and the RewardModel node where it is new).

        A rollout that this model has scored before keeps that score. `batch.properties` are those of every edge.

        Raises:
            InputError: an id that is not in the memory; nothing is written.
        """
        ...

    def replace_influences(self, update: InfluenceUpdate) -> None:
        """Replace the INFLUENCED_BY edges of a model that leave `update.rollouts`; those of other models stay.

        Raises:
            InputError: an id that is not in the memory, or an edge of another rollout; nothing is written.
        """
        ...

    def set_labels(self, labels: pa.Table, *, replace: bool = False) -> int:
        """Set `reward` and `reward_source` by `id`; return how many changed.

        Raises:
            LabelConflict: a reward differs from the stored one and `replace` is False; nothing is written.
            InputError: an id that is not in the memory; nothing is written.
        """
        ...

    def write_batch(self, batch: Mapping[str, Any]) -> None:
        """Add or update a Batch node by `id`: only the given properties change."""
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
        """Make what is written compact and quick to open; a no-op where a server does that by itself."""
        ...

    def close(self) -> None:
        """Release the store; calling it again does nothing."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
