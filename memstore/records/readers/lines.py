"""Read a text, from a file, compressed with gzip or zstd, or from standard input.

The text is JSON lines, one object a line, or other JSON (`json_values`), YAML (`yaml_items`) or a table (`csv_rows`).
In JSON lines, only a line feed ends a line. Blank lines are skipped. A line that cannot be read becomes a row with a
reason, and reading continues. Memory is bounded by the longest accepted line, and the number of rows by the bytes of
the file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from memstore.errors import InputError
from memstore.records.readers.archives import DAMAGED
from memstore.records.readers.blocks import BrokenInputError, read_blocks
from memstore.records.readers.csv_rows import csv_rows
from memstore.records.readers.json_values import KINDS, integer_or_text, json_rows
from memstore.records.readers.other_formats import (
    SNIFFED_BYTES,
    refuse_other_format,
    refuse_packed_format,
    text_format,
)
from memstore.records.record import Row

MAX_LINE = 64 * 1024 * 1024
"""Longest accepted line, in bytes. Longer lines are rejected without being kept in memory."""
FREE_ROWS = 100_000
"""Rows up to which `ROW_BYTES` is not checked."""
ROW_BYTES = 4
"""Fewest bytes of the file for each row; a gzip of tiny objects takes 0.01, and the shortest rollouts take 20."""
_RAW = 10_000
"""Characters of a rejected line that are kept."""
_BOM = b"\xef\xbb\xbf"


class LineSource:
    """The rows of a text; see `memstore.records.readers.RowSource`.

    Args:
        path: the file, or a function that opens it; None reads `stream`, which is possible only once.
    """

    def __init__(
        self,
        path: Path | Callable[[], BinaryIO] | None,
        *,
        name: str,
        stem: str,
        size: int | None,
        stream: BinaryIO | None = None,
    ) -> None:
        self.name = name
        self.stem = stem
        self.size = size
        self._path = path
        self._stream = stream
        self._position = 0

    def position(self) -> int:
        """Bytes of the file consumed so far."""
        return self._position

    def __iter__(self) -> Iterator[Row]:
        """The rows; see `RowSource`."""
        self._position = 0
        count = 0
        try:
            with self._open() as file:
                for row in _rows_of_text(read_blocks(file, self._consumed), self.name):
                    count += 1
                    if count > FREE_ROWS + self._position // ROW_BYTES:
                        yield Row(row.number, None, _too_many_rows(count, self._position))
                        return
                    yield row
        except OSError as error:
            raise InputError(f"reading {self.name} failed: {error.strerror or error}") from error
        except DAMAGED as error:
            raise InputError(f"{self.name} is damaged ({error}); copy or write the archive again") from error
        if count == 0:
            raise InputError(f"{self.name} is empty; it must contain one rollout a line")

    def _open(self) -> AbstractContextManager[BinaryIO]:
        if self._path is not None:
            return self._path.open("rb") if isinstance(self._path, Path) else self._path()
        stream, self._stream = self._stream, None
        if stream is None:
            raise InputError(f"{self.name} was already read and can be read only once")
        return nullcontext(stream)

    def _consumed(self, count: int) -> None:
        self._position += count


def _too_many_rows(count: int, size: int) -> str:
    return f"reading ended here: {count:,} rows in {size:,} bytes cannot be rollouts"


class _Line(NamedTuple):
    """A line as bytes, with the reason if it cannot be read."""

    data: bytes
    reason: str | None = None
    blank_before: int = 0
    """Blank lines before this one that were skipped."""


def _rows_of_text(blocks: Iterator[bytes], name: str) -> Iterator[Row]:
    """The rows of a text; refuses another format in a gzip, a pipe or standard input (see `refuse_other_format`)."""
    try:
        first = next(blocks, b"")
    except BrokenInputError as error:
        yield Row(1, None, str(error))
        return
    refuse_packed_format(first, name)
    refuse_other_format(first[:SNIFFED_BYTES], name)
    kind = text_format(first[:SNIFFED_BYTES], name)
    blocks = chain([first], blocks)
    if kind == "lines":
        yield from _rows(blocks)
    elif kind == "json":
        yield from json_rows(blocks)
    elif kind == "yaml":
        from memstore.records.readers.yaml_items import yaml_rows

        yield from yaml_rows(blocks)
    else:
        yield from csv_rows(blocks, kind)


def _rows(blocks: Iterator[bytes]) -> Iterator[Row]:
    number = 0
    for line in _lines(blocks):
        number += line.blank_before + 1
        data = line.data.removeprefix(_BOM) if number == 1 else line.data
        if line.reason is not None:
            yield Row(number, None, line.reason, _raw(data))
        elif data and not data.isspace():
            yield _parsed(number, data)


def _lines(blocks: Iterator[bytes]) -> Iterator[_Line]:
    """Split an input into lines. If it is truncated, the last line has a reason.

    A block of blank lines is skipped as a whole: a gzip of 200 kB may hold 2 * 10^8 of them.
    """
    parts: list[bytes] = []
    length = 0
    blank = 0
    broken: str | None = None
    try:
        for block in blocks:
            if not length and block.isspace():
                blank += block.count(b"\n")
                continue
            *whole, rest = block.split(b"\n")
            if whole:
                yield _line([*parts, whole[0]], length + len(whole[0]))._replace(blank_before=blank)
                blank = 0
                for data in whole[1:]:
                    yield _Line(data)
                parts, length = [], 0
            length += len(rest)
            if length <= MAX_LINE or not parts:
                parts.append(rest[: MAX_LINE + 1])
    except BrokenInputError as error:
        broken = str(error)
    last = _line(parts, length)._replace(blank_before=blank)
    if broken is None:
        if length:
            yield last
        return
    if last.reason is None and isinstance(_json_value(last.data), dict):
        # A truncated object is not valid JSON, so this line is complete.
        yield last
        last = _Line(b"")
    yield last._replace(reason=broken)


def _line(parts: list[bytes], length: int) -> _Line:
    if length > MAX_LINE:
        return _Line(b"".join(parts)[:_RAW], f"the line is longer than {MAX_LINE // 2**20} MB")
    return _Line(b"".join(parts))


def _parsed(number: int, data: bytes) -> Row:
    value = _json_value(data)
    if isinstance(value, dict):
        return Row(number, value)
    reason = value.reason if isinstance(value, _Unreadable) else f"the line is {KINDS.get(type(value), 'null')}"
    if not isinstance(value, _Unreadable):
        reason += ", not an object"
    return Row(number, None, reason, _raw(data))


class _Unreadable(NamedTuple):
    reason: str


def _json_value(data: bytes) -> Any:
    """The JSON value of a line, or the reason why it cannot be parsed."""
    try:
        return _DECODER.decode(data.decode())
    except UnicodeDecodeError as error:
        return _Unreadable(f"the line is not UTF-8 (byte {error.start + 1})")
    except json.JSONDecodeError as error:
        return _Unreadable(f"the line is not JSON: {error.msg} at character {error.pos + 1}")
    except RecursionError:
        return _Unreadable("the line is nested too deeply")


_DECODER = json.JSONDecoder(parse_int=integer_or_text)


def _raw(data: bytes) -> str:
    return data[: 4 * _RAW].decode("utf-8", "replace")[:_RAW]
