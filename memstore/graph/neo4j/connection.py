"""One namespace of one database of a Neo4j server: the driver, managed transactions, the writers' lock.

Every statement goes through `Statements.run`, which puts the namespace into it. Whatever writes takes the namespace's
lock first, a write lock of the server on the node `MemstoreNamespace`, and holds it until it has committed: writers of
a namespace follow one another, so that looking first and writing then is safe, nothing deadlocks, and a label cannot
change between its check and its writing. Readers and other namespaces do not wait.

The driver runs a transaction again where the server was away, a leader changed or a lock timed out. It does not where
the connection went while the server committed, since nobody can say then whether it did; all of ours are idempotent, so
they are run again there too, and only what a user wrote is not: see `write`.
"""

from __future__ import annotations

import contextlib
import logging
import re
import time
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

Result = TypeVar("Result")
Explain: TypeAlias = Callable[[Neo4jError | DriverError | OSError, str], MemstoreError]
"""What to raise for an error at a location."""

SCHEMES = ("bolt", "bolt+s", "bolt+ssc", "neo4j", "neo4j+s", "neo4j+ssc")
CONNECT_SECONDS = 10.0
# The driver logs each connection that is lost; without a handler Python would print that to stderr beside our sentence.
logging.getLogger("neo4j").addHandler(logging.NullHandler())
_LOCK = "MATCH (n:MemstoreNamespace) SET n.writes = n.writes + 1 RETURN n.writes"


@dataclass(frozen=True)
class Address:
    """Where a graph is, without the password."""

    uri: str
    database: str
    namespace: str

    def __str__(self) -> str:
        return f"{self.uri} (database {self.database}, namespace {self.namespace})"


class Statements:
    """A transaction, for statements that mind the namespace."""

    def __init__(self, transaction: Any, namespace: str) -> None:
        self._transaction = transaction
        self._namespace = namespace
        self.writes = 0
        """In a transaction that writes, its number among all of the namespace that did."""

    def result(self, query: str, parameters: dict[str, Any]) -> neo4j.Result:
        """Run a statement in the namespace; the driver's own result."""
        return self._transaction.run(scoped(query), {**parameters, PARAMETER: self._namespace})

    def start(self, query: str, **parameters: Any) -> Callable[[], list[list[Any]]]:
        """Begin a statement; what is returned waits for its rows.

        The server works meanwhile: so the next statement's parameters are packed while this one runs.
        """
        values: Callable[[], list[list[Any]]] = self.result(query, parameters).values
        return values

    def run(self, query: str, **parameters: Any) -> list[list[Any]]:
        """Run a statement in the namespace; all its rows."""
        return self.start(query, **parameters)()


class Connection:
    """A driver for one namespace."""

    def __init__(
        self, address: Address, user: str, password: str | SecretStr, *, timeout_s: float, retry_s: float
    ) -> None:
        """Connect and look who answers; see `Neo4jGraph.open`."""
        check_address(address)
        self.address = address
        self._timeout_s = timeout_s
        self._retry_s = retry_s
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
        """Who answers. Where routing fails, a direct connection is tried, since that error says why."""
        try:
            return self._driver.get_server_info()
        except ServiceUnavailable:
            if self.address.uri.startswith("neo4j"):
                with self._connect("bolt" + self.address.uri.removeprefix("neo4j")) as direct:
                    direct.get_server_info()
            raise

    @contextlib.contextmanager
    def translated(self, explain: Explain = translate) -> Iterator[None]:
        """Errors of the driver and the server leave as ours."""
        if self._closed:
            raise StoreError(f"the graph at {self.address} is closed; open it again")
        try:
            yield
        except (Neo4jError, DriverError, OSError) as error:
            raise explain(error, str(self.address)) from error

    def session(self, mode: str) -> neo4j.Session:
        """A session that the caller closes."""
        return self._driver.session(
            database=self.address.database, default_access_mode=mode, bookmark_manager=self._bookmarks
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
        """Write in one managed transaction, as the only writer of the namespace: all of it is kept, or nothing.

        `idempotent` says that the work may be done again where it is not known whether it was committed; the result is
        then that of the last time (a count of what is new may be lower than what this call added).
        """

        def locked(transaction: neo4j.ManagedTransaction) -> Result:
            statements = Statements(transaction, self.address.namespace)
            counted = statements.run(_LOCK)
            if not counted:
                raise LocationError(f"there is no memory at {self.address} any more; it was deleted, or never made")
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
        """Do the work in a managed transaction; `again` where the connection went while the server committed."""
        last = time.monotonic() + self._retry_s
        with self.translated(explain):
            while True:
                try:
                    with self.session(mode) as session:
                        execute = session.execute_read if mode == neo4j.READ_ACCESS else session.execute_write
                        result: Result = execute(work)
                    return result
                except IncompleteCommit:
                    if not again or time.monotonic() > last:
                        raise

    def _timed(self, work: Callable[[Any], Result], timeout_s: float | None) -> Callable[[Any], Result]:
        limit = self._timeout_s if timeout_s is None else timeout_s
        timed: Callable[[Any], Result] = neo4j.unit_of_work(timeout=limit, metadata={"app": "memstore"})(work)
        return timed

    def close(self) -> None:
        """Let go of the connections; calling it again does nothing."""
        self._closed = True
        driver, self._driver = getattr(self, "_driver", None), None
        if driver is not None:
            driver.close()


def check_address(address: Address) -> None:
    """Refuse an address that is none, or that holds a password, and a namespace that does not read well."""
    try:
        parts = urlsplit(address.uri)
        host, _, has_user = parts.hostname, parts.port, parts.username is not None or parts.password is not None
    except ValueError as error:
        raise InputError(f"{address.uri!r} is no address of a server: {error}") from error
    if has_user:
        raise InputError(f"the address of {host} holds a user or password; give them by themselves")
    if parts.scheme not in SCHEMES or not host:
        raise InputError(
            f"{address.uri!r} is no address of a Neo4j server; write bolt://HOST:7687 or neo4j://HOST:7687"
        )
    if not address.database:
        raise InputError(f"no database is named for {address.uri}; a server always has `neo4j`")
    check_name("namespace", address.namespace)
