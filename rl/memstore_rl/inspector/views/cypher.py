"""A Cypher query that reads, with its result as a table, or as a drawing of the nodes that it names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from memstore.errors import InputError, StoreError
from memstore_rl.inspector.addresses import SHOWN
from memstore_rl.inspector.cypher_results import PAGE_BYTES, PAGE_ROWS, first_rows, run
from memstore_rl.inspector.drawing import Drawing, draw_nodes
from memstore_rl.inspector.source import Source
from memstore_schema.columns import EDGE_COLUMNS, EDGE_ENDS, NODE_COLUMNS
from memstore_schema.queries import NamedQuery, named_queries

CELL = 300
"""Characters of a cell."""
_ID = re.compile(r"\b[qtaprdm]-[0-9a-f]{6,}\b")


@dataclass(frozen=True)
class Cell:
    """A value of a table; `page` is the node's page if it is an id."""

    text: str
    null: bool
    number: bool
    page: str | None


@dataclass(frozen=True)
class CypherPage:
    """A query and its result."""

    text: str
    parameters: str
    """JSON, as it was given."""
    named: NamedQuery | None
    queries: tuple[NamedQuery, ...]
    nodes: Mapping[str, tuple[str, ...]]
    """Properties by label."""
    edges: Mapping[str, str]
    """Ends and properties by type."""
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[Cell, ...], ...] = ()
    ran: bool = False
    more: bool = False
    """Whether the result has rows that are not shown."""
    drawing: Drawing | None = None
    failure: str | None = None
    most_rows: int = 0
    most_bytes: int = 0
    """What a page shows at most."""


@dataclass(frozen=True)
class Asked:
    """What a person asks to run."""

    text: str = ""
    parameters: str = ""
    named: str = ""
    draw: bool = False
    run: bool = True


def cypher_page(source: Source, asked: Asked) -> CypherPage:
    """Run what was asked, and show the named queries and the schema beside it. A query that fails is shown as well.

    Raises:
        InputError: there is no named query of this name.
    """
    queries = named_queries()
    named = next((query for query in queries if query.name == asked.named), None)
    if asked.named and named is None:
        raise InputError(f"there is no named query {asked.named[:SHOWN]!r}; choose one on the Cypher page")
    text = asked.text or (named.text if named else "")
    defaults = json.dumps(dict(named.parameters), ensure_ascii=False) if named and named.parameters else ""
    shown = CypherPage(
        text=text,
        parameters=asked.parameters or defaults,
        named=named,
        queries=queries,
        nodes={str(label): tuple(columns) for label, columns in NODE_COLUMNS.items()},
        edges={str(edge): _ends(edge) for edge in EDGE_COLUMNS},
        most_rows=PAGE_ROWS,
        most_bytes=PAGE_BYTES,
    )
    if not text.strip() or not asked.run:
        return shown
    try:
        columns, stream = run(source, shown.text, shown.parameters)
        rows, more = first_rows(stream, shown.most_rows, shown.most_bytes)
        drawing = draw_nodes(source, ids_in(rows)) if asked.draw else None
    except (InputError, StoreError) as error:
        return replace(shown, failure=str(error), ran=True)
    cells = tuple(tuple(_cell(value) for value in row) for row in rows)
    return replace(shown, columns=tuple(columns), rows=cells, ran=True, more=more, drawing=drawing)


def ids_in(rows: Iterable[Sequence[Any]]) -> list[str]:
    """Ids of nodes anywhere in a result, in their order."""
    found: dict[str, None] = {}
    for row in rows:
        for value in row:
            text = value if isinstance(value, str) else json.dumps(value, default=str)
            found |= dict.fromkeys(_ID.findall(text))
    return list(found)


def _cell(value: Any) -> Cell:
    if value is None:
        return Cell("NULL", True, False, None)
    if isinstance(value, str):
        pages = {"q-": "query", "t-": "rollout", "p-": "policy", "a-": "answer"}
        page = f"{pages[value[:2]]}/{value}" if _ID.fullmatch(value) and value[:2] in pages else None
        return Cell(_short(value), False, False, page)
    if isinstance(value, bool):
        return Cell(str(value).lower(), False, False, None)
    if isinstance(value, (int, float)):
        return Cell(f"{value:,}" if isinstance(value, int) else f"{value:.6g}", False, True, None)
    return Cell(_short(json.dumps(value, ensure_ascii=False, default=str)), False, False, None)


def _short(text: str) -> str:
    return text if len(text) <= CELL else text[: CELL - 1] + "…"


def _ends(edge: Any) -> str:
    ends = ", ".join(f"{source} → {target}" for source, target in EDGE_ENDS[edge])
    columns = ", ".join(EDGE_COLUMNS[edge])
    return f"{ends} ({columns})" if columns else ends
