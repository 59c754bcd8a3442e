"""HTML tables for notebooks, as `_repr_html_` methods return them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

CELL_CHARACTERS = 200
"""Longest text of a cell, in characters; longer ones end with an ellipsis."""


def html_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "", note: str = "") -> str:
    """An HTML table with an optional line of text above and below. All text is escaped.

    Fractions have three decimals; None and NaN are empty cells.

    Example:
        >>> html_table(["dataset", "queries"], [("gsm8k", 400)], note="and 3 more rows")
    """
    above = f"<p>{escape(title)}</p>" if title else ""
    below = f"<p>{escape(note)}</p>" if note else ""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{_cell(value)}</td>" for value in row) + "</tr>" for row in rows)
    return f"<div>{above}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{below}</div>"


def _cell(value: object) -> str:
    if value is None or value != value:  # NaN is the only value that differs from itself
        return ""
    text = f"{value:,}" if type(value) is int else f"{value:.3f}" if isinstance(value, float) else str(value)
    return escape(text if len(text) <= CELL_CHARACTERS else text[: CELL_CHARACTERS - 1] + "…")
