"""Output of a verb: one JSON document, or lines and tables for people.

A table fits the terminal: texts are shortened first, and ids and numbers only if that is not enough. In a pipe or a
file only texts over `SHORT_TEXT` characters are shortened. JSON and CSV are never shortened.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

WIDTH = 120
"""Characters of a table's line if stdout is not a terminal."""
GAP = 2
"""Characters between two columns of a table."""
MIN_TEXT_WIDTH = 8
"""Characters that a text column keeps in a terminal when it is shortened to make room for ids and numbers."""
SHORT_TEXT = 40
"""Characters of a text that is never shortened in a pipe or a file: names of datasets, policies and predictors."""
_ID = re.compile(r"[a-z]{1,3}-[0-9a-f]{12,}")
"""An id of the memory, such as `t-001363fd514c1cd41a41df07`."""
MAX_CELL_CHARS = 2000
"""Characters of a value that a table considers; no terminal shows more."""


def print_json(document: Any) -> None:
    """Print one document as UTF-8, or with escapes if stdout has another encoding; NaN becomes null."""
    utf8 = sys.stdout.encoding.lower().replace("-", "") == "utf8"
    text = json.dumps(jsonable(document), ensure_ascii=not utf8, indent=2, allow_nan=False)
    sys.stdout.write(text + "\n")


def jsonable(value: Any) -> Any:
    """Convert to JSON types: times to ISO 8601, NaN and infinity to null, bytes to hexadecimal."""
    if value is None or isinstance(value, (str, int, bool)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [jsonable(item) for item in value]
    if isinstance(value, (dt.date, dt.time)):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    return str(value)


def console() -> Console:
    """A console on stdout that does not interpret markup."""
    from rich.console import Console

    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else WIDTH
    return Console(width=width, markup=False, highlight=False, emoji=False)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, null: str = "") -> None:
    """Print a table: numbers right-aligned, the longest texts shortened.

    Args:
        null: text of a cell without a value.
    """
    from rich.box import SIMPLE_HEAD
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    rows = [list(row) for row in rows]
    cells = [[null if value is None else cell(value) for value in row] for row in rows]
    screen = console()
    natural = [max(map(cell_len, column)) for column in zip(columns, *cells, strict=True)]
    numeric = [_is_numeric([row[position] for row in rows]) for position in range(len(columns))]
    available = screen.width - GAP * (len(columns) - 1)
    if sys.stdout.isatty():
        with_ids = [any(_ID.fullmatch(line[position]) for line in cells) for position in range(len(columns))]
        whole = [number or ids for number, ids in zip(numeric, with_ids, strict=True)]
        widths = _widths_in_terminal(natural, whole, available)
    else:
        widths = _widths_in_pipe(natural, [cell_len(name) for name in columns], available)
    screen.width = max(screen.width, sum(widths) + GAP * len(columns))
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False, header_style="bold")
    for position, name in enumerate(columns):
        table.add_column(
            Text(name),
            justify="right" if numeric[position] else "left",
            width=widths[position],
            no_wrap=True,
            overflow="ellipsis",
        )
    for line in cells:
        table.add_row(*map(Text, line))
    screen.print(table)


def _is_numeric(values: Sequence[Any]) -> bool:
    return bool(values) and all(isinstance(value, (int, float, type(None))) for value in values)


def _widths_in_terminal(natural: Sequence[int], whole: Sequence[bool], available: int) -> list[int]:
    """Widths of the columns: texts are shortened, and all columns if those that are `whole` leave no room for texts."""
    texts = [width for width, keep in zip(natural, whole, strict=True) if not keep]
    room = available - (sum(natural) - sum(texts))
    widest = _widest_column(texts, room)
    if sum(texts) > room and widest < MIN_TEXT_WIDTH:
        return [min(width, _widest_column(natural, available)) for width in natural]
    return [width if keep else min(width, widest) for width, keep in zip(natural, whole, strict=True)]


def _widths_in_pipe(natural: Sequence[int], headers: Sequence[int], available: int) -> list[int]:
    """Widths of the columns: only texts over `SHORT_TEXT` are shortened, at most to that and to the header."""
    long = [width for width in natural if width > SHORT_TEXT]
    widest = max(_widest_column(long, available - (sum(natural) - sum(long))), SHORT_TEXT)
    return [min(width, max(widest, header)) for width, header in zip(natural, headers, strict=True)]


def _widest_column(natural: Sequence[int], available: int) -> int:
    """The maximum column width with which all columns fit; at least 1."""
    widest = max(natural, default=1)
    while widest > 1 and sum(min(width, widest) for width in natural) > available:
        widest -= 1
    return max(widest, 1)


def cell(value: Any) -> str:
    """A value as one line of text."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, str):
        text = value
    else:
        plain = jsonable(value)
        text = plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)
    return " ".join(text[:MAX_CELL_CHARS].split())


def print_facts(facts: Mapping[str, Any]) -> None:
    """Print one name and value a line, values aligned."""
    width = max(map(len, facts), default=0)
    for name, value in facts.items():
        print(f"{name:<{width}}  {value}")


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """`1 query`, `1,319 queries`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


METRIC_NAMES = {
    "auc": "auc",
    "accuracy": "acc",
    "pair_accuracy": "pair",
    "advantage_hard": "adv",
    "advantage_soft": "soft",
    "ece": "ece",
    "brier": "brier",
    "aurc": "aurc",
}
"""Metrics of an evaluation row and their column titles."""


def metric_cells(row: object) -> list[float]:
    """The metrics of an evaluation row, in the order of `METRIC_NAMES`, rounded to three decimals."""
    return [round(getattr(row, name), 3) for name in METRIC_NAMES]
