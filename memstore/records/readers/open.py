"""Which kind of input a path is: told by its first bytes, so that a wrong ending does no harm."""

from __future__ import annotations

import stat
import sys
from collections.abc import Sequence
from pathlib import Path

from memstore.errors import InputError
from memstore.records.adapters import REQUIRED_COLUMNS
from memstore.records.readers.lines import LineSource
from memstore.records.readers.parquet import ParquetSource
from memstore.records.readers.source import RowSource, stem_of

_PARQUET_MAGIC = b"PAR1"


def open_source(path: str | Path, columns: Sequence[Sequence[str]] = REQUIRED_COLUMNS) -> RowSource:
    """The rows of a file, or of standard input where `path` is "-".

    Reads JSON lines, gzip of JSON lines, and Parquet, whatever the name says; standard input holds lines.

    Args:
        columns: what a table needs: all columns of one of these.

    Raises:
        InputError: there is no such file, it is a folder, it is empty or cannot be read, or it is a Parquet file
            without the columns that it needs.
    """
    if str(path) == "-":
        return LineSource(None, name="stdin", stem="stdin", size=None, stream=sys.stdin.buffer)
    path = Path(path)
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise InputError(f"{path} is a folder; name the files in it, for instance {path / '*.jsonl'}")
        if not stat.S_ISREG(status.st_mode):
            return LineSource(path, name=path.name, stem=stem_of(path), size=None)
        if status.st_size == 0:
            raise InputError(f"{path} is empty; it must hold one rollout a line")
        with path.open("rb") as file:
            magic = file.read(len(_PARQUET_MAGIC))
    except FileNotFoundError as error:
        raise InputError(f"there is no file {path}; check its name") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if magic == _PARQUET_MAGIC:
        return ParquetSource(path, size=status.st_size, columns=columns)
    return LineSource(path, name=path.name, stem=stem_of(path), size=status.st_size)
