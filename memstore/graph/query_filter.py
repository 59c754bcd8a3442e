"""Which queries a list has: a filter and its Cypher.

Lists are in the order of ids and go on after an id, so that each page costs the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Where = Literal["text", "key", "answer"]
"""Where a search looks: in the texts of queries, the keys of their sources, or their answers."""
Labels = Literal["any", "some", "none"]
"""Queries with and without a label."""


@dataclass(frozen=True)
class QueryFilter:
    """Which queries a list has; an empty text is no condition."""

    search: str = ""
    where: Where = "text"
    """The search is part of the text, the beginning of a key, or the whole answer."""
    dataset: str = ""
    domain: str = ""
    labels: Labels = "any"


def find_statement(wanted: QueryFilter, after: str, limit: int, *, hints: bool) -> tuple[str, dict[str, Any]]:
    """The Cypher that returns the ids of the first queries after an id, and its parameters.

    Args:
        hints: tell LadybugDB the order of joins. Without it, it begins a search for an answer with all rollouts.
    """
    conditions, match, hint = ["q.id > $after"], "MATCH (q:Query)", ""
    if wanted.search and wanted.where == "text":
        conditions.append("toLower(q.text) CONTAINS toLower($search)")
    elif wanted.search and wanted.where == "key":
        match = "MATCH (q:Query)-[k:IN]->(:Dataset)"
        conditions.append("k.key STARTS WITH $search")
    elif wanted.search:
        match = "MATCH (a:Answer)<-[l:LEADS_TO]-(t:Thinking)<-[g:GENERATES]-(q:Query)"
        conditions.append("(a.text = $search OR a.value = $search)")
        hint = " HINT (((a JOIN l) JOIN t) JOIN g) JOIN q" if hints else ""
    if wanted.dataset:
        conditions.append("EXISTS { MATCH (q)-[:IN]->(d:Dataset) WHERE d.name = $dataset }")
    if wanted.domain:
        conditions.append("q.domain = $domain")
    if wanted.labels != "any":
        labelled = "EXISTS { MATCH (q)-[:GENERATES]->(r:Thinking) WHERE r.reward IS NOT NULL }"
        conditions.append(labelled if wanted.labels == "some" else f"NOT {labelled}")
    text = f"{match} WHERE {' AND '.join(conditions)}{hint} RETURN DISTINCT q.id AS id ORDER BY id LIMIT $limit"
    given = {"search": wanted.search, "dataset": wanted.dataset, "domain": wanted.domain}
    used = {name: value for name, value in given.items() if f"${name}" in text}
    return text, {"after": after, "limit": limit, **used}
