"""Output of a verb: one JSON document, or lines and tables for people.

Texts in a table are shortened to the width of the terminal. Ids are shortened in a terminal only, and there only if
nothing else can be; in a pipe or a file they are whole. JSON and CSV are never shortened.
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
"""Characters that a text column keeps when columns are shortened to make room for ids."""
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
    """Print a table: numbers right-aligned, the longest columns shortened until it fits the terminal.

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
    has_ids = [any(_ID.fullmatch(line[position]) for line in cells) for position in range(len(columns))]
    available = screen.width - GAP * (len(columns) - 1)
    widths = _column_widths(natural, has_ids, available, cut_ids=sys.stdout.isatty())
    screen.width = max(screen.width, sum(widths) + GAP * len(columns))
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False, header_style="bold")
    for position, name in enumerate(columns):
        numbers = bool(rows) and all(isinstance(row[position], (int, float, type(None))) for row in rows)
        table.add_column(
            Text(name),
            justify="right" if numbers else "left",
            width=widths[position],
            no_wrap=True,
            overflow="ellipsis",
        )
    for line in cells:
        table.add_row(*map(Text, line))
    screen.print(table)


def _column_widths(natural: Sequence[int], has_ids: Sequence[bool], available: int, *, cut_ids: bool) -> list[int]:
    """Widths of the columns: texts are shortened first, then ids if `cut_ids`; otherwise the table becomes wider."""
    ids = sum(width for width, is_id in zip(natural, has_ids, strict=True) if is_id)
    texts = [width for width, is_id in zip(natural, has_ids, strict=True) if not is_id]
    widest = _widest_column(texts, available - ids)
    if sum(texts) > available - ids and widest < MIN_TEXT_WIDTH:
        if cut_ids:
            return [min(width, _widest_column(natural, available)) for width in natural]
        widest = MIN_TEXT_WIDTH
    return [width if is_id else min(width, widest) for width, is_id in zip(natural, has_ids, strict=True)]


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
