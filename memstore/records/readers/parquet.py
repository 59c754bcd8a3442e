"""Read Parquet in batches, so that large row groups need not fit into memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from memstore.errors import InputError
from memstore.records.adapters import REQUIRED_COLUMNS
from memstore.records.readers.source import stem_of
from memstore.records.record import Row

_BATCH = 2_000
"""Rows of a batch."""
_FREE_ROWS = 100_000
"""Rows up to which a file may have more rows than bytes: a dictionary repeats a value for almost nothing."""
_NAMED_COLUMNS = 20
"""Columns that an error message lists."""


class ParquetSource:
    """The rows of a Parquet file; see `memstore.records.readers.RowSource`. Row numbers start at 1.

    Raises:
        InputError: the file cannot be read, has no rows, or lacks the columns of a rollout.
    """

    def __init__(self, path: Path, *, size: int, columns: Sequence[Sequence[str]] = REQUIRED_COLUMNS) -> None:
        self.name = path.name
        self.stem = stem_of(path)
        self.size: int | None = size
        self._path = path
        self._position = 0
        with self._open() as file:
            present = set(file.schema_arrow.names)
            if not any(present.issuperset(required) for required in columns):
                names = ", ".join(sorted(present)[:_NAMED_COLUMNS]) or "none"
                raise InputError(f"{path} lacks required columns: it needs {_alternatives(columns)}, but has {names}")
            self._rows = file.metadata.num_rows
        if self._rows == 0:
            raise InputError(f"{path} is empty; it must contain one rollout a row")
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
        number = 0
        with self._open() as file:
            batches = file.iter_batches(batch_size=_BATCH)
            while True:
                try:
                    batch = next(batches, None)
                except (OSError, pa.ArrowException) as error:
                    yield Row(number + 1, None, f"the Parquet file is damaged from this row on ({_brief(error)})")
                    return
                if batch is None:
                    break
                for values in _values(batch):
                    number += 1
                    yield values._replace(number=number)
                self._position = (self.size or 0) * number // self._rows

    def _open(self) -> pq.ParquetFile:
        try:
            return pq.ParquetFile(self._path)
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"{self._path} is not a readable Parquet file: {_brief(error)}") from error


def _alternatives(columns: Sequence[Sequence[str]]) -> str:
    """Describe sets of columns: `query with answer or response, or input with output`."""
    partners: dict[str, list[str]] = {}
    for first, *others in columns:
        partners.setdefault(first, []).extend(others)
    described = [first + (f" with {' or '.join(others)}" if others else "") for first, others in partners.items()]
    return ", or ".join(described)


def _values(batch: pa.RecordBatch) -> Iterator[Row]:
    """The rows of a batch. If the batch cannot be converted, its rows are converted one by one."""
    try:
        rows: list[dict[str, Any]] = batch.to_pylist()
    except (ValueError, OverflowError, pa.ArrowException):
        for position in range(batch.num_rows):
            yield _value(batch.slice(position, 1))
        return
    for values in rows:
        yield Row(0, values)


def _value(row: pa.RecordBatch) -> Row:
    try:
        return Row(0, row.to_pylist()[0])
    except (ValueError, OverflowError, pa.ArrowException) as error:
        return Row(0, None, f"the row cannot be read: {_brief(error)}")


def _brief(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200]
