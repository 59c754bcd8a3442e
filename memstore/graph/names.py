"""Names that a user's Cypher query uses but the graph does not have, and the closest names of the schema."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection

from memstore_schema.columns import EDGE_COLUMNS, NODE_COLUMNS, EdgeType, NodeLabel

_USED = re.compile(r"[:|&.]\s*`?([A-Za-z_]\w*)")
_KNOWN = {str(name) for name in (*NodeLabel, *EdgeType)} | {
    column for columns in (*NODE_COLUMNS.values(), *EDGE_COLUMNS.values()) for column in columns
}


def suspicious_names(query: str) -> set[str]:
    """Names behind a colon, bar or dot that are not in the schema; they may also be values of maps or user labels."""
    return set(_USED.findall(query)) - _KNOWN


def no_label(name: str) -> str:
    """The message for a label or relationship type that the graph does not have."""
    labels, types = [str(label) for label in NodeLabel], [str(kind) for kind in EdgeType]
    return (
        f"there is no label or relationship type {name}{_did_you_mean(name, [*labels, *types])}; "
        f"labels: {', '.join(labels)}; relationship types: {', '.join(types)}"
    )


def no_property(name: str, query: str, variable: str | None = None) -> str:
    """The message for a property that a node or relationship does not have."""
    columns: dict[str, list[str]] = {str(label): list(found) for label, found in NODE_COLUMNS.items()}
    columns |= {str(kind): list(found) for kind, found in EDGE_COLUMNS.items()}
    if variable is None and (used := re.search(rf"(\w+)\s*\.\s*`?{re.escape(name)}\b", query)):
        variable = used[1]
    pattern = variable and re.search(rf"[(\[]\s*{re.escape(variable)}\s*:\s*`?(\w+)", query)
    owner = pattern[1] if pattern and pattern[1] in columns else None
    known = columns[owner] if owner else sorted({column for found in columns.values() for column in found})
    return (
        f"{owner or variable or 'no node'} has no property {name}{_did_you_mean(name, known)}; "
        f"properties{'' if owner else ' of the graph'}: {', '.join(known) or 'none'}"
    )


def _did_you_mean(name: str, known: Collection[str]) -> str:
    lower = {entry.lower(): entry for entry in known}
    close = difflib.get_close_matches(name.lower(), lower, 1, 0.6)
    return f", did you mean {lower[close[0]]}?" if close else ""
