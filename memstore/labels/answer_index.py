"""The queries of a memory with their answers and rollouts, read once to look verdicts up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from memstore.errors import InputError
from memstore.graph.find import full_id
from memstore.graph.protocol import GraphReader
from memstore.records.ids import query_id
from memstore.text.canonical import canonical_answer, is_cut_off
from memstore.types import IntVector
from memstore_schema.columns import EdgeType, NodeLabel

_SHOWN = 5
"""Answers that a message lists."""
_SHOWN_CHARS = 60
_ANSWER = ("id", "text", "value")
_Ends: TypeAlias = tuple[IntVector, IntVector]
"""Positions of the sources and targets of edges."""


@dataclass(frozen=True)
class _Sets:
    """Members of N disjoint sets: those of set i are `members[starts[i]:starts[i + 1]]`."""

    members: IntVector
    starts: IntVector

    @classmethod
    def of(cls, owner: IntVector, member: IntVector, size: int) -> _Sets:
        starts = np.zeros(size + 1, np.int64)
        np.cumsum(np.bincount(owner, minlength=size), out=starts[1:])
        return cls(member[np.argsort(owner, kind="stable")], starts)

    def __getitem__(self, position: int) -> IntVector:
        return self.members[self.starts[position] : self.starts[position + 1]]


class AnswerIndex:
    """Positions are those of the id-ordered node tables: of all nodes, or of those of some queries.

    Args:
        graph: the graph of the memory, or what stands in for it.
        queries: ids of the queries to read; None reads all. Some are named by their id or text, not by a key.
    """

    def __init__(self, graph: GraphReader, queries: Sequence[str] | None = None) -> None:
        self._graph, self._whole = graph, queries is None
        found = graph.nodes(NodeLabel.QUERY, ["id", "text", "domain"], ids=queries)
        self.query_ids: list[str] = found["id"].to_pylist()
        self.texts: list[str | None] = found["text"].to_pylist()
        self.domains: list[str] = found["domain"].to_pylist()
        read = self._read_all if queries is None else self._read_some
        self._rollout_ids, self._answers, generates, leads = read()
        self._rollouts = _Sets.of(*generates, len(self.query_ids))
        self._answer_of = np.full(len(self._rollout_ids), -1, np.int64)
        self._answer_of[leads[0]] = leads[1]

    def _read_all(self) -> tuple[pa.ChunkedArray, pa.Table, _Ends, _Ends]:
        """Ids of the rollouts, the answers, and the ends of the edges to both."""
        graph = self._graph
        generates = graph.edges(EdgeType.GENERATES, NodeLabel.QUERY, NodeLabel.THINKING)
        leads = graph.edges(EdgeType.LEADS_TO, NodeLabel.THINKING, NodeLabel.ANSWER, [])
        rollouts, answers = graph.nodes(NodeLabel.THINKING, ["id"])["id"], graph.nodes(NodeLabel.ANSWER, _ANSWER)
        return rollouts, answers, (generates.source, generates.target), (leads.source, leads.target)

    def _read_some(self) -> tuple[pa.ChunkedArray, pa.Table, _Ends, _Ends]:
        graph = self._graph
        generates = graph.edges_of(EdgeType.GENERATES, NodeLabel.QUERY, NodeLabel.THINKING, self.query_ids)
        generates = generates.sort_by("target_id")
        rollouts = generates["target_id"]
        leads = graph.edges_of(EdgeType.LEADS_TO, NodeLabel.THINKING, NodeLabel.ANSWER, self.query_ids, by="query")
        answers = graph.nodes(NodeLabel.ANSWER, _ANSWER, ids=sorted(set(leads["target_id"].to_pylist())))
        queries = pa.array(self.query_ids, pa.string())
        return rollouts, answers, _ends(generates, queries, rollouts), _ends(leads, rollouts, answers["id"])

    @classmethod
    def read(cls, graph: GraphReader) -> AnswerIndex:
        """Read a memory.

        Raises:
            InputError: the memory has no rollouts.
        """
        index = cls(graph)
        if not len(index._rollout_ids):
            raise InputError("the memory has no rollouts to label; add some with `memstore ingest`")
        return index

    # -- what a query has ---------------------------------------------------------------------------------------

    def answers_of(self, query: int) -> list[int]:
        """Answers of a query, those with the most rollouts first."""
        found, counts = np.unique(self._answer_of[self._rollouts[query]], return_counts=True)
        order = np.lexsort((found, -counts))
        return [int(answer) for answer in found[order] if answer >= 0]

    def rollouts_of(self, query: int) -> IntVector:
        """Rollouts of a query."""
        return self._rollouts[query]

    def rollouts_with(self, query: int, answer: int) -> IntVector:
        """Rollouts of a query that give an answer; -1: those without a readable one."""
        rows = self._rollouts[query]
        return np.asarray(rows[self._answer_of[rows] == answer], np.int64)

    def answers_of_rollouts(self, rows: IntVector) -> IntVector:
        """The answer of each of these rollouts; -1 without a readable one."""
        return np.asarray(self._answer_of[rows], np.int64)

    def rollout_ids(self, rows: IntVector) -> list[str]:
        """Ids of rollouts."""
        return list(self._rollout_ids.take(pa.array(rows, pa.int64())).to_pylist())

    def answer_id(self, answer: int) -> str:
        """Id of an answer."""
        return str(self._answers["id"][answer].as_py())

    def answer_text(self, answer: int) -> str:
        """An answer in readable form; "" for none."""
        return str(self._answers["text"][answer].as_py()) if answer >= 0 else ""

    # -- names of people ----------------------------------------------------------------------------------------

    def query(self, name: str, where: str = "") -> int:
        """Position of the query with this id, beginning of an id, key or text.

        Raises:
            InputError: there is none, several have this key or beginning of an id, or it is the text of one query and
                the key of another.
        """
        if name in self._positions:
            return self._positions[name]
        position = self._positions.get(query_id(name)) if name.strip() else None
        keyed = self._keys.get(name, [])
        if position is not None:
            if others := [row for row in keyed if row != position]:
                raise InputError(
                    f"{where}{_shortened(name)!r} is the text of the query {self.query_ids[position]} and the key of "
                    f"the query {self.query_ids[others[0]]}; name the query by its id"
                )
            return position
        if len(keyed) > 1:
            shown = ", ".join(self.query_ids[row] for row in keyed[:3])
            raise InputError(f"{where}{len(keyed)} queries have the key {name!r} ({shown}); name the query by its id")
        if keyed:
            return keyed[0]
        if not name.strip():
            raise InputError(f"{where}the query is empty; name it by its id, its key or its text")
        if not self._whole:
            raise InputError(f"{where}there is no query {_shortened(name)!r} here; name it by its id")
        try:
            return self._positions[full_id(self._graph, NodeLabel.QUERY, name)]
        except InputError as error:
            raise InputError(f"{where}{_shortened(str(error))}") from None

    def answer(self, query: int, name: str, where: str = "", answer_id: str | None = None) -> int:
        """Position of an answer of a query, by its id, its text, or another form of its value.

        A text that is cut off names no answer: others may begin alike.

        Args:
            answer_id: an id that is tried first.

        Raises:
            InputError: no rollout of the query gives it, several answers begin with this id, or `answer_id` and `name`
                are of two answers.
        """
        own = self.answers_of(query)
        named = next((answer for answer in own if self.answer_id(answer) == answer_id), None)
        text = next((answer for answer in own if name == self.answer_text(answer)), None)
        if named is not None:
            if text is not None and name != self.answer_text(named):
                raise InputError(
                    f"{where}the answer {_shortened(name)!r} has another id than {answer_id}; correct one of them"
                )
            return named
        if text is not None and not self._is_cut_off(text):
            return text
        by_id = [answer for answer in own if name.startswith("a-") and self.answer_id(answer).startswith(name)]
        if len(by_id) == 1:
            return by_id[0]
        value = canonical_answer(name, self.domains[query], self.texts[query] or "").value  # type: ignore[arg-type]
        for answer in own:
            if value == self._answers["value"][answer].as_py():
                return answer
        if text is not None:
            raise InputError(
                f"{where}the answer of the query {self.query_ids[query]} is cut off, and others may begin alike; name "
                f"it by its id, such as {self.answer_id(text)}"
            )
        if by_id:
            raise InputError(
                f"{where}{len(by_id)} answers of the query {self.query_ids[query]} have an id that begins with "
                f"{name!r} ({self._listed(by_id, with_id=True)}); pass more characters of the id"
            )
        raise InputError(
            f"{where}no rollout of the query {self.query_ids[query]} gives the answer {_shortened(name)!r}; "
            f"its answers are {self._listed(own) or 'none'}"
        )

    def _is_cut_off(self, answer: int) -> bool:
        """Whether the text of an answer is only its beginning."""
        return is_cut_off(self._answers["value"][answer].as_py(), self.answer_text(answer))

    def _listed(self, answers: Sequence[int], *, with_id: bool = False) -> str:
        """The first few answers, for a message."""
        ids = [f"{self.answer_id(answer)} " if with_id else "" for answer in answers[:_SHOWN]]
        texts = [repr(_shortened(self.answer_text(answer))) for answer in answers[:_SHOWN]]
        more = f" and {len(answers) - _SHOWN} more" if len(answers) > _SHOWN else ""
        return ", ".join(map("".join, zip(ids, texts, strict=True))) + more

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {name: position for position, name in enumerate(self.query_ids)}

    @cached_property
    def _keys(self) -> dict[str, list[int]]:
        if not self._whole:
            return {}
        edges = self._graph.edges(EdgeType.IN, NodeLabel.QUERY, NodeLabel.DATASET, ["key"])
        found: dict[str, list[int]] = {}
        pairs = zip(edges.source.tolist(), edges.properties["key"].to_pylist(), strict=True)
        for query, key in dict.fromkeys(pairs):
            if key is not None:
                found.setdefault(key, []).append(query)
        return found


def _ends(edges: pa.Table, sources: pa.Array, targets: pa.ChunkedArray) -> _Ends:
    ends = zip(("source_id", "target_id"), (sources, targets), strict=True)
    source, target = (np.asarray(pc.index_in(edges[name], value_set=ids), np.int64) for name, ids in ends)
    return source, target


def _shortened(text: str) -> str:
    return text if len(text) <= 4 * _SHOWN_CHARS else text[: 4 * _SHOWN_CHARS] + "..."
