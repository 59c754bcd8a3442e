"""Write tables to a file of JSON lines, to a Parquet file, or to a folder that `datasets.load_dataset` reads.

The end of the name decides: `.jsonl`, `.parquet`, or a name without an ending, which is a folder. What is written
appears as a whole or not at all: it is built under a temporary name and renamed.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from memstore.errors import InputError
from memstore.runtime.disk_space import space_errors
from memstore.snapshots.atomic_folder import atomic_folder
from memstore_gnn.scoring.output_file import check_output

Format: TypeAlias = Literal["jsonl", "parquet", "folder"]
CARD = "README.md"
SHARD_ROWS = 100_000
"""Rows of a Parquet file of a folder; a multiple of `rows.BLOCK`."""
_SUFFIXES: dict[str, Format] = {".jsonl": "jsonl", ".parquet": "parquet", "": "folder"}
_SPLIT = re.compile(r"\w+(\.\w+)*")
"""Names of splits that `datasets` accepts."""


class Part(NamedTuple):
    """The rows of a split."""

    rows: int
    tables: Callable[[], Iterator[pa.Table]]
    """Makes them, once."""


def check_target(path: Path, force: bool) -> Format:
    """The format of an output that can be written.

    Raises:
        InputError: the name has another ending, or the output exists or cannot be written.
    """
    found = _SUFFIXES.get(path.suffix)
    if found is None:
        raise InputError(f"{path} has an unknown ending; name a .jsonl or .parquet file, or a folder without an ending")
    if found == "folder":
        if path.is_file() or (path.is_dir() and any(path.iterdir())):
            raise InputError(f"{path} exists and is not empty; name a new folder, which --force does not replace")
        return found
    check_output(path, "training data")
    if path.exists() and not force:
        raise InputError(f"{path} already exists; name a new file, or overwrite it with --force")
    return found


def check_split_names(splits: Mapping[str, Part]) -> None:
    """Raise `InputError` if a split of the memory cannot be one of a folder."""
    bad = next((name for name in splits if not _SPLIT.fullmatch(name)), None)
    if bad is not None:
        raise InputError(f"{bad!r} cannot be the name of a split in a folder; write a .jsonl or .parquet file")


def write_file(path: Path, kind: Format, schema: pa.Schema, splits: Mapping[str, Part]) -> int:
    """Write all splits to one file; return its size in bytes.

    Raises:
        StoreFullError: the disk is full; nothing is left behind.
        InputError: the file cannot be written.
    """
    building = path.with_name(f".memstore-{os.getpid()}{path.suffix}")
    with _write_errors(path):
        try:
            tables = (table for part in splits.values() for table in part.tables())
            _write_lines(building, tables) if kind == "jsonl" else _write_parquet(building, schema, tables)
            size = building.stat().st_size
            building.replace(path)
        finally:
            building.unlink(missing_ok=True)
    return size


def write_folder(path: Path, schema: pa.Schema, splits: Mapping[str, Part], card: str) -> int:
    """Write a folder with Parquet files by split and a card; return its size in bytes.

    Raises:
        StoreFullError: the disk is full; nothing is left behind.
        InputError: the folder cannot be written.
    """
    with _write_errors(path), atomic_folder(path, "training data") as building:
        (building / "data").mkdir()
        for name, part in splits.items():
            _write_shards(building / "data", name, schema, part)
        (building / CARD).write_text(card, encoding="utf-8")
        return sum(file.stat().st_size for file in building.rglob("*") if file.is_file())


@contextmanager
def _write_errors(path: Path) -> Iterator[None]:
    try:
        with space_errors(f"there is no space for {path}; free some, and export again"):
            yield
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from error


def _write_lines(path: Path, tables: Iterator[pa.Table]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for table in tables:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in table.to_pylist())


def _write_parquet(path: Path, schema: pa.Schema, tables: Iterator[pa.Table]) -> None:
    with pq.ParquetWriter(path, schema) as writer:
        for table in tables:
            writer.write_table(table)


def _write_shards(folder: Path, split: str, schema: pa.Schema, part: Part) -> None:
    tables, count = part.tables(), -(-part.rows // SHARD_ROWS)
    for shard in range(count):
        _write_parquet(folder / f"{split}-{shard:05d}-of-{count:05d}.parquet", schema, _some(tables, SHARD_ROWS))


def _some(tables: Iterator[pa.Table], rows: int) -> Iterator[pa.Table]:
    """The next tables, until they have this many rows."""
    left = rows
    while left > 0 and (table := next(tables, None)) is not None:
        left -= len(table)
        yield table
