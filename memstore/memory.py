"""`Memory`: open a memory, ingest rollouts, query, label, snapshot and verify it.

A `Memory` owns the open `Stores` and offers the pipeline and the snapshots as methods. Embedder and vector store are
loaded on first use, so that opening a memory and querying it stay quick.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from memstore.embedding.cache import VectorCache
from memstore.embedding.protocol import Embedder, Fingerprint
from memstore.errors import MemstoreError
from memstore.graph.protocol import CypherResult, GraphStore, ScoreBatch
from memstore.html_table import html_table
from memstore.labels.answers import AnswerVerdict, LabelledAnswers, label_answers
from memstore.labels.batches import label_rollouts, undo_labels
from memstore.labels.journal import LabelBatch
from memstore.locations.location import FolderLocation, Location, ServerLocation, resolve_location
from memstore.locations.settings import Settings
from memstore.locations.stores import Stores
from memstore.pipeline.delete import DeleteSummary, delete_rollouts
from memstore.pipeline.ingest import IngestOptions, IngestSummary, ingest
from memstore.pipeline.link import LinkSummary, link_memory
from memstore.pipeline.migrate import MigrateSummary, migrate_memory
from memstore.pipeline.reembed import ReembedSummary, reembed_memory
from memstore.pipeline.restore import restore_snapshot
from memstore.pipeline.stats import Stats, memory_stats
from memstore.pipeline.verify import VerifyReport, verify_memory
from memstore.progress import Progress
from memstore.records.record import RecordDefaults
from memstore.snapshots.from_rollouts import read_rollouts
from memstore.snapshots.snapshot import Snapshot
from memstore.snapshots.take import take_snapshot
from memstore.snapshots.upgrade import Prefer
from memstore.snapshots.write import WrittenSnapshot, write_snapshot
from memstore.vectors.knn import LinkSettings
from memstore.vectors.protocol import VectorStore

COUNT_SECONDS = 2.0
"""Time limit of each count that a notebook shows, in seconds."""
_COUNTS = {
    "queries": "MATCH (q:Query) RETURN count(q)",
    "rollouts": "MATCH (t:Thinking) RETURN count(t)",
    "labelled": "MATCH (t:Thinking) WHERE t.reward IS NOT NULL RETURN count(t)",
}


class Memory:
    """An open memory. Use it as a context manager, or call `close`.

    Example:
        >>> with Memory.open("my-memory", create=True) as memory:
        ...     memory.ingest(["rollouts.jsonl"])
        ...     snapshot = memory.snapshot()

    Attributes:
        stores: the open stores, which the functions of `memstore.pipeline` and `memstore.snapshots` take.
    """

    def __init__(self, stores: Stores) -> None:
        self.stores = stores

    @classmethod
    def open(
        cls,
        location: str | Path | Location | None = None,
        *,
        create: bool = False,
        embedder: Embedder | None = None,
        settings: Settings | None = None,
    ) -> Self:
        """Open the memory at a location.

        Args:
            location: a folder, the name of a profile, or `env` for the servers that the environment describes; None
                uses `MEMSTORE_MEMORY`. See `memstore.locations.location`.
            create: make a new memory if the folder is missing or empty, or the servers have none in the namespace.
            embedder: the embedder to use instead of the one that the settings name.
            settings: None reads them from the environment.

        Raises:
            LocationError: the location is invalid, holds no memory, or holds something else.
            LockedError: another process owns the folder; the message gives its pid.
            SchemaError, EmbedderError, StoreError: the memory cannot be used as it is; the message says what to do.
        """
        settings = settings or Settings()
        if not isinstance(location, (FolderLocation, ServerLocation)):
            location = resolve_location(location, settings)
        return cls(Stores.open(location, settings, embedder=embedder, create=create))

    @staticmethod
    def migrate(
        location: str | Path | Location | None = None,
        *,
        prefer: Prefer | None = None,
        embedder: Embedder | None = None,
        settings: Settings | None = None,
        progress: Progress | None = None,
    ) -> MigrateSummary:
        """Convert a memory of an older schema, which `open` refuses; see `memstore.pipeline.migrate.migrate_memory`.

        Example:
            >>> Memory.migrate("my-memory").backup
            'my-memory/graph.schema1'
        """
        settings = settings or Settings()
        if not isinstance(location, (FolderLocation, ServerLocation)):
            location = resolve_location(location, settings)
        return migrate_memory(location, settings, prefer=prefer, embedder=embedder, progress=progress)

    def close(self) -> None:
        """Close the memory. Calling it again does nothing."""
        self.stores.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        # A memory on servers is not counted here: its repr must not wait for a network.
        embedded = isinstance(self.location, FolderLocation)
        parts = [f"{number:,} {name}" for name, number in self._counts().items()] if embedded else []
        state = "closed" if self.stores.closed else "open"
        return f"<Memory {self.location}: {', '.join([*parts, f'namespace {self.namespace}', state])}>"

    def _repr_html_(self) -> str:
        embedder = self.stores.fingerprint
        rows: list[tuple[str, object]] = [
            ("namespace", self.namespace),
            ("state", "closed" if self.stores.closed else "open"),
            ("embedder", str(embedder) if embedder else "none yet"),
            *self._counts().items(),
        ]
        return html_table(["memory", str(self.location)], rows)

    def _counts(self) -> dict[str, int]:
        """Numbers of queries, rollouts and labels, counted by the graph; empty if it cannot be queried."""
        if self.stores.closed:
            return {}
        try:
            if not self.graph.speaks_cypher:
                return {}
            return {
                name: int(next(self.graph.cypher(query, timeout_s=COUNT_SECONDS).rows)[0])
                for name, query in _COUNTS.items()
            }
        except MemstoreError:
            return {}

    # -- parts --------------------------------------------------------------------------------------------------

    @property
    def location(self) -> Location:
        """Where the memory is."""
        return self.stores.location

    @property
    def settings(self) -> Settings:
        """The settings that the memory was opened with."""
        return self.stores.settings

    @property
    def namespace(self) -> str:
        """The memory's namespace; `default` for a folder."""
        return self.stores.namespace

    @property
    def graph(self) -> GraphStore:
        """The graph store."""
        return self.stores.graph

    @property
    def vectors(self) -> VectorStore:
        """The vector store, opened on first use."""
        return self.stores.vectors

    @property
    def cache(self) -> VectorCache:
        """Vectors by content hash, opened on first use."""
        return self.stores.cache

    @property
    def embedder(self) -> Embedder:
        """The embedder, loaded on first use."""
        return self.stores.embedder

    @property
    def fingerprint(self) -> Fingerprint | None:
        """Fingerprint of the embedder that made the memory's vectors; None before the first ingest."""
        return self.stores.fingerprint

    @property
    def link_settings(self) -> LinkSettings:
        """Settings that the memory's nodes are linked with."""
        return self.stores.link_settings

    @property
    def folder(self) -> Path:
        """Local folder: the whole of an embedded memory; cache, models and rejects of a memory on servers."""
        return self.location.folder

    @property
    def rejects_folder(self) -> Path:
        """Folder of the rows that could not be ingested."""
        return self.stores.rejects_folder

    @property
    def models_folder(self) -> Path:
        """Folder of the memory's reward models."""
        return self.folder / "models"

    # -- writing ------------------------------------------------------------------------------------------------

    def ingest(
        self,
        sources: Sequence[str | Path],
        options: IngestOptions | None = None,
        *,
        rejects_file: Path | None = None,
        progress: Progress | None = None,
    ) -> IngestSummary:
        """Add the rollouts of these files; see `memstore.pipeline.ingest.ingest`."""
        return ingest(self.stores, sources, options, rejects_file=rejects_file, progress=progress)

    def link(self, settings: LinkSettings | None = None, *, progress: Progress | None = None) -> LinkSummary:
        """Link the nodes that are not linked yet; with other settings than the memory's, link all nodes again."""
        return link_memory(self.stores, settings, progress=progress)

    def label(
        self,
        rewards: Mapping[str, float | None],
        *,
        source: str = "person",
        by: str | None = None,
        replace: bool = False,
    ) -> int:
        """Set the ground truth of rollouts by id; return how many changed.

        Args:
            rewards: reward in 0..1 by rollout id; None removes the ground truth.
            source: recorded as the rollouts' `reward_source`.
            by: name of the person who labels, for the journal of labels.
            replace: overwrite a ground truth that differs.

        Raises:
            LabelConflict: a rollout has another ground truth and `replace` is False.
            InputError: an id that is not in the memory, or a reward outside 0..1.
        """
        batch = label_rollouts(self.stores, rewards, source=source, by=by, replace=replace)
        return 0 if batch is None else batch.changed

    def label_answers(
        self, verdicts: Sequence[AnswerVerdict], *, by: str | None = None, replace: bool = False
    ) -> LabelledAnswers:
        """Label all rollouts of a query that give an answer; see `memstore.labels.answers.label_answers`."""
        return label_answers(self.stores, verdicts, by=by, replace=replace)

    def undo_labels(self, batch: str | None = None, *, by: str | None = None) -> LabelBatch:
        """Undo the last batch of labels, or another; see `memstore.labels.batches.undo_labels`."""
        return undo_labels(self.stores, batch, by=by)

    def delete(
        self,
        *,
        run: str | None = None,
        dataset: str | None = None,
        dry_run: bool = False,
        progress: Progress | None = None,
    ) -> DeleteSummary:
        """Delete the rollouts of a run or dataset; see `memstore.pipeline.delete.delete_rollouts`."""
        return delete_rollouts(self.stores, run=run, dataset=dataset, dry_run=dry_run, progress=progress)

    def record_scores(self, batch: ScoreBatch) -> None:
        """Write a reward model's predictions as SCORED_BY edges; see `memstore.graph.protocol.ScoreBatch`."""
        self.graph.append_scores(batch)

    def restore(
        self,
        snapshot: Snapshot,
        *,
        merge: bool = False,
        models: Path | None = None,
        progress: Progress | None = None,
    ) -> int:
        """Write a snapshot into this memory; see `memstore.pipeline.restore.restore_snapshot`."""
        return restore_snapshot(self.stores, snapshot, merge=merge, models=models, progress=progress)

    def reembed(self, embedder: Embedder, *, progress: Progress | None = None) -> ReembedSummary:
        """Convert the memory to another embedder; see `memstore.pipeline.reembed.reembed_memory`."""
        return reembed_memory(self.stores, embedder, progress=progress)

    def verify(self, *, repair: bool = False, progress: Progress | None = None) -> VerifyReport:
        """Check that graph, vectors and links are consistent; with `repair`, fix what can be fixed."""
        return verify_memory(self.stores, repair=repair, progress=progress)

    # -- reading ------------------------------------------------------------------------------------------------

    def snapshot(self, *, texts: bool = True) -> Snapshot:
        """Copy the memory's content into a frozen, columnar snapshot; without texts it is quicker and smaller."""
        return take_snapshot(self.stores, texts=texts)

    def write_snapshot(self, folder: Path, *, texts: bool = True) -> WrittenSnapshot:
        """Write a snapshot to a new folder, with the files of the reward models; `load_snapshot` reads it.

        It is written a part at a time, and needs less memory than `save_snapshot` of `snapshot()`.
        """
        return write_snapshot(self.stores, folder, texts=texts, models=self.models_folder)

    def read_rollouts(
        self,
        sources: Sequence[str | Path],
        defaults: RecordDefaults | None = None,
        *,
        progress: Progress | None = None,
    ) -> Snapshot:
        """Read files as a snapshot without storing them; see `memstore.snapshots.from_rollouts.read_rollouts`."""
        return read_rollouts(self.stores, sources, defaults, progress=progress)

    def stats(self) -> Stats:
        """Count nodes, edges and labels, in total and by dataset."""
        return memory_stats(self.stores)

    def cypher(
        self,
        query: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        write: bool = False,
        timeout_s: float | None = None,
    ) -> CypherResult:
        """Run a Cypher query on the graph.

        Args:
            query: the query; values belong in `parameters`.
            write: allow the query to write. It is complete when this method returns.
            timeout_s: time limit in seconds; None sets no limit.

        Raises:
            InputError: the query is invalid, or writes without `write`.
            QueryTimeout: the query ran longer than `timeout_s`.

        Example:
            >>> memory.cypher("MATCH (:Query)-[:IN]->(d:Dataset) RETURN d.name, count(*)").to_pandas()
        """
        result = self.graph.cypher(query, parameters, write=write, timeout_s=timeout_s)
        return CypherResult(result.columns, list(result.rows) if write else _rows_of_open(self.stores, result.rows))


def _rows_of_open(stores: Stores, rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """The rows of a result; the stores stay open while it is read, also if the memory itself is dropped."""
    yield from rows
    del stores
