"""Convert the content of a memory or snapshot of schema 1 to schema 2.

In schema 1 a query was its dataset, key and text; in schema 2 it is its normalised text. Queries that are one question
become one node, with an IN edge for each of their names, and the ids of queries, answers and rollouts change with it.
What the merged nodes knew is united. Where they contradict each other (two gold answers, domains or rewards), the
contradiction is listed and one side is kept.

The id of a rollout is a hash of its row, and a memory does not store whether the row named the run and the sample
index. Both are found by trying: the combination that gives the stored id is the one of the row. A rollout for which
none does gets an id of its own (`ids.carried_over`).

A snapshot without texts keeps its ids, because they cannot be computed.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import pyarrow as pa

from memstore.graph.protocol import EdgeTable
from memstore.graph.verdicts import labels_by_answer, with_verdicts
from memstore.records import ids
from memstore.records.columns import KnownQuery, ReadAnswer, is_same_gold, read_answer
from memstore.records.policies import policies_of
from memstore.records.record import split_name
from memstore.snapshots.take import complete_edges
from memstore.snapshots.upgrade_edges import EdgeRow, carried_edges, edge_table
from memstore.text import readable_query
from memstore.types import QueryId
from memstore_schema.columns import EdgeType, NodeLabel, node_schema

Prefer: TypeAlias = Literal["first", "second"]
"""Which side of a contradiction is kept: that of the older or that of the newer rollouts."""
_MORE_OCCURRENCES = 8
"""Occurrences that are tried beyond the number of equal rollouts, since some may have been deleted."""
_FILLED = ("mean_logprob", "finish_reason", "metadata")
"""Properties that a merged rollout takes from whichever of its rows has them."""
_Row: TypeAlias = dict[str, Any]
_Name: TypeAlias = tuple[str, str | None, str | None]
"""Dataset, key and split under which a source knows a query."""


@dataclass(frozen=True)
class Content:
    """Node tables by label, ordered by id, and edges by name as in a snapshot, whose ends are rows of these tables."""

    nodes: Mapping[NodeLabel, pa.Table]
    edges: Mapping[str, EdgeTable]


@dataclass(frozen=True)
class Upgrade:
    """Content of schema 2, and how it came about."""

    content: Content
    rows: Mapping[NodeLabel, list[int]]
    """For each Query and Thinking of the new content, the row of the old content that it continues."""
    contradictions: list[str]
    """One sentence each."""
    unrecovered: int
    """Rollouts that got an id of their own."""


@dataclass
class _Query:
    """A query of schema 2, and the rows of schema 1 that it unites, the oldest first."""

    id: QueryId
    rows: list[int]
    known: KnownQuery


@dataclass
class _Rollout:
    """A rollout of schema 2, and the rows of schema 1 that it unites, the oldest first."""

    id: str
    rows: list[int]
    query: _Query
    answer: ReadAnswer | None = None


def upgrade(
    old: Content, *, prefer: Prefer = "first", read_again: bool = False, texts_as_stored: bool = False
) -> Upgrade:
    """Convert content of schema 1.

    Args:
        prefer: the side of a contradiction to keep.
        read_again: compute the values of all answers again, because an older splitter read them. Otherwise only the
            answers of queries whose domain changes are read again.
        texts_as_stored: keep rendered chat templates in the texts of queries, because their vectors cannot be computed.
    """
    return _Upgrade(old, prefer, read_again, texts_as_stored).run()


class _Upgrade:
    """State of one conversion."""

    def __init__(self, old: Content, prefer: Prefer, read_again: bool, texts_as_stored: bool) -> None:
        self.old, self.prefer, self.read_again, self.texts_as_stored = old, prefer, read_again, texts_as_stored
        self.has_texts = "text" in old.nodes[NodeLabel.QUERY].column_names
        self.queries: list[_Row] = old.nodes[NodeLabel.QUERY].to_pylist()
        self.thinkings: list[_Row] = old.nodes[NodeLabel.THINKING].to_pylist()
        self.answers: list[_Row] = old.nodes[NodeLabel.ANSWER].to_pylist()
        generates, leads = old.edges["generates"], old.edges["leads_to"]
        self.query_of = dict(zip(generates.target.tolist(), generates.source.tolist(), strict=True))
        self.answer_of = dict(zip(leads.source.tolist(), leads.target.tolist(), strict=True))
        written = leads.properties["text"].to_pylist() if self.has_texts else [""] * len(leads)
        self.written = dict(zip(leads.source.tolist(), written, strict=True))
        self.contradictions: list[str] = []
        self.unrecovered = 0

    def run(self) -> Upgrade:
        """Convert everything."""
        queries = self._merged_queries()
        rollouts = self._merged_rollouts({row: query for query in queries for row in query.rows})
        nodes = {**self.old.nodes, **self._tables(queries, rollouts)}
        new_ids = {
            NodeLabel.QUERY: {row: str(query.id) for query in queries for row in query.rows},
            NodeLabel.THINKING: {row: rollout.id for rollout in rollouts for row in rollout.rows},
        }
        origins = {
            NodeLabel.QUERY: {query.rows[0] for query in queries},
            NodeLabel.THINKING: {rollout.rows[0] for rollout in rollouts},
        }
        edges = carried_edges(self.old.nodes, self.old.edges, nodes, new_ids, origins)
        edges["generates"] = edge_table(
            EdgeType.GENERATES, nodes, [(str(rollout.query.id), rollout.id, {}) for rollout in rollouts]
        )
        edges["leads_to"] = edge_table(EdgeType.LEADS_TO, nodes, self._leads_to(rollouts))
        edges["in"] = edge_table(EdgeType.IN, nodes, self._names(queries))
        nodes[NodeLabel.ANSWER] = with_verdicts(
            nodes[NodeLabel.ANSWER],
            labels_by_answer(nodes[NodeLabel.ANSWER]["id"], nodes[NodeLabel.THINKING], edges["leads_to"]),
        )
        edges["wrote"] = edge_table(EdgeType.WROTE, nodes, _written_by(nodes[NodeLabel.THINKING]))
        if not self.has_texts:
            leads = edges["leads_to"]
            edges["leads_to"] = EdgeTable(leads.source, leads.target, leads.properties.drop_columns(["text"]))
        edges = complete_edges(edges)
        first = {str(query.id): query.rows[0] for query in queries}
        origin = {rollout.id: rollout.rows[0] for rollout in rollouts}
        rows = {
            NodeLabel.QUERY: [first[node] for node in nodes[NodeLabel.QUERY]["id"].to_pylist()],
            NodeLabel.THINKING: [origin[node] for node in nodes[NodeLabel.THINKING]["id"].to_pylist()],
        }
        return Upgrade(Content(nodes, edges), rows, self.contradictions, self.unrecovered)

    # -- queries ------------------------------------------------------------------------------------------------

    def _merged_queries(self) -> list[_Query]:
        """The queries of schema 2. A query without rollouts, which a killed delete left, is dropped."""
        groups: defaultdict[QueryId, list[int]] = defaultdict(list)
        for row in self._oldest_first():
            query = self.queries[row]
            groups[ids.query_id(query["text"]) if self.has_texts else QueryId(query["id"])].append(row)
        return [_Query(query, rows, self._united(rows)) for query, rows in groups.items()]

    def _oldest_first(self) -> list[int]:
        """Rows of the queries that have rollouts, in the order of their first one."""
        begun: dict[int, tuple[str, str]] = {}
        for row, query in self.query_of.items():
            mark = (self._age(row)[0], self.queries[query]["id"])
            begun[query] = min(begun.get(query, mark), mark)
        return sorted(begun, key=begun.__getitem__)

    def _united(self, rows: Sequence[int]) -> KnownQuery:
        """What the queries of these rows knew together."""
        stored = [self.queries[row] for row in rows]
        text = stored[0].get("text") or ""
        if not self.texts_as_stored:
            text = readable_query(text)
        known = [KnownQuery(row["domain"] or "other", row.get("gold"), text) for row in stored]
        settled = [one for one in known if not one.is_guess] or known
        domain = settled[0].domain
        if other := [at for at, one in enumerate(known) if one in settled and one.domain != domain]:
            said = [f"{known[at].domain} ({self._name(rows[at])})" for at in (known.index(settled[0]), other[0])]
            self.contradictions.append(f"the query {_quoted(text)} has the domains {said[0]} and {said[1]}")
            domain = domain if self.prefer == "first" else known[other[-1]].domain
        golds = [(at, one.gold) for at, one in enumerate(known) if one.gold is not None]
        gold = golds[0][1] if golds else None
        merged = KnownQuery(domain, gold, text)
        if others := [(at, other) for at, other in golds if not is_same_gold(other, gold or "", merged)]:
            said = [f"{_quoted(other or '')} ({self._name(rows[at])})" for at, other in (golds[0], others[0])]
            self.contradictions.append(f"the query {_quoted(text)} has the gold answers {said[0]} and {said[1]}")
            merged = merged if self.prefer == "first" else replace(merged, gold=others[-1][1])
        return merged

    def _name(self, row: int) -> str:
        query = self.queries[row]
        return f"dataset {query['dataset']}" + ("" if query["key"] is None else f", key {query['key']}")

    def _names(self, queries: Sequence[_Query]) -> list[EdgeRow]:
        """The IN edges: the dataset and key of each old query, with the splits that its rollouts' metadata name."""
        splits: defaultdict[int, set[str | None]] = defaultdict(set)
        for row, thinking in enumerate(self.thinkings):
            if row in self.query_of:
                splits[self.query_of[row]].add(_split_of(thinking.get("metadata")))
        edges: list[EdgeRow] = []
        for query in queries:
            names: dict[_Name, None] = {}
            for row in query.rows:
                old = self.queries[row]
                for split in sorted(splits[row], key=str):
                    names[old["dataset"] or "default", old["key"], split] = None
            edges += [
                (str(query.id), ids.dataset_id(dataset), {"key": key, "split": split}) for dataset, key, split in names
            ]
        return edges

    # -- rollouts -----------------------------------------------------------------------------------------------

    def _merged_rollouts(self, query_at: Mapping[int, _Query]) -> list[_Rollout]:
        equal: Counter[tuple[object, ...]] = Counter(map(self._content_of, self.query_of))
        found: dict[str, _Rollout] = {}
        order = sorted(
            self.query_of, key=lambda row: (str(self.thinkings[row]["created_at"]), self.thinkings[row]["id"])
        )
        for row in order:
            query = query_at[self.query_of[row]]
            new = (
                self._new_id(row, query, equal[self._content_of(row)]) if self.has_texts else self.thinkings[row]["id"]
            )
            found.setdefault(new, _Rollout(new, [], query)).rows.append(row)
        for rollout in found.values():
            rollout.answer = self._answer(rollout)
        return list(found.values())

    def _age(self, row: int) -> tuple[str, str]:
        thinking = self.thinkings[row]
        return (str(thinking["created_at"] or ""), thinking["id"])

    def _content_of(self, row: int) -> tuple[object, ...]:
        thinking = self.thinkings[row]
        names = (thinking[name] for name in ("policy", "run", "step"))
        return (self.query_of[row], *names, thinking.get("text"), self.written.get(row))

    def _new_id(self, row: int, query: _Query, equal: int) -> str:
        """Id of a rollout in schema 2, from the values of its row that give the id in schema 1."""
        thinking, before = self.thinkings[row], self.queries[self.query_of[row]]
        old_query = ids.query_id_of_schema_1(before["dataset"], before["key"], before["text"])
        tries = [(thinking["sample_index"], 0), *((None, at) for at in range(equal + _MORE_OCCURRENCES))]
        for sample_index, occurrence in tries:
            for run in (thinking["run"], None):
                parts: dict[str, Any] = {
                    "policy": thinking["policy"],
                    "run": run,
                    "step": thinking["step"],
                    "sample_index": sample_index,
                    "occurrence": occurrence,
                    "thinking": thinking["text"],
                    "answer": self.written.get(row, ""),
                }
                if ids.rollout_id(old_query, **parts) == thinking["id"]:
                    return ids.rollout_id(query.id, **parts)
        self.unrecovered += 1
        return ids.carried_over(query.id, thinking["id"])

    def _answer(self, rollout: _Rollout) -> ReadAnswer | None:
        row = rollout.rows[0]
        if row not in self.answer_of:
            return None
        stored, query = self.answers[self.answer_of[row]], rollout.query
        if self.has_texts and (self.read_again or self.queries[self.query_of[row]]["domain"] != query.known.domain):
            return read_answer(query.id, self.written[row], query.known)
        answer = ids.answer_id(query.id, stored["value"]) if self.has_texts else stored["id"]
        return ReadAnswer(answer, stored["text"], stored["value"])

    def _leads_to(self, rollouts: Sequence[_Rollout]) -> list[EdgeRow]:
        return [
            (rollout.id, str(rollout.answer.id), {"text": self.written[rollout.rows[0]]})
            for rollout in rollouts
            if rollout.answer is not None
        ]

    # -- tables -------------------------------------------------------------------------------------------------

    def _tables(self, queries: Sequence[_Query], rollouts: Sequence[_Rollout]) -> dict[NodeLabel, pa.Table]:
        answers = {rollout.answer.id: rollout.answer._asdict() for rollout in rollouts if rollout.answer is not None}
        datasets = {self.queries[row]["dataset"] or "default" for query in queries for row in query.rows}
        rows: dict[NodeLabel, list[_Row]] = {
            NodeLabel.QUERY: [self._query_row(query) for query in queries],
            NodeLabel.THINKING: [self._rollout_row(rollout) for rollout in rollouts],
            NodeLabel.ANSWER: list(answers.values()),
            NodeLabel.DATASET: [{"id": ids.dataset_id(name), "name": name} for name in datasets],
        }
        tables = {label: _table(label, found, self.old.nodes.get(label)) for label, found in rows.items()}
        return {**tables, NodeLabel.POLICY: policies_of(tables[NodeLabel.THINKING])[0]}

    def _query_row(self, query: _Query) -> _Row:
        row = {**self.queries[query.rows[0]], "id": query.id, "domain": query.known.domain, "gold": query.known.gold}
        if "linked" in row:
            row["linked"] = None
        if self.has_texts and row["text"] != query.known.text:
            row |= {"text": query.known.text, "vector_key": ids.vector_key(query.known.text)}
        return row

    def _rollout_row(self, rollout: _Rollout) -> _Row:
        stored = [self.thinkings[row] for row in rollout.rows]
        row = {**stored[0], "id": rollout.id, "dataset": self.queries[self.query_of[rollout.rows[0]]]["dataset"]}
        if "linked" in row:
            row["linked"] = None
        for name in _FILLED:
            if name in row:
                row[name] = next((other[name] for other in stored if other[name] is not None), None)
        labelled = [other for other in stored if other["reward"] is not None]
        if labelled:
            kept = labelled[0]
            if others := [other for other in labelled if other["reward"] != kept["reward"]]:
                said = [f"{one['reward']:g} ({one['id']})" for one in (kept, others[0])]
                self.contradictions.append(
                    f"a rollout of the query {_quoted(rollout.query.known.text)} has the rewards {said[0]} and "
                    f"{said[1]}"
                )
                kept = kept if self.prefer == "first" else others[-1]
            row |= {"reward": kept["reward"], "reward_source": kept["reward_source"]}
        return row


def _written_by(thinkings: pa.Table) -> list[EdgeRow]:
    """The WROTE edges of these rollouts."""
    policies = policies_of(thinkings)[1].to_pylist()
    return [(node, row, {}) for node, row in zip(policies, thinkings["id"].to_pylist(), strict=True) if node]


def _split_of(metadata: str | None) -> str | None:
    """The split that a row named, which schema 1 kept in the metadata."""
    split = json.loads(metadata).get("split") if metadata and '"split"' in metadata else None
    return split_name(split) if isinstance(split, str) and split.strip() else None


def _table(label: NodeLabel, rows: Sequence[_Row], like: pa.Table | None) -> pa.Table:
    """A node table of schema 2, ordered by id; columns that the old table lacks are left out, except the dataset."""
    schema = node_schema(label)
    if like is not None:
        schema = pa.schema([field for field in schema if field.name in {*like.column_names, "dataset"}])
    return pa.Table.from_pylist(list(rows), schema=schema).sort_by("id").combine_chunks()


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:60] + "…")
