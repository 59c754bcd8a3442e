"""Read the Cypher files of this package and split them into statements.

A statement ends with a semicolon at the end of a line. Lines that begin with `//` are comments.
"""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable


def folder(*parts: str) -> Traversable:
    """A folder or file of this package."""
    return files("memstore_schema").joinpath(*parts)


def statements(text: str) -> tuple[str, ...]:
    """The statements of a file, without comments and semicolons."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("//")]
    parts = ("\n".join(lines) + "\n").split(";\n")
    return tuple(part.strip() for part in parts if part.strip())


def bookkeeping(backend: str) -> tuple[str, ...]:
    """Idempotent statements that create the tables or constraints for migrations and settings."""
    return statements(folder("ddl", f"{backend}.cypher").read_text(encoding="utf-8"))
