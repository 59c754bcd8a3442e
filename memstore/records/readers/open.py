"""Choose the reader of a path by the first bytes of the file, whatever its name."""

from __future__ import annotations

import stat
import sys
from collections.abc import Sequence
from pathlib import Path

from memstore.errors import InputError
from memstore.records.adapters import REQUIRED_COLUMNS
from memstore.records.readers.lines import LineSource
from memstore.records.readers.other_formats import SNIFFED_BYTES, refuse_other_format
from memstore.records.readers.parquet import ParquetSource
from memstore.records.readers.source import RowSource, stem_of

_PARQUET_MAGIC = b"PAR1"


def open_source(path: str | Path, columns: Sequence[Sequence[str]] = REQUIRED_COLUMNS) -> RowSource:
    """Open a file of rollouts, or standard input if `path` is "-".

    Reads JSON lines, gzipped JSON lines and Parquet. Standard input must contain JSON lines.

    Args:
        columns: sets of columns; a table must have all columns of one of them.

    Raises:
        InputError: the path does not exist, is a folder, is empty or cannot be read, or it is a Parquet file without
            the required columns.
    """
    if str(path) == "-":
        return LineSource(None, name="stdin", stem="stdin", size=None, stream=sys.stdin.buffer)
    path = Path(path)
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise InputError(f"{path} is a folder; name the files in it, such as {path / '*.jsonl'}")
        if not stat.S_ISREG(status.st_mode):
            return LineSource(path, name=path.name, stem=stem_of(path), size=None)
        if status.st_size == 0:
            raise InputError(f"{path} is empty; it must contain one rollout a line")
        with path.open("rb") as file:
            start = file.read(SNIFFED_BYTES)
    except FileNotFoundError as error:
        raise InputError(f"there is no file {path}; check its name") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if start.startswith(_PARQUET_MAGIC):
        return ParquetSource(path, size=status.st_size, columns=columns)
    if path.suffix.lower() == ".parquet" and not start.lstrip().startswith((b"{", b"\x1f\x8b")):
        raise InputError(f"{path} is not a readable Parquet file: it does not begin with PAR1; write it again")
    refuse_other_format(start, str(path))
    return LineSource(path, name=path.name, stem=stem_of(path), size=status.st_size)
