"""What a verb prints: one JSON document, or lines and tables for a person.

Tables are cut to the terminal, a value to its first line's worth; JSON and CSV never are.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

WIDTH = 120
"""Columns of a table where there is no terminal to ask."""
GAP = 2
"""Columns of the terminal between two columns of a table."""
LONGEST = 2000
"""Characters of a value that a table looks at; the rest would be cut off by any terminal."""


def print_json(document: Any) -> None:
    """Print one document: UTF-8 where stdout speaks it, escapes where not; NaN is null."""
    utf8 = sys.stdout.encoding.lower().replace("-", "") == "utf8"
    text = json.dumps(jsonable(document), ensure_ascii=not utf8, indent=2, allow_nan=False)
    sys.stdout.write(text + "\n")


def jsonable(value: Any) -> Any:
    """The value in JSON's own types: times as ISO 8601, figures that do not exist as null, bytes as hexadecimal."""
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
    """A console on stdout that prints text as it is."""
    from rich.console import Console

    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else WIDTH
    return Console(width=width, markup=False, highlight=False, emoji=False)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table: numbers to the right, the longest columns shortened until it fits the terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    rows = [list(row) for row in rows]
    cells = [[cell(value) for value in row] for row in rows]
    screen = console()
    natural = [max(map(cell_len, column)) for column in zip(columns, *cells, strict=True)]
    widest = _widest_column(natural, screen.width - GAP * (len(columns) - 1))
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False, header_style="bold")
    for position, name in enumerate(columns):
        numbers = bool(rows) and all(isinstance(row[position], (int, float, type(None))) for row in rows)
        table.add_column(
            Text(name),
            justify="right" if numbers else "left",
            width=min(natural[position], widest),
            no_wrap=True,
            overflow="ellipsis",
        )
    for line in cells:
        table.add_row(*map(Text, line))
    screen.print(table)


def _widest_column(natural: Sequence[int], room: int) -> int:
    """The width that no column may pass so that all of them fit; at least 1."""
    widest = max(natural, default=1)
    while widest > 1 and sum(min(width, widest) for width in natural) > room:
        widest -= 1
    return max(widest, 1)


def cell(value: Any) -> str:
    """A value as one line."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, str):
        text = value
    else:
        plain = jsonable(value)
        text = plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)
    return " ".join(text[:LONGEST].split())


def print_facts(facts: Mapping[str, Any]) -> None:
    """Print names and values under each other, values in one column."""
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
"""Metrics of `memstore_gnn.metrics` and how a table calls them."""


def metric_cells(row: object) -> list[float]:
    """The metrics of an evaluation's row, in the order of `METRIC_NAMES`, as short as a table wants them."""
    return [round(getattr(row, name), 3) for name in METRIC_NAMES]
