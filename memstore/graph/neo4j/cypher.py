"""A user's Cypher on Neo4j: restricted to one namespace, read-only by default, with a time limit, streamed.

A query that reads runs in an unmanaged transaction. Its rows cannot be withdrawn once the caller has them, so a
stream that breaks off raises an error and is not retried. A query that writes runs in a managed transaction and
returns all rows at once.

Values become plain Python as on LadybugDB: str, int, float, bool, None, datetime (UTC), list, dict. A node or
relationship is the dict of its properties, without the namespace.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

import neo4j
from neo4j.exceptions import DriverError, Neo4jError
from neo4j.graph import Node, Path, Relationship
from neo4j.time import DateTime

from memstore.errors import InputError, MemstoreError, QueryTimeout, StoreError, WriteRefused
from memstore.graph.names import no_label, no_property, suspicious_names
from memstore.graph.neo4j.connection import Connection, Statements
from memstore.graph.neo4j.errors import one_line, translate
from memstore.graph.neo4j.scope import PROPERTY

_NAME = re.compile(r"missing (?:label|relationship type|property)(?: name)? is: `?([^`)]+)`?\)")
FIRST_ROWS = 1000
"""Rows that are read before the first is returned, if the query has a name outside the schema; the driver fetches as
many at a time."""
_USERS_FAULT = ("Neo.ClientError.Statement.", "Neo.ClientError.Procedure.", "Neo.ClientError.Schema.")


class Stream:
    """Rows of a read-only query, for one iteration; the connection is returned when they end or are dropped."""

    def __init__(
        self, connection: Connection, query: str, parameters: Mapping[str, Any], timeout_s: float | None
    ) -> None:
        """Run the query up to its first row."""
        self._where, self._namespace = str(connection.address), connection.address.namespace
        self._timeout_s = timeout_s
        with connection.translated():
            self._session = connection.session(neo4j.READ_ACCESS, notify=True)
        try:
            limit = None if timeout_s is None else max(timeout_s, 0.001)
            transaction = self._session.begin_transaction(timeout=limit)
            statements = Statements(transaction, self._namespace)
            result = _run(statements, query, parameters)
            self.columns = list(result.keys())
            self._records = _checked(statements, result, query, parameters)
        except (Neo4jError, DriverError) as error:
            self.close()
            raise _explain(error, self._where, timeout_s) from error
        except BaseException:
            self.close()
            raise

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """The rows. The iterator has been started, so that dropping it closes the connection."""
        rows = self._rows()
        next(rows)
        return rows

    def _rows(self) -> Iterator[tuple[Any, ...]]:
        try:
            yield ()
            for record in self._records:
                yield tuple(plain(value, self._namespace) for value in record.values())
        except Neo4jError as error:
            raise _explain(error, self._where, self._timeout_s) from error
        except DriverError as error:
            raise StoreError(f"the rows of this query can no longer be read: {one_line(error)}") from error
        finally:
            self.close()

    def close(self) -> None:
        """Return the connection; calling it again does nothing."""
        self._session.close()


def _checked(tx: Statements, result: neo4j.Result, query: str, parameters: Mapping[str, Any]) -> Iterable[neo4j.Record]:
    """The records of a result, after a check of the query's names; waits for the first record.

    Neo4j treats an unknown label, relationship type or property as empty and reports it after the last record. A
    result of less than `FIRST_ROWS` records is therefore read to its end. Of a longer one no record has been returned
    yet, and EXPLAIN reports the same names without running the query again.

    Raises:
        InputError: a name is unknown; the message has the closest one.
    """
    records: Iterable[neo4j.Record] = result
    suspicious = suspicious_names(query)
    if not suspicious or query.lstrip()[:7].upper() in ("EXPLAIN", "PROFILE"):
        result.peek()
        return records
    first: list[neo4j.Record] = result.fetch(FIRST_ROWS)
    complete = len(first) < FIRST_ROWS
    summary = result.consume() if complete else _run(tx, f"EXPLAIN {query}", parameters).consume()
    _check_names(suspicious, summary.notifications or [], query)
    return first if complete else chain(first, records)


def _check_names(suspicious: Collection[str], notifications: Iterable[Mapping[str, Any]], query: str) -> None:
    """Refuse the first of these names that Neo4j reports as unknown."""
    for notification in notifications:
        name = _NAME.search(notification.get("description") or "")
        # Names of the schema are reported too, as long as the database has no node or edge with them.
        if name is None or name[1] not in suspicious:
            continue
        if notification["code"].endswith(("UnknownLabelWarning", "UnknownRelationshipTypeWarning")):
            raise InputError(f"the query cannot be run: {no_label(name[1])}")
        if notification["code"].endswith("UnknownPropertyKeyWarning"):
            raise InputError(f"the query cannot be run: {no_property(name[1], query)}")


def run_write(
    connection: Connection, query: str, parameters: Mapping[str, Any], timeout_s: float | None
) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Columns and all rows of a query that may write."""
    namespace = connection.address.namespace

    def work(tx: Statements) -> tuple[list[str], list[tuple[Any, ...]]]:
        result = _run(tx, query, parameters)
        return list(result.keys()), [tuple(plain(value, namespace) for value in row.values()) for row in result]

    return connection.write(
        work, timeout_s=timeout_s, explain=lambda e, where: _explain(e, where, timeout_s), idempotent=False
    )


def _run(tx: Statements, query: str, parameters: Mapping[str, Any]) -> neo4j.Result:
    if not query.strip():
        raise InputError("the query is empty; write one, or name one of `memstore cypher --list`")
    try:
        return tx.result(query, dict(parameters))
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"a parameter of the query cannot be passed to the graph: {one_line(error)}") from error


def plain(value: Any, namespace: str) -> Any:
    """Convert a value of a result to plain Python."""
    if isinstance(value, Node):
        return _node(value, namespace)
    if isinstance(value, Relationship):
        return {name: plain(item, namespace) for name, item in value.items()}
    if isinstance(value, Path):
        return {"nodes": plain(value.nodes, namespace), "relationships": plain(value.relationships, namespace)}
    if isinstance(value, dict):
        return {name: plain(item, namespace) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, namespace) for item in value]
    if isinstance(value, DateTime):
        native = value.to_native()
        return native.replace(tzinfo=dt.UTC) if native.tzinfo is None else native.astimezone(dt.UTC)
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return value.hex() if isinstance(value, bytes) else str(value)


def _node(node: Node, namespace: str) -> dict[str, Any]:
    """The properties of a node; a node that the query has deleted has none."""
    properties = dict(node)
    if properties and properties.pop(PROPERTY, None) != namespace:
        raise StoreError("the query reached a node outside of its namespace and was stopped; please report this query")
    return {name: plain(value, namespace) for name, value in properties.items()}


def _explain(error: Neo4jError | DriverError | OSError, where: str, timeout_s: float | None) -> MemstoreError:
    code = getattr(error, "code", None) or ""
    if code.endswith("Statement.AccessMode"):
        return WriteRefused("this query writes")
    if "TransactionTimedOut" in code and timeout_s is not None:
        return QueryTimeout(f"the query ran past its limit of {timeout_s:g} s; match less, or allow more time")
    if "MemoryPoolOutOfMemory" in code:
        return StoreError("the query needs more memory than the server allows; match less, or add a LIMIT")
    if code.startswith(_USERS_FAULT) and "columns with the same name" in str(error):
        return InputError("several columns of the result have one name; give each its own name with AS")
    if code.startswith(_USERS_FAULT):
        return InputError(f"the query cannot be run: {one_line(error)}")
    return translate(error, where)
