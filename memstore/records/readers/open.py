"""Choose the reader of a path by the first bytes of the file, whatever its name."""

from __future__ import annotations

import stat
import sys
from collections.abc import Sequence
from pathlib import Path

from memstore.errors import InputError
from memstore.records.readers.archives import ZIP_MAGIC, Archive, archive_of
from memstore.records.readers.arrow import FILE_MAGIC, STREAM_MAGIC, ArrowSource
from memstore.records.readers.eval_log import EvalSource
from memstore.records.readers.lines import LineSource
from memstore.records.readers.other_formats import SNIFFED_BYTES, refuse_other_format
from memstore.records.readers.parquet import ParquetSource
from memstore.records.readers.source import RowSource, name_of, stem_of

_PARQUET_MAGIC = b"PAR1"
_ARROW_MAGICS = (FILE_MAGIC, STREAM_MAGIC)
_MAX_TABLE = 256 * 2**20
"""Largest table in an archive, in bytes; it is held in memory."""


def open_source(path: str | Path, columns: Sequence[Sequence[str]] = ()) -> RowSource:
    """Open a file of rollouts, or standard input if `path` is "-".

    Reads JSON lines, other JSON, CSV and TSV, each also compressed with gzip or zstd, Parquet, Arrow, logs of Inspect,
    and `ARCHIVE/MEMBER` in a zip archive. Standard input must contain a text.

    Args:
        columns: sets of columns; a table must have all columns of one of them. None accepts any table.

    Raises:
        InputError: the path does not exist, is a folder, is empty or cannot be read, or it is a table without the
            required columns.
    """
    if str(path) == "-":
        return LineSource(None, name="stdin", stem="stdin", size=None, stream=sys.stdin.buffer)
    path = Path(path)
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise InputError(f"{path} is a folder; name the files in it, such as {path / '*.jsonl'}")
        if not stat.S_ISREG(status.st_mode):
            return LineSource(path, name=name_of(path), stem=stem_of(path), size=None)
        if status.st_size == 0:
            raise InputError(f"{path} is empty; it must contain one rollout a line")
        with path.open("rb") as file:
            start = file.read(SNIFFED_BYTES)
    except (FileNotFoundError, NotADirectoryError) as error:
        if (archive := archive_of(path)) is not None:
            return _open_member(Archive(archive), path, columns)
        raise InputError(f"there is no file {path}; check its name") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if start.startswith(_PARQUET_MAGIC):
        return ParquetSource(path, size=status.st_size, columns=columns)
    if start.startswith(_ARROW_MAGICS):
        return ArrowSource(path, size=status.st_size, columns=columns)
    if start.startswith(ZIP_MAGIC):
        if Archive(path).is_eval_log:
            return EvalSource(path, size=status.st_size)
        raise InputError(f"{path} is a zip archive; name a file in it: {', '.join(Archive(path).names[:5]) or 'none'}")
    if path.suffix.lower() == ".parquet" and not start.lstrip().startswith((b"{", b"\x1f\x8b")):
        raise InputError(f"{path} is not a readable Parquet file: it does not begin with PAR1; write it again")
    refuse_other_format(start, str(path))
    return LineSource(path, name=name_of(path), stem=stem_of(path), size=status.st_size)


def _open_member(archive: Archive, path: Path, columns: Sequence[Sequence[str]]) -> RowSource:
    """Open a file in an archive. A table is read into memory, a text is not."""
    name = path.relative_to(archive.path).as_posix()
    size = archive.size(name)
    start = archive.read(name, SNIFFED_BYTES)
    shown = f"{name_of(archive.path)}/{name}"
    if size == 0:
        raise InputError(f"{path} is empty; it must contain one rollout a line")
    if start.startswith(ZIP_MAGIC):
        raise InputError(f"{path} is an archive in an archive; unpack the outer one first")
    if start.startswith((_PARQUET_MAGIC, *_ARROW_MAGICS)):
        if size > _MAX_TABLE:
            raise InputError(f"{path} is a table of over {_MAX_TABLE // 2**20} MB; unpack the archive first")
        reader = ParquetSource if start.startswith(_PARQUET_MAGIC) else ArrowSource
        return reader(path, size=size, columns=columns, content=archive.read(name))
    refuse_other_format(start, shown)
    return LineSource(lambda: archive.open(name), name=shown, stem=stem_of(path), size=size)
