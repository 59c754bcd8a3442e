"""What a database must have before memstore writes to it: constraints, migrations, and a node for the namespace.

Constraints and migrations belong to the database; settings (`MemstoreMeta`) and the writers' lock (`MemstoreNamespace`)
to a namespace. A key is (namespace, id): Community has no node keys, and a uniqueness constraint over two properties
serves, since memstore writes both always; a single property that holds both would keep users' `WHERE n.id = ...` from
the index.

Neo4j takes no schema command in a transaction that writes data. A migration's statements therefore run one by one, each
of a kind that may run again, and its record comes last: one that was cut short is begun anew.
"""

from __future__ import annotations

import datetime as dt

from memstore.errors import LocationError
from memstore.graph.neo4j.connection import Connection
from memstore_schema import migrations
from memstore_schema.columns import EdgeType, NodeLabel
from memstore_schema.cypher_files import bookkeeping

BACKEND = "neo4j"
_KEYS = (["namespace", "id"], ["namespace", "name"], ["namespace"], ["name"])
_OWN_LABELS = ("MemstoreMigration", "MemstoreMeta", "MemstoreNamespace", "MemstoreLinking")


def prepare(connection: Connection, *, create: bool) -> None:
    """Make room for the records of migrations, and the namespace where it is missing.

    Raises:
        LocationError: no memory in this namespace and `create` is False, or a database of another project.
    """
    where = connection.address
    _check_constraints(connection)
    known = connection.schema("MATCH (n:MemstoreNamespace {namespace: $name}) RETURN count(*)", name=where.namespace)
    if known[0][0]:
        return
    if not create:
        raise LocationError(f"there is no memory at {where}; make one by ingesting, or name another namespace")
    if not applied(connection):
        _check_empty(connection)
    for statement in bookkeeping(BACKEND):
        connection.schema(statement)
    connection.schema(
        "MERGE (n:MemstoreNamespace {namespace: $name}) ON CREATE SET n.writes = 0, n.created_at = $now",
        name=where.namespace,
        now=dt.datetime.now(dt.UTC),
    )


def applied(connection: Connection) -> list[str]:
    """Names of the migrations this database has."""
    return [row[0] for row in connection.schema("MATCH (m:MemstoreMigration) RETURN m.name")]


def migrate(connection: Connection) -> list[str]:
    """Run the migrations that are missing."""

    def run(migration: migrations.Migration) -> None:
        for statement in migration.statements:
            connection.schema(statement)
        connection.schema(
            "MERGE (m:MemstoreMigration {name: $name}) ON CREATE SET m.number = $number, m.applied_at = $now",
            name=migration.name,
            number=migration.number,
            now=dt.datetime.now(dt.UTC),
        )

    return migrations.apply(BACKEND, applied(connection), run)


def _check_constraints(connection: Connection) -> None:
    """Refuse a database in which something else constrains our labels or relations, or bears our names."""
    ours = {*NodeLabel, *EdgeType, *_OWN_LABELS}
    rows = connection.schema("SHOW CONSTRAINTS YIELD name, labelsOrTypes, properties")
    for name, on, properties in rows:
        of_ours = bool(ours & set(on))
        if of_ours != name.startswith("memstore_") or (of_ours and properties not in _KEYS):
            raise LocationError(
                f"{connection.address} has a constraint of another project, {name} on "
                f"{on[0]}({', '.join(properties)}); name a database of its own for memstore, or drop that constraint"
            )


def _check_empty(connection: Connection) -> None:
    """Refuse a database in which another project has nodes of our labels."""
    labels = "|".join(NodeLabel)
    rows = connection.schema(f"MATCH (n:{labels}) WHERE n.namespace IS NULL RETURN labels(n), count(*) LIMIT 1")
    if rows:
        raise LocationError(
            f"{connection.address} holds {rows[0][1]} nodes of another project with the label {rows[0][0][0]}; "
            "name a database of its own for memstore"
        )
