"""`RowSource`: the protocol of a reader. It yields rows lazily and reports its position."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from memstore.records.record import Row

_ENDINGS = (
    ".gz", ".zst", ".jsonl", ".ndjson", ".json", ".yaml", ".yml", ".parquet", ".csv", ".tsv", ".arrow", ".feather",
    ".zip", ".eval",
)  # fmt: skip


class RowSource(Protocol):
    """A readable input. Iterating reads it from the start in bounded memory; invalid rows are yielded too."""

    name: str
    """The file's name; "stdin" for standard input."""
    stem: str
    """The name without the endings of the formats that are read."""
    size: int | None
    """Size in bytes; None if it is unknown."""

    def position(self) -> int:
        """Bytes consumed so far."""
        ...

    def __iter__(self) -> Iterator[Row]:
        """The rows, in the order of the input.

        Raises:
            InputError: the input cannot be read or has no rows.
        """
        ...


def name_of(path: str | Path) -> str:
    """The file's name. Bytes that are not UTF-8, which no store takes, are written as `\\xff`."""
    return os.fsencode(Path(path).name).decode("utf-8", "backslashreplace")


def stem_of(path: Path) -> str:
    """The file's name without the suffixes of the supported formats."""
    stem = name_of(path)
    while any(stem.lower().endswith(ending) and len(stem) > len(ending) for ending in _ENDINGS):
        stem = stem[: stem.rindex(".")]
    return stem
