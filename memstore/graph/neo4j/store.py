"""`Neo4jGraph`: the graph store of a memory on a Neo4j server.

Each method opens a managed transaction and calls the module that implements it. Several threads may use a store, and
several stores may write to one namespace at once.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
from pydantic import SecretStr

from memstore.graph import writes
from memstore.graph.neo4j import cypher, influences, link_lease, links, read, schema, statements
from memstore.graph.neo4j.connection import Address, Connection
from memstore.graph.protocol import (
    CypherResult,
    EdgeTable,
    GraphBlock,
    InfluenceUpdate,
    LinkUpdate,
    ScoreBatch,
    WriteCounts,
)
from memstore.graph.query_filter import QueryFilter, find_statement
from memstore.graph.rules import check_schema
from memstore_schema.columns import SCHEMA_VERSION, EdgeOwner, EdgeType, NodeLabel

TIMEOUT_SECONDS = 600.0
"""Default time limit of a transaction, in seconds."""
RETRY_SECONDS = 60.0
"""Default deadline for repeating a failed transaction, in seconds."""


class Neo4jGraph:
    """A graph in one namespace of a Neo4j database; use `open`."""

    backend = schema.BACKEND
    speaks_cypher = True
    read_only = False

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lease: int | None = None
        self._streams: weakref.WeakSet[cypher.Stream] = weakref.WeakSet()

    @classmethod
    def open(
        cls,
        uri: str,
        *,
        user: str,
        password: str | SecretStr,
        database: str = "neo4j",
        namespace: str = "default",
        create: bool = True,
        timeout_s: float = TIMEOUT_SECONDS,
        retry_s: float = RETRY_SECONDS,
    ) -> Neo4jGraph:
        """Open the graph of a namespace.

        Args:
            uri: `bolt://HOST:PORT` or `neo4j://HOST:PORT` (a cluster), without TLS; with `+s` and a certificate that
                is checked; with `+ssc` and any certificate.
            create: create the namespace if it is missing; a new database gets the newest schema.
            timeout_s: time limit of one transaction, including its wait for other writers. The server then rolls it
                back, so a lost client blocks others no longer than that.
            retry_s: how long a transaction is retried while the server is away.

        Raises:
            InputError: the address or the namespace is invalid.
            LocationError: no such database, no memory in the namespace, or another project's constraints or nodes.
            StoreError: the server does not respond, refuses the password, or does not permit writing.
            SchemaError: an older server, or a newer schema.
        """
        address = Address(uri, database, namespace)
        store = cls(Connection(address, user, password, timeout_s=timeout_s, retry_s=retry_s))
        try:
            schema.prepare(store._connection, create=create)
            check_schema(store.schema_version(), str(address))
            if create and (store.schema_version() == 0 or store.schema_version() == SCHEMA_VERSION):
                store.migrate()
        except BaseException:
            store.close()
            raise
        return store

    # -- schema and settings ------------------------------------------------------------------------------------

    def version(self) -> None:
        """See `GraphStore`."""

    def schema_version(self) -> int:
        """See `GraphStore`."""
        return schema.version(self._connection)

    def migrate(self) -> list[str]:
        """See `GraphStore`; the constraints are those of the database, the schema is the namespace's."""
        names = self.add_constraints()
        if self.schema_version() < SCHEMA_VERSION:
            schema.record_version(self._connection)
        return names

    def add_constraints(self) -> list[str]:
        """Run the migrations of the database; from then on, an older memstore refuses to open any of its namespaces."""
        return schema.migrate(self._connection)

    def read_meta(self) -> dict[str, str]:
        """See `GraphStore`."""
        rows = self._connection.read(lambda tx: tx.run("MATCH (m:MemstoreMeta) RETURN m.name, m.value"))
        return dict(rows)

    def write_meta(self, values: Mapping[str, str]) -> None:
        """See `GraphStore`."""
        rows = [list(item) for item in values.items()]
        statement = "UNWIND $rows AS r MERGE (m:MemstoreMeta {name: r[0]}) SET m.value = r[1]"
        self._connection.write(lambda tx: tx.run(statement, rows=rows))

    # -- writing ------------------------------------------------------------------------------------------------

    def write_block(self, block: GraphBlock, *, replace: bool = False) -> WriteCounts:
        """See `GraphStore`; with `replace`, a query's gold is overwritten too."""
        return self._connection.write(lambda tx: writes.write_block(statements, tx, block, replace=replace))

    def replace_links(self, update: LinkUpdate) -> None:
        """See `GraphStore`; a large update is several transactions, see `memstore.graph.neo4j.links`."""
        links.replace_links(self._connection, update, lease=self._lease)

    @contextlib.contextmanager
    def linking(self) -> Iterator[None]:
        """Hold the link lease: other processes wait before they read the nodes to link."""
        with link_lease.hold(self._connection) as self._lease:
            try:
                yield
            finally:
                self._lease = None

    def append_scores(self, batch: ScoreBatch) -> None:
        """See `GraphStore`."""
        self._connection.write(lambda tx: writes.append_scores(statements, tx, batch))

    def replace_influences(self, update: InfluenceUpdate) -> None:
        """See `GraphStore`."""
        self._connection.write(lambda tx: influences.replace_influences(tx, update))

    def replace_reliabilities(self, edges: pa.Table) -> None:
        """See `GraphStore`."""
        self._connection.write(lambda tx: writes.replace_reliabilities(statements, tx, edges))

    def set_labels(self, labels: pa.Table, *, replace: bool = False) -> int:
        """See `GraphStore`."""
        return self._connection.write(lambda tx: writes.set_labels(statements, tx, labels, replace=replace))

    def clear_labels(self, ids: Sequence[str]) -> int:
        """See `GraphStore`."""
        return self._connection.write(lambda tx: writes.clear_labels(statements, tx, ids))

    def refresh_verdicts(self, answers: Sequence[str]) -> None:
        """See `GraphStore`."""
        self._connection.write(lambda tx: writes.refresh_verdicts(statements, tx, answers))

    def write_batch(self, batch: Mapping[str, Any]) -> None:
        """See `GraphStore`."""
        self._connection.write(lambda tx: writes.merge_node(statements, tx, NodeLabel.BATCH, batch))

    # -- reading ------------------------------------------------------------------------------------------------

    def nodes(self, label: NodeLabel, columns: Sequence[str], *, ids: Sequence[str] | None = None) -> pa.Table:
        """See `GraphStore`."""
        return read.nodes(self._connection, label, columns, ids)

    def edges(
        self, edge: EdgeType, source: NodeLabel, target: NodeLabel, columns: Sequence[str] | None = None
    ) -> EdgeTable:
        """See `GraphStore`."""
        return read.edges(self._connection, edge, source, target, columns)

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
        return self._connection.read(lambda tx: read.edges_of(tx, edge, source, target, ids, by, columns))

    def find_queries(self, wanted: QueryFilter, after: str, limit: int, *, timeout_s: float) -> list[str]:
        """See `GraphStore`."""
        text, parameters = find_statement(wanted, after, limit, hints=False)
        return [str(row[0]) for row in self.cypher(text, parameters, timeout_s=timeout_s).rows]

    def aliases(self, queries: Sequence[str]) -> pa.Table:
        """See `GraphStore`."""
        wanted = pa.chunked_array([pa.array(sorted(set(queries)), pa.string())])
        return self._connection.read(lambda tx: statements.aliases(tx, wanted))

    def answer_texts(self, thinkings: Sequence[str]) -> pa.Table:
        """See `GraphStore`."""
        wanted = pa.chunked_array([pa.array(sorted(set(thinkings)), pa.string())])
        return self._connection.read(lambda tx: statements.answer_texts(tx, wanted))

    def cypher(
        self,
        query: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        write: bool = False,
        timeout_s: float | None = None,
    ) -> CypherResult:
        """See `GraphStore`, and `memstore.graph.neo4j.scope` for what a query may hold."""
        if write:
            columns, rows = cypher.run_write(self._connection, query, parameters or {}, timeout_s)
            return CypherResult(columns, iter(rows))
        stream = cypher.Stream(self._connection, query, parameters or {}, timeout_s)
        self._streams.add(stream)
        return CypherResult(stream.columns, stream.rows())

    # -- upkeep -------------------------------------------------------------------------------------------------

    def checkpoint(self) -> None:
        """Do nothing; the server checkpoints by itself."""

    def drop_cache(self) -> None:
        """Do nothing; the cache is the server's."""

    def close(self) -> None:
        """See `GraphStore`."""
        for stream in list(self._streams):
            stream.close()
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
