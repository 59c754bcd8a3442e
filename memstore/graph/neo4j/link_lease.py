"""One process links a memory at a time: whoever comes second waits, then finds only what is left to link.

Linking reads all nodes, computes for as long as it takes, and writes lists: two that overlap would each leave out what
the other one adds. So a turn is taken: an open transaction holds a lock on the node `MemstoreLinking`, which the server
lets go of when the process or its connection ends. Since a lock may be lost that way while its owner goes on, each turn
has a number too, and lists are only written by the newest: see `check`.

This transaction is not a managed one: it does nothing but hold its lock while others work.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import neo4j
from neo4j.exceptions import DriverError, Neo4jError

from memstore.errors import StoreError
from memstore.graph.neo4j.connection import Connection, Statements

LONGEST_SECONDS = 24 * 3600.0
"""A turn whose process vanished without a trace (its machine lost power) is over after this long."""
_TAKE = "MATCH (n:MemstoreNamespace) SET n.turn = coalesce(n.turn, 0) + 1 RETURN n.turn"


@contextlib.contextmanager
def taken(connection: Connection) -> Iterator[int]:
    """Wait for one's turn and keep it; the number of the turn."""
    connection.write(lambda tx: tx.run("MERGE (n:MemstoreLinking)"))
    with connection.translated():
        session = connection.session(neo4j.WRITE_ACCESS)
        try:
            holder = session.begin_transaction(timeout=LONGEST_SECONDS, metadata={"app": "memstore linking"})
            Statements(holder, connection.address.namespace).run("MATCH (n:MemstoreLinking) SET n.held = true")
        except BaseException:
            session.close()
            raise
    try:
        yield int(connection.write(lambda tx: tx.run(_TAKE))[0][0])
    finally:
        # A connection that is lost has let go of the lock; what was written since, `check` has seen to.
        with contextlib.suppress(Neo4jError, DriverError, OSError):
            session.close()


def check(tx: Statements, turn: int | None) -> None:
    """Refuse to write lists where the turn in which they were computed is over.

    Raises:
        StoreError: another process has begun its turn.
    """
    if turn is not None and tx.run("MATCH (n:MemstoreNamespace) RETURN n.turn")[0][0] != turn:
        raise StoreError(
            "the connection was lost while this process linked the memory, and another one has begun to; "
            "nothing is wrong, and `memstore link` does what is left"
        )
