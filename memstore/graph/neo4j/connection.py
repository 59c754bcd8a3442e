"""Connection to one namespace of a Neo4j database: driver, managed transactions, writer lock.

`Statements.run` adds the namespace to every statement. A write first takes the namespace's lock, a write lock of the
server on the node `MemstoreNamespace`, and holds it until the commit. Writers of a namespace therefore take turns: a
look-up followed by a write is safe, nothing deadlocks, and a label cannot change between its check and its write.
Readers and other namespaces do not wait.

The driver retries a transaction after a lost connection, a leader change or a lock timeout, but not after a connection
that was lost during the commit, because it may have been committed. All transactions of memstore are idempotent and are
retried then too; only a user's query is not (see `write`).
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, TypeVar
from urllib.parse import urlsplit

import neo4j
from neo4j.exceptions import DriverError, IncompleteCommit, Neo4jError, ServiceUnavailable
from pydantic import SecretStr

from memstore.checks import check_name
from memstore.errors import InputError, LocationError, MemstoreError, StoreError
from memstore.graph.neo4j.errors import OLDEST, old_server, translate
from memstore.graph.neo4j.scope import PARAMETER, scoped
from memstore.runtime.retry import RetryPolicy

Result = TypeVar("Result")
Explain: TypeAlias = Callable[[Neo4jError | DriverError | OSError, str], MemstoreError]
"""Maps an error and a location to the error to raise."""

SCHEMES = ("bolt", "bolt+s", "bolt+ssc", "neo4j", "neo4j+s", "neo4j+ssc")
CONNECT_SECONDS = 10.0
"""Seconds after which opening a connection fails."""
# The driver logs each lost connection; without a handler Python would print it to stderr beside the error message.
logging.getLogger("neo4j").addHandler(logging.NullHandler())
_LOCK = "MATCH (n:MemstoreNamespace) SET n.writes = n.writes + 1 RETURN n.writes"


@dataclass(frozen=True)
class Address:
    """Location of a graph, without the password."""

    uri: str
    database: str
    namespace: str

    def __str__(self) -> str:
        return f"{self.uri} (database {self.database}, namespace {self.namespace})"


class Statements:
    """A transaction that adds the namespace to every statement."""

    def __init__(self, transaction: Any, namespace: str) -> None:
        self._transaction = transaction
        self._namespace = namespace
        self.writes = 0
        """In a write transaction: its number among all writes of the namespace."""

    def result(self, query: str, parameters: dict[str, Any]) -> neo4j.Result:
        """Run a statement in the namespace; returns the driver's result."""
        return self._transaction.run(scoped(query), {**parameters, PARAMETER: self._namespace})

    def start(self, query: str, **parameters: Any) -> Callable[[], list[list[Any]]]:
        """Start a statement; the returned function waits for its rows.

        The next statement's parameters can be packed while the server runs this one.
        """
        values: Callable[[], list[list[Any]]] = self.result(query, parameters).values
        return values

    def run(self, query: str, **parameters: Any) -> list[list[Any]]:
        """Run a statement in the namespace; returns all rows."""
        return self.start(query, **parameters)()


class Connection:
    """Driver for one namespace."""

    def __init__(
        self, address: Address, user: str, password: str | SecretStr, *, timeout_s: float, retry_s: float
    ) -> None:
        """Connect and check the server; see `Neo4jGraph.open`."""
        check_address(address)
        self.address = address
        self._timeout_s = timeout_s
        self._retry = RetryPolicy(deadline_s=retry_s, first_pause_s=0.0)
        secret = password.get_secret_value() if isinstance(password, SecretStr) else password
        self._bookmarks = neo4j.GraphDatabase.bookmark_manager()
        self._closed = False
        self._connect = partial(
            neo4j.GraphDatabase.driver,
            auth=(user, secret),
            connection_timeout=CONNECT_SECONDS,
            max_transaction_retry_time=retry_s,
            notifications_min_severity="OFF",
        )
        with self.translated():
            self._driver = self._connect(address.uri)
        try:
            self._check_server()
        except BaseException:
            self.close()
            raise

    def _check_server(self) -> None:
        with self.translated():
            agent = str(self._server_info().agent)
        found = re.match(r"Neo4j/(\d+)\.(\d+)", agent)
        if found is None or (int(found[1]), int(found[2])) < OLDEST:
            raise old_server(agent, str(self.address))

    def _server_info(self) -> neo4j.ServerInfo:
        """Server information. If routing fails, a direct connection is tried, because its error gives the reason."""
        try:
            return self._driver.get_server_info()
        except ServiceUnavailable:
            if self.address.uri.startswith("neo4j"):
                with self._connect("bolt" + self.address.uri.removeprefix("neo4j")) as direct:
                    direct.get_server_info()
            raise

    @contextlib.contextmanager
    def translated(self, explain: Explain = translate) -> Iterator[None]:
        """Raise errors of the driver and the server as store errors."""
        if self._closed:
            raise StoreError(f"the graph at {self.address} is closed; open it again")
        try:
            yield
        except (Neo4jError, DriverError, OSError) as error:
            raise explain(error, str(self.address)) from error

    def session(self, mode: str, *, notify: bool = False) -> neo4j.Session:
        """A new session, which the caller closes; with `notify`, the server reports unknown names."""
        return self._driver.session(
            database=self.address.database,
            default_access_mode=mode,
            bookmark_manager=self._bookmarks,
            notifications_min_severity="WARNING" if notify else "OFF",
        )

    def read(self, work: Callable[[Statements], Result]) -> Result:
        """Read in one managed transaction."""
        timed = self._timed(lambda tx: work(Statements(tx, self.address.namespace)), None)
        return self._committed(timed, translate, mode=neo4j.READ_ACCESS, again=True)

    def write(
        self,
        work: Callable[[Statements], Result],
        *,
        timeout_s: float | None = None,
        explain: Explain = translate,
        idempotent: bool = True,
    ) -> Result:
        """Write in one atomic managed transaction, as the only writer of the namespace.

        Args:
            idempotent: whether the work may be repeated if it is unknown whether it was committed. The result is then
                that of the last run: a count of new nodes may be lower than what this call added.
        """

        def locked(transaction: neo4j.ManagedTransaction) -> Result:
            statements = Statements(transaction, self.address.namespace)
            counted = statements.run(_LOCK)
            if not counted:
                raise LocationError(f"there is no memory at {self.address}; it was deleted or never created")
            statements.writes = counted[0][0]
            return work(statements)

        return self._committed(self._timed(locked, timeout_s), explain, again=idempotent)

    def schema(self, statement: str, **parameters: Any) -> list[list[Any]]:
        """Run a statement about the whole database (constraints, migrations), in a managed transaction of its own."""
        work = self._timed(lambda tx: tx.run(statement, parameters).values(), None)
        return self._committed(work, translate, again=True)

    def _committed(
        self, work: Callable[[Any], Result], explain: Explain, *, again: bool, mode: str = neo4j.WRITE_ACCESS
    ) -> Result:
        """Run a managed transaction; `again` repeats it after a connection lost during the commit."""

        def once() -> Result:
            with self.session(mode) as session:
                execute = session.execute_read if mode == neo4j.READ_ACCESS else session.execute_write
                result: Result = execute(work)
            return result

        with self.translated(explain):
            return self._retry.call(once, retryable=lambda error: again and isinstance(error, IncompleteCommit))

    def _timed(self, work: Callable[[Any], Result], timeout_s: float | None) -> Callable[[Any], Result]:
        limit = self._timeout_s if timeout_s is None else timeout_s
        timed: Callable[[Any], Result] = neo4j.unit_of_work(timeout=limit, metadata={"app": "memstore"})(work)
        return timed

    def close(self) -> None:
        """Close the connections; calling it again does nothing."""
        self._closed = True
        driver, self._driver = getattr(self, "_driver", None), None
        if driver is not None:
            driver.close()


def check_address(address: Address) -> None:
    """Refuse an invalid address, an address with a password, and an invalid namespace."""
    try:
        parts = urlsplit(address.uri)
        host, _, has_user = parts.hostname, parts.port, parts.username is not None or parts.password is not None
    except ValueError as error:
        raise InputError(f"{address.uri!r} is not the address of a server: {error}") from error
    if has_user:
        raise InputError(f"the address of {host} contains a user or password; pass them separately")
    if parts.scheme not in SCHEMES or not host:
        raise InputError(
            f"{address.uri!r} is not the address of a Neo4j server; write bolt://HOST:7687 or neo4j://HOST:7687"
        )
    if not address.database:
        raise InputError(f"the address {address.uri} has no database name; every server has `neo4j`")
    check_name("namespace", address.namespace)
