"""The process that runs one user query at a time on LadybugDB: `main`.

LadybugDB checks its time limit only between batches of rows, so a function that computes for minutes on one row
(`lpad`, `repeat`, `range`) cannot be interrupted, and an allocation that fails may crash the process. A query
therefore runs here, where the parent (`queries`) can kill it.

The database is opened for each query: read-only beside its owner, or read-write while the owner has closed it.
"""

from __future__ import annotations

import base64
import os
import pickle
import resource
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ladybug
from ladybug.prepared_statement import PreparedStatement

from memstore.errors import MemstoreError
from memstore.graph.ladybug.cypher import plain
from memstore.graph.ladybug.database import open_database
from memstore.runtime.processes import serve

BLOCK_ROWS = 1_000
"""Rows of a block at most."""
BLOCK_BYTES = 2**20
"""Approximate size of a block of rows."""
ROW_BYTES = 2**28
"""Largest block that is sent, which only a single long row can exceed."""


class Opening(NamedTuple):
    """Open the database in `folder`."""

    folder: str
    buffer_pool_bytes: int
    memory_bytes: int
    """Memory that the query may use beside the buffer pool."""
    read_only: bool


class Query(NamedTuple):
    """Run a query and send its first rows."""

    text: str
    parameters: Mapping[str, Any]
    timeout_s: float | None


class Next(NamedTuple):
    """Send the next rows."""


class Close(NamedTuple):
    """Drop the rows that are left."""


class Failure(NamedTuple):
    """An error of LadybugDB: the name of its exception type, and its message."""

    kind: str
    message: str


class Block(NamedTuple):
    """Rows of the result; the database is closed after the last block."""

    columns: list[str]
    rows: list[tuple[Any, ...]]
    more: bool


class _Statement(PreparedStatement):  # type: ignore[misc]
    """A prepared statement without a traceback at deletion, which LadybugDB's prints if preparing failed."""

    _prepared_statement: Any = None


class Session:
    """The open database and the result of the running query."""

    def __init__(self) -> None:
        self._database: Any = None
        self._connection: Any = None
        self._result: Any = None

    def open(self, opening: Opening) -> None:
        """Open the database, then limit the memory of this process."""
        _limit_memory(None)
        self._database = open_database(Path(opening.folder), opening.buffer_pool_bytes, read_only=opening.read_only)
        self._connection = ladybug.Connection(self._database)
        _limit_memory(opening.memory_bytes)

    def run(self, query: Query) -> Block:
        """Run a query up to its first rows."""
        if query.timeout_s is not None:
            self._connection.set_query_timeout(max(1, round(query.timeout_s * 1000)))
        statement = _Statement(self._connection, query.text, dict(query.parameters))
        if not statement.is_success():
            raise RuntimeError(statement.get_error_message())
        result = self._connection.execute(statement, dict(query.parameters))
        if isinstance(result, list):
            raise RuntimeError("do not support prepare multiple statements")
        self._result = result
        return self.block()

    def block(self) -> Block:
        """The next rows; closes the database after the last ones."""
        columns, size = self._result.get_column_names(), 0
        rows: list[tuple[Any, ...]] = []
        while len(rows) < BLOCK_ROWS and size < BLOCK_BYTES and self._result.has_next():
            rows.append(tuple(plain(value) for value in self._result.get_next()))
            size += sum(_size(value) for value in rows[-1])
        if size > ROW_BYTES:
            raise MemoryError
        more = self._result.has_next()
        if not more:
            self.close()
        return Block(columns, rows, more)

    def close(self) -> None:
        """Close the database; calling it again does nothing."""
        for part in (self._result, self._connection, self._database):
            if part is not None:
                part.close()
        self._result = self._connection = self._database = None


def _size(value: Any) -> int:
    """Approximate size of a plain value in bytes."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(_size(item) for item in value.values())
    return sum(map(_size, value)) if isinstance(value, list) else 8


def _limit_memory(memory_bytes: int | None) -> None:
    """Limit the private memory of this process to its present size and `memory_bytes`; None removes the limit.

    The size includes the buffer pool, which is reserved when the database is opened. Only Linux has this limit.
    """
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    if memory_bytes is None or not os.path.exists("/proc/self/statm"):
        resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))
        return
    pages = int(Path("/proc/self/statm").read_text().split()[5])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + memory_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (limit if hard < 0 else min(limit, hard), hard))


def handle(session: Session, line: str) -> str:
    """Answer a request, each a pickle in base64."""
    try:
        request = pickle.loads(base64.b64decode(line))  # the parent is trusted
        answer: Any = None
        if isinstance(request, Opening):
            session.open(request)
        elif isinstance(request, Query):
            answer = session.run(request)
        elif isinstance(request, Next):
            answer = session.block()
        else:
            session.close()
    except MemstoreError as error:
        answer = error
    except MemoryError:
        answer = Failure("MemoryError", "std::bad_alloc")
    except Exception as error:  # anything that converting a parameter raises belongs to the query
        answer = Failure(type(error).__name__, str(error))
    if isinstance(answer, (MemstoreError, Failure)):
        session.close()
    return base64.b64encode(pickle.dumps(answer)).decode("ascii")


def main() -> None:
    """Serve requests until standard input ends."""
    session = Session()
    serve(lambda line: handle(session, line), memory_bytes=None)
