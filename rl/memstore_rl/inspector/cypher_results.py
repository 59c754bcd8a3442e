"""The result of a Cypher query, read row by row within limits of rows, bytes and time, for a page or as a file."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, TypeVar

from memstore.errors import InputError, QueryTimeout, WriteRefused
from memstore_rl.inspector.cypher_parameters import parse_parameters
from memstore_rl.inspector.source import Source

FileKind = Literal["csv", "json"]
Row = tuple[Any, ...]
Item = TypeVar("Item")

TIMEOUT_S = 10.0
"""Seconds that a query may take, with the reading of its rows."""
PAGE_ROWS, FILE_ROWS = 200, 100_000
PAGE_BYTES, FILE_BYTES = 8 * 2**20, 32 * 2**20
_LATE = f"the query ran past its limit of {TIMEOUT_S:g} s; match less, or return less"
_SMALLER = "return fewer columns or rows, or run the query in a terminal: memstore cypher --format {}"


class Result(NamedTuple):
    """A query that runs; its rows are read while they are iterated over."""

    columns: list[str]
    rows: Iterator[Row]


def run(source: Source, text: str, parameters: str) -> Result:
    """Begin a query. Its rows end with QueryTimeout once its time is over.

    Raises:
        InputError: the query or its parameters are invalid, or two of its columns have one name.
        QueryTimeout: it takes too long.
    """
    deadline = time.monotonic() + TIMEOUT_S
    with _reading():
        result = source.cypher(text, parse_parameters(parameters), TIMEOUT_S)
    return Result(result.columns, until(deadline, _read(result.rows)))


@contextmanager
def _reading() -> Iterator[None]:
    """Say of a query that writes, or takes too long, what a person can do on the pages."""
    try:
        yield
    except WriteRefused as refused:
        raise InputError(f"{refused.reason}, and these pages only read; remove what does more than read") from refused
    except QueryTimeout as late:
        raise QueryTimeout(_LATE) from late


def _read(rows: Iterable[Row]) -> Iterator[Row]:
    """Rows of a server, which may refuse a query only when its first row is read."""
    with _reading():
        yield from rows


def until(deadline: float, items: Iterable[Item]) -> Iterator[Item]:
    """The items that are taken before a moment of `time.monotonic`.

    Raises:
        QueryTimeout: it has passed.
    """
    for item in items:
        if time.monotonic() > deadline:
            raise QueryTimeout(_LATE)
        yield item


def first_rows(rows: Iterable[Row], most_rows: int, most_bytes: int) -> tuple[list[Row], bool]:
    """The rows that a page shows, at least one if there is one, and whether there are more."""
    found: list[Row] = []
    size = 0
    for row in rows:
        size += sum(map(_size, row))
        if found and (len(found) == most_rows or size > most_bytes):
            return found, True
        found.append(row)
    return found, False


def file_of(result: Result, kind: FileKind, most_rows: int = FILE_ROWS, most_bytes: int = FILE_BYTES) -> bytes:
    """A result as a file. It is all of the result, or refused.

    Raises:
        InputError: the file would be longer than `most_bytes`, or have more than `most_rows` rows.
        QueryTimeout: reading the rows takes too long.
    """
    make = {"csv": csv_lines, "json": json_lines}[kind]
    too_long = InputError(f"this file would be longer than {most_bytes:,} bytes; {_SMALLER.format(kind)}")

    def rows() -> Iterator[Row]:
        for number, row in enumerate(result.rows):
            if number == most_rows:
                raise InputError(f"the result has more than {most_rows:,} rows; {_SMALLER.format(kind)}")
            if sum(map(_size, row)) > most_bytes:  # before it is copied
                raise too_long
            yield row

    parts, size = [], 0
    for line in make(result.columns, rows()):
        parts.append(line.encode())
        size += len(parts[-1])
        if size > most_bytes:
            raise too_long
    return b"".join(parts)


def csv_lines(columns: Sequence[str], rows: Iterable[Row]) -> Iterator[str]:
    """CSV; lists and objects are JSON. A text or name that a spreadsheet would run gets a quote before it."""
    yield _csv_line(columns)
    yield from map(_csv_line, rows)


def _csv_line(row: Sequence[Any]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(map(_csv_value, row))
    return out.getvalue()


def _csv_value(value: Any) -> Any:
    plain = jsonable(value)
    if isinstance(plain, (dict, list)):
        return json.dumps(plain, ensure_ascii=False)
    if isinstance(plain, str) and plain[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{plain}"
    return plain


def json_lines(columns: Sequence[str], rows: Iterable[Row]) -> Iterator[str]:
    """A JSON list of objects, one a line."""
    before = "["
    for row in rows:
        document = dict(zip(columns, map(jsonable, row), strict=True))
        yield before + json.dumps(document, ensure_ascii=False, allow_nan=False)
        before = ",\n"
    yield "[]\n" if before == "[" else "]\n"


def jsonable(value: Any) -> Any:
    """Plain JSON types, as `memstore cypher --json` prints them: times in ISO 8601, NaN and infinity as null."""
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    return value.isoformat() if isinstance(value, (dt.date, dt.time)) else str(value)


def _size(value: Any) -> int:
    """Characters of the texts of a value, and 8 for every other part."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return sum(len(str(key)) + _size(item) for key, item in value.items())
    return sum(map(_size, value)) if isinstance(value, (list, tuple)) else 8
