"""Read Parquet in batches, so that large row groups need not fit into memory.

A small file can hold very much: pages are compressed, and a dictionary repeats a long text for some bits a row. Files
that expand more than `MAX_RATIO`-fold are refused by their footer, or end with a reason where the footer does not tell.
The number of rows of a batch follows from the sizes of the dictionaries, so that a batch is bounded too.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from memstore.errors import InputError
from memstore.records.readers.source import name_of, stem_of
from memstore.records.readers.tables import (
    FREE_BYTES,
    MAX_RATIO,
    VALUE_BYTES,
    batch_rows,
    brief,
    check_columns,
    decoded_bytes,
)
from memstore.records.record import Row

_BATCH = 2_000
"""Most rows of a batch."""
_BATCH_BYTES = 128 * 2**20
"""Decoded bytes of a batch, if each row had a text as long as the whole dictionary of its column. Writers end a
dictionary at 1 MiB, so that a file with four columns of texts is read in batches of 32 rows or more."""
_FREE_ROWS = 100_000
"""Rows up to which a file may have more rows than bytes: a dictionary repeats a value for almost nothing."""
_PAGE_HEADER_BYTES = 32
_DICTIONARY_PAGE = 2
"""Value of `PageType` in parquet.thrift."""
_EXPANDS = (
    f"expands more than {MAX_RATIO}-fold, which rollouts do not; if the file is right, convert it to JSON lines: "
    "pandas.read_parquet(FILE).to_json('rollouts.jsonl', orient='records', lines=True)"
)


class ParquetSource:
    """The rows of a Parquet file; see `memstore.records.readers.RowSource`. Row numbers start at 1.

    Args:
        columns: sets of columns, of which the table must have one; none accepts any table.
        content: the content of the file if it does not lie on the disk, as in an archive.

    Raises:
        InputError: the file cannot be read, has no rows, or lacks the columns of a rollout.
    """

    def __init__(
        self, path: Path, *, size: int, columns: Sequence[Sequence[str]] = (), content: bytes | None = None
    ) -> None:
        self._content = content
        self.name = name_of(path)
        self.stem = stem_of(path)
        self.size: int | None = size
        self._path = path
        self._position = 0
        with self._open() as file:
            check_columns(path, file.schema_arrow.names, columns)
            metadata = file.metadata
        self._rows = metadata.num_rows
        if self._rows == 0:
            raise InputError(f"{path} is empty; it must contain one rollout a row")
        self._check_sizes(metadata)
        if self._rows > max(_FREE_ROWS, size):
            raise InputError(
                f"{path} has {self._rows:,} rows in {size:,} bytes, which cannot be rollouts; write it again without "
                "the repeated rows"
            )

    def position(self) -> int:
        """Bytes consumed so far, estimated from the rows."""
        return self._position

    def __iter__(self) -> Iterator[Row]:
        """The rows; see `RowSource`."""
        self._position = 0
        number = decoded = 0
        with self._open() as file:
            batches = file.iter_batches(batch_size=self._rows_of_a_batch(file.metadata))
            while True:
                try:
                    batch = next(batches, None)
                except (OSError, pa.ArrowException) as error:
                    yield Row(number + 1, None, f"the Parquet file is damaged from this row on ({brief(error)})")
                    return
                if batch is None:
                    break
                decoded += sum(map(decoded_bytes, batch.columns))
                if decoded > self._most_bytes():
                    yield Row(number + 1, None, f"reading ended here: the Parquet file {_EXPANDS}")
                    return
                for values in batch_rows(batch):
                    number += 1
                    yield values._replace(number=number)
                self._position = (self.size or 0) * number // self._rows

    def _most_bytes(self) -> int:
        return FREE_BYTES + MAX_RATIO * (self.size or 0)

    def _check_sizes(self, metadata: pq.FileMetaData) -> None:
        """Refuse a file whose footer gives too many bytes or values; lists may repeat a number for almost nothing."""
        decoded = 0
        for group in range(metadata.num_row_groups):
            columns = [metadata.row_group(group).column(column) for column in range(metadata.num_columns)]
            decoded += sum(max(column.total_uncompressed_size, VALUE_BYTES * column.num_values) for column in columns)
        if decoded > self._most_bytes():
            raise InputError(f"{self._path} {_EXPANDS}")

    def _rows_of_a_batch(self, metadata: pq.FileMetaData) -> int:
        """Rows that decode to `_BATCH_BYTES` at most."""
        longest: dict[str, float] = {}
        with self._path.open("rb") if self._content is None else io.BytesIO(self._content) as file:
            for group in map(metadata.row_group, range(metadata.num_row_groups)):
                for column in map(group.column, range(group.num_columns)):
                    if column.physical_type == "BYTE_ARRAY" and any("DICTIONARY" in how for how in column.encodings):
                        size = _dictionary_bytes(file, column) * max(1.0, column.num_values / max(1, group.num_rows))
                        longest[column.path_in_schema] = max(size, longest.get(column.path_in_schema, 0.0))
        return max(1, min(_BATCH, int(_BATCH_BYTES / max(1.0, sum(longest.values())))))

    def _open(self) -> pq.ParquetFile:
        try:
            return pq.ParquetFile(self._path if self._content is None else io.BytesIO(self._content))
        except (OSError, pa.ArrowException) as error:
            raise InputError(
                f"{self._path} is not a readable Parquet file: {brief(error)}; copy or write it again"
            ) from error


def _dictionary_bytes(file: BinaryIO, column: pq.ColumnChunkMetaData) -> int:
    """Size of a column's dictionary, read from the header of its page; else that of all pages of the column.

    The header is in Thrift's compact protocol: a field is a byte of type and distance, then a zigzag varint. The first
    two fields are the type of the page and its uncompressed size.
    """
    if not column.dictionary_page_offset:
        return int(column.total_uncompressed_size)
    file.seek(column.dictionary_page_offset)
    header = iter(file.read(_PAGE_HEADER_BYTES))
    try:
        kind, size = (_integer_field(header) for _ in range(2))
    except (StopIteration, ValueError, RuntimeError):
        return int(column.total_uncompressed_size)
    return size if kind == _DICTIONARY_PAGE and size >= 0 else int(column.total_uncompressed_size)


def _integer_field(header: Iterator[int]) -> int:
    if next(header) != 0x15:  # an i32 that follows the previous field
        raise ValueError("not the expected field")
    value = shift = 0
    while True:
        byte = next(header)
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1)
