"""The group sheet of a query: its answers as columns, the rollouts that give them, and the evidence of their scores.

Of a query with many answers or rollouts the sheet shows the most frequent answers and a few rollouts of each; one
answer has a sheet of its own, which pages through all its rollouts by key. Only texts that are shown are read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from memstore_rl.inspector.differences import Line, central, difference
from memstore_rl.inspector.source import Source
from memstore_rl.inspector.texts import Cut, cut
from memstore_rl.inspector.views.evidence import Evidence, evidence_of
from memstore_rl.inspector.views.missing import NotThere
from memstore_rl.inspector.views.queries import aliases
from memstore_schema.columns import EdgeType, NodeLabel

COLUMNS = 8
"""Answers with a column of their own; the others are a list."""
SHOWN, PAGE = 4, 20
"""Rollouts of an answer that a sheet shows, and those of a page of one answer."""
TEXT = 6_000
"""Characters of a thinking on the sheet; its own page has the whole."""
QUERY_TEXT = 20_000
EVIDENCE = 8
"""Pieces of evidence beside a column."""
NO_ANSWER = "none"
"""Name, in addresses, of the column of rollouts without an answer."""


@dataclass(frozen=True)
class Group:
    """The rollouts of a query that one policy made in one step of a run."""

    policy: str | None
    run: str | None
    step: int | None
    rollouts: int = 0

    def has(self, row: dict[str, Any]) -> bool:
        """Whether a rollout is of this group."""
        return (row["policy"], row["run"], row["step"]) == (self.policy, self.run, self.step)


@dataclass(frozen=True)
class RolloutCell:
    """A rollout in a column."""

    id: str
    policy: str | None
    run: str | None
    step: int | None
    sample_index: int | None
    reward: float | None
    reward_source: str | None
    probability: float | None
    written: str | None
    """The answer as this rollout wrote it."""
    text: Cut
    changes: tuple[Line, ...]
    """Difference to the column's central rollout; empty for that one."""
    is_central: bool


@dataclass(frozen=True)
class Column:
    """An answer, its votes, and some of the rollouts that give it."""

    answer: str | None
    """Id of the answer; None for rollouts without one."""
    text: str
    votes: int
    share: float
    probability: float | None
    """Mean probability that the model in use gives its rollouts."""
    verdict: float | None
    verdict_source: str | None
    remembered: int
    """Rollouts whose score is a remembered verdict."""
    rollouts: tuple[RolloutCell, ...]
    evidence: tuple[Evidence, ...]
    """What moved the score of the central rollout, or of the first one with evidence."""
    explained: str | None
    """The rollout that the evidence is about."""
    after: str | None
    """The rollout after which the next page of this answer begins; None if there is none."""

    @property
    def name(self) -> str:
        """The column's name in addresses."""
        return self.answer or NO_ANSWER


@dataclass(frozen=True)
class GroupSheet:
    """A query with its answers and rollouts."""

    id: str
    text: Cut
    domain: str | None
    gold: str | None
    names: tuple[tuple[str, str | None], ...]
    """Datasets and keys."""
    groups: tuple[Group, ...]
    chosen: Group | None
    """The one group that is shown; None for all."""
    rollouts: int
    """Rollouts of all columns."""
    labelled: int
    model: str | None
    columns: tuple[Column, ...]
    others: tuple[Column, ...]
    """Answers beyond the columns, without rollouts."""
    alone: str | None
    """Name of the one answer that the sheet is about; None for all."""


def group_sheet(
    source: Source, query: str, group: Group | None = None, answer: str | None = None, after: str = ""
) -> GroupSheet:
    """The sheet of a query, of one of its groups, or of one of its answers.

    Args:
        answer: id of an answer, or `NO_ANSWER`; its rollouts are paged.
        after: rollout after which the page of an answer begins.

    Raises:
        NotThere: the query does not exist, or has no such group or answer.
    """
    found = source.nodes(NodeLabel.QUERY, ["id", "text", "domain", "gold"], ids=[query]).to_pylist()
    if not found:
        raise NotThere(f"there is no query {query}; search for it by its text or key")
    rows = rollouts_of(source, query)
    groups = _groups(rows)
    chosen = [row for row in rows if group is None or group.has(row)]
    if group is not None and not chosen:
        raise NotThere("the query has no rollouts of this policy, run and step; choose one of its groups")
    model = source.model_in_use()
    scores = scores_of(source, query, model)
    columns = _columns(source, chosen, scores)
    wide = columns[:COLUMNS]
    if answer is not None:
        wide = [column for column in columns if column.name == answer]
        if not wide:
            raise NotThere(f"the query has no rollout with the answer {answer}; choose one of its answers")
    filled = _filled(source, query, wide, chosen, scores, model, PAGE if answer else SHOWN, after)
    node = found[0]
    return GroupSheet(
        id=query,
        text=cut(node["text"], QUERY_TEXT),
        domain=node["domain"],
        gold=node["gold"],
        names=tuple(sorted(aliases(source, [query]).get(query, []), key=str)),
        groups=groups,
        chosen=next((one for one in groups if group is not None and _same(one, group)), None),
        rollouts=len(chosen),
        labelled=sum(row["reward"] is not None for row in chosen),
        model=model,
        columns=tuple(filled),
        others=() if answer else tuple(columns[COLUMNS:]),
        alone=answer,
    )


def _same(one: Group, other: Group) -> bool:
    return (one.policy, one.run, one.step) == (other.policy, other.run, other.step)


def rollouts_of(source: Source, query: str) -> list[dict[str, Any]]:
    """The rollouts of a query without their texts, ordered by id, each with the id of its answer as it wrote it."""
    ids = source.edges_of(EdgeType.GENERATES, NodeLabel.QUERY, NodeLabel.THINKING, [query])["target_id"].to_pylist()
    columns = ["id", "policy", "run", "step", "sample_index", "reward", "reward_source"]
    rows: list[dict[str, Any]] = source.nodes(NodeLabel.THINKING, columns, ids=ids).to_pylist()
    ends = EdgeType.LEADS_TO, NodeLabel.THINKING, NodeLabel.ANSWER
    leads = source.edges_of(*ends, [query], by="query", columns=["text"])
    answer_of = {row["source_id"]: row for row in leads.to_pylist()}
    for row in rows:
        lead = answer_of.get(row["id"], {})
        row["answer"], row["written"] = lead.get("target_id"), lead.get("text")
    return rows


def _groups(rows: Sequence[dict[str, Any]]) -> tuple[Group, ...]:
    counts = Counter((row["policy"], row["run"], row["step"]) for row in rows)
    ordered = sorted(
        counts, key=lambda names: (str(names[1] or ""), -1 if names[2] is None else names[2], str(names[0]))
    )
    return tuple(Group(*names, counts[names]) for names in ordered)


def scores_of(source: Source, query: str, model: str | None) -> dict[str, dict[str, Any]]:
    """The model's score of each rollout of a query that it has scored."""
    ends = EdgeType.SCORED_BY, NodeLabel.THINKING, NodeLabel.REWARD_MODEL
    edges = source.edges_of(*ends, [query], by="query", columns=["probability", "source"])
    return {row["source_id"]: row for row in edges.to_pylist() if row["target_id"] == model}


def _columns(source: Source, rows: Sequence[dict[str, Any]], scores: dict[str, dict[str, Any]]) -> list[Column]:
    """A column for each answer, without rollouts, those with most votes first and no answer last."""
    of_answer: dict[str | None, list[dict[str, Any]]] = {}
    for row in rows:
        of_answer.setdefault(row["answer"], []).append(row)
    ids = [name for name in of_answer if name is not None]
    columns = ["id", "text", "verdict", "verdict_source"]
    nodes = {node["id"]: node for node in source.nodes(NodeLabel.ANSWER, columns, ids=ids).to_pylist()}
    found = []
    for name, own in of_answer.items():
        scored = [scores[row["id"]] for row in own if row["id"] in scores]
        node = nodes.get(name or "", {})
        found.append(
            Column(
                answer=name,
                text=node.get("text") or "",
                votes=len(own),
                share=len(own) / len(rows),
                probability=sum(score["probability"] for score in scored) / len(scored) if scored else None,
                verdict=node.get("verdict"),
                verdict_source=node.get("verdict_source"),
                remembered=sum(score["source"] == "remembered" for score in scored),
                rollouts=(),
                evidence=(),
                explained=None,
                after=None,
            )
        )
    return sorted(found, key=lambda column: (column.answer is None, -column.votes, column.text, column.name))


def _filled(
    source: Source,
    query: str,
    columns: Sequence[Column],
    rows: Sequence[dict[str, Any]],
    scores: dict[str, dict[str, Any]],
    model: str | None,
    most: int,
    after: str,
) -> list[Column]:
    """Columns with their first rollouts after an id, and with evidence."""
    shown: dict[str | None, list[dict[str, Any]]] = {}
    more: set[str | None] = set()
    wanted = {column.answer for column in columns}
    for row in rows:
        if row["answer"] in wanted and row["id"] > after:
            own = shown.setdefault(row["answer"], [])
            if len(own) < most:
                own.append(row)
            else:
                more.add(row["answer"])
    ids = [row["id"] for own in shown.values() for row in own]
    texts = dict(
        zip(*(column.to_pylist() for column in source.nodes(NodeLabel.THINKING, ["id", "text"], ids=ids)), strict=True)
    )
    evidence = evidence_of(source, ids, model, EVIDENCE, query)
    filled = []
    for column in columns:
        own = shown.get(column.answer, [])
        cells = _cells(own, texts, scores)
        explained = next((cell.id for cell in cells if cell.id in evidence), None)
        filled.append(
            replace(
                column,
                rollouts=tuple(cells),
                evidence=tuple(evidence.get(explained or "", ())),
                explained=explained,
                after=own[-1]["id"] if column.answer in more else None,
            )
        )
    return filled


def _cells(
    rows: Sequence[dict[str, Any]], texts: dict[str, str | None], scores: dict[str, dict[str, Any]]
) -> list[RolloutCell]:
    """The rollouts of a column, the central one first and the others as differences to it."""
    if not rows:
        return []
    cuts = [cut(texts[row["id"]], TEXT) for row in rows]
    middle = central([one.text for one in cuts])
    order = [middle, *(at for at in range(len(rows)) if at != middle)]
    return [
        RolloutCell(
            id=rows[at]["id"],
            policy=rows[at]["policy"],
            run=rows[at]["run"],
            step=rows[at]["step"],
            sample_index=rows[at]["sample_index"],
            reward=rows[at]["reward"],
            reward_source=rows[at]["reward_source"],
            probability=scores[rows[at]["id"]]["probability"] if rows[at]["id"] in scores else None,
            written=rows[at]["written"],
            text=cuts[at],
            changes=() if at == middle else tuple(difference(cuts[middle].text, cuts[at].text)),
            is_central=at == middle,
        )
        for at in order
    ]
