"""The result of a Cypher query: columns and streamed rows."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from memstore.errors import InputError
from memstore.html_table import html_table

if TYPE_CHECKING:
    import pandas as pd

SHOWN_ROWS = 20
"""Rows of a Cypher result that a notebook shows."""
COUNTED_ROWS = 1_000
"""Rows of a Cypher result that a notebook reads to count the remaining ones."""


def check_names(columns: Sequence[str]) -> None:
    """Refuse a result in which two columns have one name: as an object or a data frame, a row would lose a value.

    Raises:
        InputError: there are such columns.
    """
    name, count = Counter(columns).most_common(1)[0] if columns else ("", 0)
    if count > 1:
        raise InputError(f"{count} columns of the result are named {name[:40]}; give each its own name with AS")


class CypherResult:
    """Columns and rows of a Cypher query.

    The rows are streamed: iterate over `rows` once, while the memory is open. `to_pandas` reads all remaining rows.
    In a notebook the first rows are shown; showing them does not consume them.

    Args:
        columns: names of the columns.
        rows: one tuple per row, in the order of `columns`.
    """

    columns: list[str]
    rows: Iterator[tuple[Any, ...]]

    def __init__(self, columns: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> None:
        self.columns = list(columns)
        self.rows = self._stream = _RowStream(rows)

    def to_pandas(self) -> pd.DataFrame:
        """The remaining rows as a pandas data frame."""
        import pandas as pd

        return pd.DataFrame.from_records(list(self.rows), columns=self.columns)

    def __repr__(self) -> str:
        # The rows are left out because reading them would consume the stream.
        return f"CypherResult(columns={self.columns})"

    def _repr_html_(self) -> str:
        rows = self._stream.peek(COUNTED_ROWS + 1)
        more = len(rows) - SHOWN_ROWS
        if len(rows) > COUNTED_ROWS:
            note = f"and more than {more - 1:,} more rows"
        else:
            note = f"and {more:,} more rows" if more > 0 else f"{len(rows)} {'row' if len(rows) == 1 else 'rows'}"
        return html_table(self.columns, rows[:SHOWN_ROWS], note=note)


class _RowStream(Iterator[tuple[Any, ...]]):
    """An iterator with look-ahead."""

    def __init__(self, rows: Iterable[tuple[Any, ...]]) -> None:
        self._rows = iter(rows)
        self._buffer: deque[tuple[Any, ...]] = deque()

    def __next__(self) -> tuple[Any, ...]:
        return self._buffer.popleft() if self._buffer else next(self._rows)

    def peek(self, count: int) -> list[tuple[Any, ...]]:
        """The next rows, at most `count`."""
        self._buffer.extend(islice(self._rows, max(0, count - len(self._buffer))))
        return list(islice(self._buffer, count))
