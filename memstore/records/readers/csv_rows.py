"""Read CSV and TSV with a header. Values are texts; an empty one is missing."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator

from memstore.records.readers.blocks import BrokenInputError
from memstore.records.record import Row

_LONE_RETURNS = r"the line has a carriage return outside of quotes; convert the file first: `tr '\r' '\n' < FILE > NEW`"
MAX_FIELD = 64 * 2**20
"""Longest accepted value, in characters."""


def csv_rows(blocks: Iterator[bytes], separator: str) -> Iterator[Row]:
    """The rows behind the header, numbered by the line on which they end."""
    csv.field_size_limit(MAX_FIELD)
    rows = csv.reader(_lines(blocks), delimiter=separator, strict=True)
    try:
        header = [name.strip() for name in next(rows, [])]
        if len(set(header)) < len(header):
            yield Row(1, None, "the header names a column twice; rename one of them")
            return
        for values in rows:
            if not any(values):
                continue
            if len(values) == len(header):
                yield Row(rows.line_num, {name: value or None for name, value in zip(header, values, strict=True)})
            else:
                yield Row(rows.line_num, None, f"the row has {len(values)} values for {len(header)} columns")
    except csv.Error as error:
        reason = _LONE_RETURNS if "new-line character" in str(error) else f"the row is not CSV: {error}"
        yield Row(rows.line_num, None, f"{reason}; reading ended here")
    except UnicodeDecodeError:
        yield Row(rows.line_num + 1, None, "the file is not UTF-8 from this row on")
    except BrokenInputError as error:
        yield Row(rows.line_num + 1, None, str(error))


def _lines(blocks: Iterator[bytes]) -> Iterator[str]:
    """The lines of a text with their ends. A line feed in quotes ends one too, and the parser joins them again."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    rest = ""
    for block in blocks:
        *lines, rest = (rest + decoder.decode(block)).split("\n")
        if len(rest) > MAX_FIELD:
            raise csv.Error("the line is too long")
        for line in lines:
            yield line + "\n"
    rest += decoder.decode(b"", final=True)
    if rest:
        yield rest
