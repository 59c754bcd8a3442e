"""Lists of queries: filtered, searched, and paged by key."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from memstore.graph.query_filter import QueryFilter
from memstore_rl.inspector.source import Source
from memstore_rl.inspector.texts import one_line
from memstore_schema.columns import EdgeType, NodeLabel

PAGE = 25
"""Queries of a page."""
_PAGES = {
    "q-": (NodeLabel.QUERY, "query"),
    "t-": (NodeLabel.THINKING, "rollout"),
    "a-": (NodeLabel.ANSWER, "answer"),
    "p-": (NodeLabel.POLICY, "policy"),
}
"""Label, and path of the page, of a node by the beginning of its id."""


@dataclass(frozen=True)
class QueryLine:
    """A query in a list."""

    id: str
    text: str
    domain: str | None
    datasets: tuple[str, ...]
    keys: tuple[str, ...]
    rollouts: int
    answers: int
    top_share: float | None
    """Share of the most frequent answer among the rollouts; None without an answer."""
    labelled: int
    right: float | None
    """Mean ground truth of the labelled rollouts."""


@dataclass(frozen=True)
class QueryList:
    """A page of queries."""

    wanted: QueryFilter
    lines: tuple[QueryLine, ...]
    after: str | None
    """The id after which the next page begins; None on the last page."""


def query_list(source: Source, wanted: QueryFilter, after: str = "") -> QueryList:
    """The queries that a filter selects, `PAGE` at a time.

    Raises:
        QueryTimeout: the search takes too long in this memory.
    """
    ids = source.find_queries(wanted, after, PAGE + 1)
    shown = ids[:PAGE]
    return QueryList(wanted, tuple(query_lines(source, shown)), shown[-1] if len(ids) > PAGE else None)


def query_lines(source: Source, ids: Sequence[str]) -> list[QueryLine]:
    """Lines of these queries, ordered by id."""
    nodes = source.nodes(NodeLabel.QUERY, ["id", "text", "domain"], ids=ids).to_pylist()
    rollouts = source.edges_of(EdgeType.GENERATES, NodeLabel.QUERY, NodeLabel.THINKING, ids)
    query_of = dict(zip(rollouts["target_id"].to_pylist(), rollouts["source_id"].to_pylist(), strict=True))
    votes: dict[str, Counter[str]] = {name: Counter() for name in ids}
    leads = source.edges_of(EdgeType.LEADS_TO, NodeLabel.THINKING, NodeLabel.ANSWER, ids, by="query")
    for rollout, answer in zip(leads["source_id"].to_pylist(), leads["target_id"].to_pylist(), strict=True):
        votes[query_of[rollout]][answer] += 1
    rewards: dict[str, list[float]] = {}
    for row in source.nodes(NodeLabel.THINKING, ["id", "reward"], ids=list(query_of)).to_pylist():
        if row["reward"] is not None:
            rewards.setdefault(query_of[row["id"]], []).append(row["reward"])
    count, names = Counter(query_of.values()), aliases(source, ids)
    lines = []
    for node in nodes:
        name, own = node["id"], rewards.get(node["id"], [])
        datasets = tuple(sorted({dataset for dataset, _ in names.get(name, ())}))
        keys = tuple(sorted({key for _, key in names.get(name, ()) if key}))
        top = votes[name].most_common(1)
        lines.append(
            QueryLine(
                id=name,
                text=one_line(node["text"]),
                domain=node["domain"],
                datasets=datasets,
                keys=keys,
                rollouts=count[name],
                answers=len(votes[name]),
                top_share=top[0][1] / count[name] if top else None,
                labelled=len(own),
                right=sum(own) / len(own) if own else None,
            )
        )
    return lines


def aliases(source: Source, ids: Sequence[str]) -> dict[str, list[tuple[str, str | None]]]:
    """Dataset and key of each name of these queries."""
    found = source.edges_of(EdgeType.IN, NodeLabel.QUERY, NodeLabel.DATASET, ids, columns=["key"]).to_pylist()
    wanted = sorted({row["target_id"] for row in found})
    names = source.nodes(NodeLabel.DATASET, ["id", "name"], ids=wanted).to_pylist()
    name_of = {row["id"]: row["name"] for row in names}
    of_query: dict[str, list[tuple[str, str | None]]] = {}
    for row in found:
        of_query.setdefault(row["source_id"], []).append((name_of[row["target_id"]], row["key"]))
    return of_query


def page_of_id(source: Source, text: str) -> str | None:
    """Path of the page of the node with this id; None if there is no such node."""
    label, page = _PAGES.get(text[:2], (None, ""))
    return f"{page}/{text}" if label is not None and len(source.nodes(label, ["id"], ids=[text])) else None
