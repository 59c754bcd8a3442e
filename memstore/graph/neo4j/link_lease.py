"""The lease that lets one process link a memory at a time. A second process waits, then links what is left.

Linking reads all nodes, computes neighbours and writes lists. Two processes that overlap would each miss the nodes
that the other one adds. The owner of the lease therefore keeps a transaction open that holds a lock on the node
`MemstoreLinking`; the server releases the lock when the process or its connection ends. Since the lock may be lost
while its owner keeps running, each lease also has a number, and only the newest lease may write lists (see `check`).

The transaction that holds the lock is unmanaged: it runs no other statement.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import neo4j
from neo4j.exceptions import DriverError, Neo4jError

from memstore.errors import StoreError
from memstore.graph.neo4j.connection import Connection, Statements

LEASE_SECONDS = 24 * 3600.0
"""Lifetime of a lease whose process vanished without closing its connection, as in a power cut."""
_NEXT_LEASE = "MATCH (n:MemstoreNamespace) SET n.turn = coalesce(n.turn, 0) + 1 RETURN n.turn"


@contextlib.contextmanager
def hold(connection: Connection) -> Iterator[int]:
    """Wait for the lease, hold it, and return its number."""
    connection.write(lambda tx: tx.run("MERGE (n:MemstoreLinking)"))
    with connection.translated():
        session = connection.session(neo4j.WRITE_ACCESS)
        try:
            holder = session.begin_transaction(timeout=LEASE_SECONDS, metadata={"app": "memstore linking"})
            Statements(holder, connection.address.namespace).run("MATCH (n:MemstoreLinking) SET n.held = true")
        except BaseException:
            session.close()
            raise
    try:
        yield int(connection.write(lambda tx: tx.run(_NEXT_LEASE))[0][0])
    finally:
        # A lost connection has released the lock already; `check` has refused writes since.
        with contextlib.suppress(Neo4jError, DriverError, OSError):
            session.close()


def check(tx: Statements, lease: int | None) -> None:
    """Refuse to write lists that were computed under an expired lease.

    Raises:
        StoreError: another process has taken the lease.
    """
    if lease is not None and tx.run("MATCH (n:MemstoreNamespace) RETURN n.turn")[0][0] != lease:
        raise StoreError(
            "the connection was lost while this process linked the memory, and another process has started to link it; "
            "nothing was damaged: run `memstore link` again for the rest"
        )
