"""Rows of CSV files of labels.

A row that has more or fewer fields than the header is refused: a field may be in the wrong column. A file whose end may
be cut off is refused where this would remove a label.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from memstore.errors import InputError
from memstore.labels.problems import Problems
from memstore.records.readers.csv_rows import MAX_FIELD

if TYPE_CHECKING:
    from _csv import Reader

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}
"""Separators and their names; the one that gives the header the most known columns counts."""
NO_REWARD = ("", "null", "none")
"""Words for no ground truth, in lower case."""
NEEDED = "it needs the columns id and reward, or query, answer and reward"
QUERY_KEYS = ("query_id", "query")
"""Keys of the query, the first that has a value counts; an export has both."""
ANSWER_KEYS = ("answer", "answer_id")
"""Keys of the answer."""
_COLUMNS = frozenset({"id", *QUERY_KEYS, *ANSWER_KEYS, "reward", "split"})


def csv_rows(path: Path, text: str) -> list[tuple[int, Mapping[str, str]]]:
    """The rows, each with the number of its last line.

    Raises:
        InputError: the header lacks a column, a row has other fields than the header, or the file is cut off.
    """
    try:
        return list(_checked_rows(path, text))
    except csv.Error as error:
        raise InputError(f"{path} is not CSV ({error}); quote fields that have separators or line ends") from error


def _checked_rows(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, str]]]:
    headers: dict[str, list[str]] = {
        delimiter: next(filter(any, _reader(text, delimiter)), []) for delimiter in DELIMITERS
    }
    delimiter = max(DELIMITERS, key=lambda one: len(_COLUMNS & set(headers[one])))
    reader = _reader(text, delimiter, strict=True)
    header: list[str] = next(filter(any, reader), [])
    if header:
        _check_header(header, f"{path}:{reader.line_num}: ")
    row, problems = list[str](), Problems()
    for row in filter(None, reader):
        if len(row) == len(header):
            yield reader.line_num, {name: value for name, value in zip(header, row, strict=True) if name}
            continue
        problems.add(
            InputError(
                f"{path}:{reader.line_num}: the row has {len(row)} fields and the header has {len(header)}; quote "
                f"fields that have {DELIMITERS[delimiter]}"
            )
        )
    problems.check()
    if not text.endswith(("\n", "\r")) and any(value.strip().lower() in NO_REWARD for value in row):
        raise InputError(
            f"{path}:{reader.line_num}: the last row has an empty field and no line end, so it may be cut off; "
            "complete it, or end the line"
        )


def _reader(text: str, delimiter: str, *, strict: bool = False) -> Reader:
    csv.field_size_limit(MAX_FIELD)
    return csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=strict)


def _check_header(header: list[str], where: str) -> None:
    names_answers = any(key in header for key in QUERY_KEYS) and any(key in header for key in ANSWER_KEYS)
    if "reward" not in header or not ("id" in header or names_answers):
        raise InputError(f"{where}the header has {', '.join(header)}; {NEEDED}")
    if twice := [name for name in header if name and header.count(name) > 1]:
        raise InputError(f"{where}the header has the column {twice[0]} twice; rename or remove one")
