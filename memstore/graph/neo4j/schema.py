"""Schema of a Neo4j database: constraints, migrations, and the node of the namespace.

Constraints and migrations belong to the database. Settings (`MemstoreMeta`), the writer lock and the schema of nodes
(`MemstoreNamespace`) belong to a namespace; without a recorded schema it has schema 1. A key is (namespace, id). Neo4j
Community has no node keys, so a uniqueness constraint over both properties serves; memstore always sets both. One
property with both values would keep a user's `WHERE n.id = ...` from using the index.

Neo4j takes no schema command in a transaction that writes data. The statements of a migration therefore run one by one,
each repeatable, and its record is written last; an interrupted migration starts again.
"""

from __future__ import annotations

import datetime as dt

from memstore.errors import LocationError
from memstore.graph.neo4j.connection import Connection
from memstore_schema import migrations
from memstore_schema.columns import SCHEMA_VERSION, EdgeType, NodeLabel
from memstore_schema.cypher_files import bookkeeping

BACKEND = "neo4j"
_KEYS = (["namespace", "id"], ["namespace", "name"], ["namespace"], ["name"])
_OWN_LABELS = ("MemstoreMigration", "MemstoreMeta", "MemstoreNamespace", "MemstoreLinking")


def prepare(connection: Connection, *, create: bool) -> None:
    """Create the constraints of the migration records, and the namespace if it is missing.

    Raises:
        LocationError: no memory in this namespace and `create` is False, or a database of another project.
    """
    where = connection.address
    _check_constraints(connection)
    known = connection.schema("MATCH (n:MemstoreNamespace {namespace: $name}) RETURN count(*)", name=where.namespace)
    if known[0][0]:
        return
    if not create:
        raise LocationError(f"there is no memory at {where}; create one by ingesting, or name another namespace")
    if not applied(connection):
        _check_empty(connection)
    for statement in bookkeeping(BACKEND):
        connection.schema(statement)
    connection.schema(
        "MERGE (n:MemstoreNamespace {namespace: $name}) ON CREATE SET n.writes = 0, n.created_at = $now, "
        "n.schema = $schema",
        name=where.namespace,
        schema=SCHEMA_VERSION,
        now=dt.datetime.now(dt.UTC),
    )


def applied(connection: Connection) -> list[str]:
    """Names of the applied migrations."""
    return [row[0] for row in connection.schema("MATCH (m:MemstoreMigration) RETURN m.name")]


def version(connection: Connection) -> int:
    """Schema of the namespace's nodes; that of the database if it is newer than this memstore, 0 if it has none."""
    newest = max((migrations.number_of(name) for name in applied(connection)), default=0)
    if not 0 < newest <= SCHEMA_VERSION:
        return newest
    [[recorded]] = connection.schema(
        "MATCH (n:MemstoreNamespace {namespace: $name}) RETURN n.schema", name=connection.address.namespace
    )
    return 1 if recorded is None else int(recorded)


def record_version(connection: Connection) -> None:
    """Record that the namespace's nodes have the present schema."""
    connection.schema(
        "MATCH (n:MemstoreNamespace {namespace: $name}) SET n.schema = $schema",
        name=connection.address.namespace,
        schema=SCHEMA_VERSION,
    )


def migrate(connection: Connection) -> list[str]:
    """Run the pending migrations of the database."""

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
    """Refuse a database with other constraints on memstore's labels or relations, or with their names."""
    ours = {*NodeLabel, *EdgeType, *_OWN_LABELS}
    rows = connection.schema("SHOW CONSTRAINTS YIELD name, labelsOrTypes, properties")
    for name, on, properties in rows:
        of_ours = bool(ours & set(on))
        if of_ours != name.startswith("memstore_") or (of_ours and properties not in _KEYS):
            raise LocationError(
                f"{connection.address} has a constraint of another project, {name} on "
                f"{on[0]}({', '.join(properties)}); use a separate database for memstore, or drop that constraint"
            )


def _check_empty(connection: Connection) -> None:
    """Refuse a database in which another project has nodes with memstore's labels."""
    labels = "|".join(NodeLabel)
    rows = connection.schema(f"MATCH (n:{labels}) WHERE n.namespace IS NULL RETURN labels(n), count(*) LIMIT 1")
    if rows:
        raise LocationError(
            f"{connection.address} holds {rows[0][1]} nodes of another project with the label {rows[0][0][0]}; "
            "use a separate database for memstore"
        )
