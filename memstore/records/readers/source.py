"""What every reader offers: rows, lazily, and how far it has come."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from memstore.records.record import Row

_ENDINGS = (".gz", ".jsonl", ".json", ".parquet")


class RowSource(Protocol):
    """A readable input. Iterating reads it from its beginning, a bounded part at a time; a bad row is a row."""

    name: str
    """The file's name; "stdin" for standard input."""
    stem: str
    """The name without .jsonl, .json, .parquet and .gz."""
    size: int | None
    """Bytes; None where it is not known before the end."""

    def position(self) -> int:
        """Bytes consumed so far."""
        ...

    def __iter__(self) -> Iterator[Row]:
        """The rows, each once, in the order of the input.

        Raises:
            InputError: the input cannot be read, or holds no row at all.
        """
        ...


def stem_of(path: Path) -> str:
    """A file's name without the endings of the formats that are read."""
    stem = path.name
    while any(stem.lower().endswith(ending) and len(stem) > len(ending) for ending in _ENDINGS):
        stem = stem[: stem.rindex(".")]
    return stem
