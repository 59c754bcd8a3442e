"""`LadybugGraph`: the graph store of an embedded memory.

Each method takes the store's lock, opens a connection or a transaction, and calls the module that implements it.
Threads read at the same time, so that a long read holds no short one up; a thread that writes has the store alone. A
user's query runs in another process, which reads the database's files: until its result is complete it keeps writers
out, but not other readers. A long write-ahead log is checkpointed before.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import ladybug
import pyarrow as pa

from memstore.graph import writes
from memstore.graph.ladybug import cypher, links, neighbours, read, statements
from memstore.graph.ladybug.database import Database, repair
from memstore.graph.ladybug.queries import QueryProcesses
from memstore.graph.protocol import (
    CypherResult,
    EdgeTable,
    GraphBlock,
    InfluenceUpdate,
    LinkUpdate,
    ScoreBatch,
    WriteCounts,
)
from memstore.graph.query_filter import QueryFilter
from memstore.graph.rules import check_schema
from memstore.runtime.free_memory import return_free_memory
from memstore.runtime.shared_lock import SharedLock
from memstore.types import IntVector
from memstore_schema import migrations
from memstore_schema.columns import EdgeOwner, EdgeType, NodeLabel
from memstore_schema.cypher_files import bookkeeping

BUFFER_POOL_BYTES = 2 * 2**30
"""Default page cache of the graph."""


class LadybugGraph:
    """A graph in a folder; use `open`."""

    backend = "ladybug"
    speaks_cypher = True

    def __init__(self, database: Database, queries: QueryProcesses) -> None:
        self._database, self._queries = database, queries
        self._lock = SharedLock()
        self._files = SharedLock()
        """Held for writing while files are changed, and for reading while another process reads them; taken before
        `_lock`."""
        self._positions: dict[NodeLabel, IntVector] = {}
        self._version = 0

    @classmethod
    def open(cls, folder: Path, *, create: bool, buffer_pool_bytes: int = BUFFER_POOL_BYTES) -> LadybugGraph:
        """Open the graph in `folder` and own it until `close`.

        A graph in a folder that cannot be written to, as on a read-only mount, is read; writes raise `ReadOnlyError`.

        Args:
            create: create the graph if the folder is missing or empty; a new graph has the newest schema.
            buffer_pool_bytes: memory for pages, limited to half of the machine's memory.

        Raises:
            LocationError: the folder holds no graph, or something else.
            LockedError: another process, or another store of this process, has the graph open.
            CorruptStoreError: the graph does not open; `memstore verify --repair` recovers a truncated log.
            SchemaError: the graph has a newer schema or another storage version of LadybugDB.
        """
        database = Database(Path(folder), create=create, buffer_pool_bytes=buffer_pool_bytes)
        store = cls(database, QueryProcesses(Path(folder), buffer_pool_bytes))
        try:
            store._prepare(create)
        except BaseException:
            store.close()
            raise
        return store

    @staticmethod
    def repair(folder: Path) -> str | None:
        """Recover a graph whose write-ahead log is truncated.

        Returns:
            What was done, in one sentence; None if the graph opens as it is.

        Raises:
            CorruptStoreError: more than the log is damaged.
        """
        return repair(Path(folder), BUFFER_POOL_BYTES)

    def _prepare(self, create: bool) -> None:
        if self.read_only:
            check_schema(self.schema_version(), str(self._database.folder))
            return
        with self._database.transaction() as connection:
            for statement in bookkeeping(self.backend):
                connection.execute(statement)
        check_schema(self.schema_version(), str(self._database.folder))
        if create and self.schema_version() == 0:
            self.migrate()
        library = {
            "ladybug_version": str(ladybug.__version__),
            "ladybug_storage_version": str(ladybug.Database.get_storage_version()),
        }
        if not library.items() <= self.read_meta().items():
            self.write_meta(library)

    @property
    def read_only(self) -> bool:
        """Whether the graph's folder cannot be written to."""
        return self._database.read_only

    # -- schema and settings ------------------------------------------------------------------------------------

    def version(self) -> int:
        """See `GraphStore`."""
        return self._version

    def schema_version(self) -> int:
        """See `GraphStore`."""
        return max((migrations.number_of(name) for name in self._applied()), default=0)

    def _applied(self) -> list[str]:
        with self._lock.reading(), self._database.connection() as connection:
            return [row[0] for row in connection.execute("MATCH (m:Migration) RETURN m.name")]

    def migrate(self) -> list[str]:
        """See `GraphStore`."""
        with self._alone():
            return migrations.apply(self.backend, self._applied(), self._run_migration)

    def _run_migration(self, migration: migrations.Migration) -> None:
        with self._database.transaction() as connection:
            for statement in migration.statements:
                connection.execute(statement)
            connection.execute(
                "CREATE (:Migration {name: $name, number: $number, applied_at: $now})",
                {"name": migration.name, "number": migration.number, "now": dt.datetime.now(dt.UTC)},
            )

    def read_meta(self) -> dict[str, str]:
        """See `GraphStore`."""
        with self._lock.reading(), self._database.connection() as connection:
            return dict(list(connection.execute("MATCH (m:Meta) RETURN m.name, m.value")))

    def write_meta(self, values: Mapping[str, str]) -> None:
        """See `GraphStore`."""
        with self._writing() as connection:
            for name, value in values.items():
                connection.execute("MERGE (m:Meta {name: $name}) SET m.value = $value", {"name": name, "value": value})

    # -- writing ------------------------------------------------------------------------------------------------

    def write_block(self, block: GraphBlock, *, replace: bool = False) -> WriteCounts:
        """See `GraphStore`; with `replace`, a query's gold is overwritten too."""
        with self._writing() as connection:
            return writes.write_block(statements, connection, block, replace=replace)

    def replace_links(self, update: LinkUpdate) -> None:
        """See `GraphStore`."""
        with self._writing() as connection:
            links.replace_links(connection, update)

    def linking(self) -> AbstractContextManager[None]:
        """See `GraphStore`."""
        return nullcontext()

    def append_scores(self, batch: ScoreBatch) -> None:
        """See `GraphStore`."""
        with self._writing() as connection:
            writes.append_scores(statements, connection, batch)

    def replace_influences(self, update: InfluenceUpdate) -> None:
        """See `GraphStore`."""
        with self._writing() as connection:
            links.replace_influences(connection, update)

    def replace_reliabilities(self, edges: pa.Table) -> None:
        """See `GraphStore`."""
        with self._writing() as connection:
            writes.replace_reliabilities(statements, connection, edges)

    def set_labels(self, labels: pa.Table, *, replace: bool = False) -> int:
        """See `GraphStore`."""
        with self._writing() as connection:
            return writes.set_labels(statements, connection, labels, replace=replace)

    def clear_labels(self, ids: Sequence[str]) -> int:
        """See `GraphStore`."""
        with self._writing() as connection:
            return writes.clear_labels(statements, connection, ids)

    def refresh_verdicts(self, answers: Sequence[str]) -> None:
        """See `GraphStore`."""
        with self._writing() as connection:
            writes.refresh_verdicts(statements, connection, answers)

    def write_batch(self, batch: Mapping[str, Any]) -> None:
        """See `GraphStore`."""
        with self._writing() as connection:
            writes.merge_node(statements, connection, NodeLabel.BATCH, batch)

    @contextmanager
    def _writing(self) -> Iterator[Any]:
        """A write transaction."""
        with self._alone(), self._database.transaction() as connection:
            yield connection

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep others from reading and writing, while the graph is changed."""
        with self._files.writing(), self._lock.writing():
            self._version += 1
            self._positions.clear()
            yield

    # -- reading ------------------------------------------------------------------------------------------------

    def nodes(self, label: NodeLabel, columns: Sequence[str], *, ids: Sequence[str] | None = None) -> pa.Table:
        """See `GraphStore`."""
        with self._lock.reading(), self._database.connection() as connection:
            return read.nodes(connection, label, columns, ids)

    def edges(
        self, edge: EdgeType, source: NodeLabel, target: NodeLabel, columns: Sequence[str] | None = None
    ) -> EdgeTable:
        """See `GraphStore`."""
        with self._lock.reading(), self._database.connection() as connection:
            return read.edges(connection, edge, source, target, columns, self._positions)

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
        """See `GraphStore`."""
        with self._lock.reading(), self._database.connection() as connection:
            return neighbours.edges_of(connection, edge, source, target, ids, by, columns)

    def find_queries(self, wanted: QueryFilter, after: str, limit: int, *, timeout_s: float) -> list[str]:
        """See `GraphStore`. It runs in this process, which is faster by the opening of the database."""
        with self._lock.reading(), self._database.connection() as connection:
            return read.find_queries(connection, wanted, after, limit, timeout_s)

    def aliases(self, queries: Sequence[str]) -> pa.Table:
        """See `GraphStore`."""
        wanted = pa.chunked_array([pa.array(sorted(set(queries)), pa.string())])
        with self._lock.reading(), self._database.connection() as connection:
            return statements.aliases(connection, wanted)

    def answer_texts(self, thinkings: Sequence[str]) -> pa.Table:
        """See `GraphStore`."""
        wanted = pa.chunked_array([pa.array(sorted(set(thinkings)), pa.string())])
        with self._lock.reading(), self._database.connection() as connection:
            return statements.answer_texts(connection, wanted)

    def cypher(
        self,
        query: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        write: bool = False,
        timeout_s: float | None = None,
    ) -> CypherResult:
        """See `GraphStore`. The query runs in a process of its own; later writes do not change its rows."""
        parameters = parameters or {}
        cypher.check(query, parameters, write=write)
        text, parameters = cypher.as_ladybug_takes_it(query, parameters)
        if write:
            with self._alone():
                self._database.check_open()
                self._database.shorten_log()
                with self._database.released():
                    columns, rows = self._queries.run(text, parameters, write=True, timeout_s=timeout_s)
                    rows = iter(list(rows))
            return CypherResult(cypher.column_names(query, columns), rows)
        if self._database.has_long_log():
            with self._files.writing(), self._lock.writing():
                self._database.check_open()
                self._database.shorten_log()
        with self._files.reading():
            self._database.check_open()
            columns, rows = self._queries.run(text, parameters, write=False, timeout_s=timeout_s)
        return CypherResult(cypher.column_names(query, columns), rows)

    # -- upkeep -------------------------------------------------------------------------------------------------

    def checkpoint(self) -> None:
        """See `GraphStore`."""
        with self._files.writing(), self._lock.writing():
            self._database.checkpoint()

    def drop_cache(self) -> None:
        """See `GraphStore`. LadybugDB frees its pages only when it is closed; a folder that is only read stays open.

        A long log is checkpointed first: opening the database again would replay it, which takes ten times as long.
        """
        with self._files.writing(), self._lock.writing():
            if not self.read_only:
                self._database.shorten_log()
                with self._database.released():
                    self._positions.clear()
        return_free_memory()

    def close(self) -> None:
        """See `GraphStore`."""
        self._queries.close()
        with self._files.writing(), self._lock.writing():
            self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
