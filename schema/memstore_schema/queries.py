"""Named queries: one file each in `queries/`, in the subset of Cypher that LadybugDB and Neo4j share.

A file begins with comments: the question that the query answers, then one line per parameter with its default as JSON
(`// $limit = 20`), and where it helps what to do if there are no rows (`// empty: ...`). The rest is the query. The
subset excludes list indices (LadybugDB counts from 1, Neo4j from 0), `type()`, pattern comprehensions and CALL
subqueries. A query ends with an ORDER BY without ties, so that every store returns the rows in the same order; this
excludes UNION, which cannot be ordered as a whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from memstore_schema.cypher_files import folder

_PARAMETER = re.compile(r"\$(\w+) = (.+)")
_EMPTY = "empty: "


@dataclass(frozen=True)
class NamedQuery:
    """A frequent question and the Cypher query that answers it."""

    name: str
    question: str
    text: str
    parameters: Mapping[str, Any]
    """Defaults of all parameters of the query."""
    empty: str | None = None
    """What to do if there are no rows."""


def named_queries() -> tuple[NamedQuery, ...]:
    """All named queries, in the order of their names."""
    found = [
        parse(file.name.removesuffix(".cypher"), file.read_text(encoding="utf-8"))
        for file in folder("queries").iterdir()
        if file.name.endswith(".cypher")
    ]
    return tuple(sorted(found, key=lambda query: query.name))


def parse(name: str, source: str) -> NamedQuery:
    """A named query from the text of its file.

    Raises:
        ValueError: the file does not begin with its question, or a parameter line is malformed.
    """
    lines = source.strip().splitlines()
    head = [line.removeprefix("//").strip() for line in lines if line.startswith("//")]
    if not head or not lines[0].startswith("//"):
        raise ValueError(f"the query {name} does not begin with a comment that holds its question; add one")
    parameters, empty = {}, None
    for line in head[1:]:
        if line.startswith(_EMPTY):
            empty = line.removeprefix(_EMPTY)
            continue
        found = _PARAMETER.fullmatch(line)
        if found is None:
            raise ValueError(f"in the query {name}, {line!r} is not a parameter with its default ($name = JSON)")
        parameters[found[1]] = json.loads(found[2])
    text = "\n".join(line for line in lines if not line.startswith("//"))
    return NamedQuery(name, head[0], text, parameters, empty)
