"""Named queries: a file each in `queries/`, in the subset of Cypher that LadybugDB and Neo4j both speak.

A file begins with comments: the question it answers, then a line for each parameter with its default as JSON
(`// $limit = 20`); the rest is the text. A list index is not in the subset (one counts from 1, the other from 0),
nor is `type()`, a pattern comprehension or a subquery in CALL. A text ends with an ORDER BY that leaves no two rows of
equal rank, so that it answers alike on every store; a UNION could not be ordered as a whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from memstore_schema.cypher_files import folder

_PARAMETER = re.compile(r"\$(\w+) = (.+)")


@dataclass(frozen=True)
class NamedQuery:
    """A question that is often asked, and the Cypher that answers it."""

    name: str
    question: str
    text: str
    parameters: Mapping[str, Any]
    """Every parameter of the text with its default."""


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
        ValueError: the file does not begin with its question, or a parameter's line cannot be read.
    """
    lines = source.strip().splitlines()
    head = [line.removeprefix("//").strip() for line in lines if line.startswith("//")]
    if not head or not lines[0].startswith("//"):
        raise ValueError(f"the query {name} does not begin with the question it answers; write it as a comment")
    parameters = {}
    for line in head[1:]:
        found = _PARAMETER.fullmatch(line)
        if found is None:
            raise ValueError(f"in the query {name}, {line!r} is not a parameter with its default ($name = JSON)")
        parameters[found[1]] = json.loads(found[2])
    return NamedQuery(name, head[0], "\n".join(line for line in lines if not line.startswith("//")), parameters)
