"""What readers of tables share: the check of the columns, the limits of expansion, and rows of a batch."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from memstore.errors import InputError
from memstore.records.record import Row

MAX_RATIO = 300
"""Highest accepted ratio of decoded bytes to bytes of the file; 64 short answers to a long prompt reach 230."""
FREE_BYTES = 64 * 2**20
"""Decoded bytes up to which the ratio is not checked."""
VALUE_BYTES = 8
"""Decoded bytes of a number, and of the bookkeeping of a text."""
_NAMED_COLUMNS = 20
"""Columns that an error message lists."""
_NAMED_SETS = 8
"""Sets of columns that an error message lists."""


def check_columns(path: Path, present: Collection[str], columns: Sequence[Sequence[str]]) -> None:
    """Check that a table has all columns of one of these sets; without any sets, every table passes.

    Raises:
        InputError: it has not.
    """
    if columns and not any(set(present).issuperset(required) for required in columns):
        names = ", ".join(sorted(present)[:_NAMED_COLUMNS]) or "none"
        tools = ", or those of a tool that docs/ingest.md lists" if len(columns) > _NAMED_SETS else ""
        raise InputError(
            f"{path} lacks required columns: it needs {_alternatives(columns[:_NAMED_SETS])}{tools}, but has {names}"
        )


def decoded_bytes(array: pa.Array) -> int:
    """Decoded bytes of the values; a repeated text counts as often as it stands there."""
    if pa.types.is_dictionary(array.type):
        lengths = pc.binary_length(array.dictionary).take(array.indices)
        return (pc.sum(lengths).as_py() or 0) + VALUE_BYTES * len(array)
    return int(array.nbytes)


def batch_rows(batch: pa.RecordBatch) -> Iterator[Row]:
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
        return Row(0, None, f"the row cannot be read: {brief(error)}")


def brief(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200]


def _alternatives(columns: Sequence[Sequence[str]]) -> str:
    """Describe sets of columns: `query with answer or response, or input with output`."""
    partners: dict[str, list[str]] = {}
    for first, *others in columns:
        partners.setdefault(first, []).extend(others)
    described = [first + (f" with {' or '.join(others)}" if others else "") for first, others in partners.items()]
    return ", or ".join(described)
