"""Schema migrations, one file each: `<backend>/<number>_<name>.cypher`.

A store records the names of its applied migrations. A released migration never changes. All migrations together
produce the columns of `memstore_schema.columns`, which a test checks. Both backends use the same numbers, so that a
schema version means the same columns everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from memstore_schema.cypher_files import folder, statements


@dataclass(frozen=True)
class Migration:
    """One migration; `name` begins with its number."""

    number: int
    name: str
    statements: tuple[str, ...]


def migrations(backend: str) -> tuple[Migration, ...]:
    """All migrations of a backend (`ladybug` or `neo4j`), in order."""
    found = []
    for file in folder("migrations", backend).iterdir():
        name = file.name.removesuffix(".cypher")
        found.append(Migration(int(name.split("_")[0]), name, statements(file.read_text(encoding="utf-8"))))
    return tuple(sorted(found, key=lambda migration: migration.number))


def pending(backend: str, applied: Collection[str]) -> list[Migration]:
    """Migrations that are not in `applied`, in order."""
    return [migration for migration in migrations(backend) if migration.name not in applied]


def apply(backend: str, applied: Collection[str], run: Callable[[Migration], None]) -> list[str]:
    """Run the pending migrations one after another; return their names.

    Args:
        run: applies one migration and records its name, in one transaction.
    """
    names = []
    for migration in pending(backend, applied):
        run(migration)
        names.append(migration.name)
    return names


def number_of(name: str) -> int:
    """The number in a migration's name."""
    return int(name.split("_")[0])
