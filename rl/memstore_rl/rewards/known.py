"""What a memory knows of queries without a reward model: texts, domains, and verdicts on their answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from memstore.graph.verdicts import GROUND_TRUTH
from memstore.memory import Memory
from memstore.records.columns import IdentifiedRecord, KnownQuery, merge_query, read_answer
from memstore.snapshots.snapshot import Snapshot
from memstore.snapshots.take import take_outline
from memstore.types import Domain, QueryId
from memstore_gnn.data.verdicts import Verdict, Verdicts, verdicts_of
from memstore_gnn.data.visibility import visible
from memstore_gnn.scoring.remembered import Given, Judge, recall
from memstore_schema.columns import EdgeType, NodeLabel


@dataclass(frozen=True)
class KnownQueries:
    """Queries of a memory and the verdicts on their answers, as last read."""

    queries: Mapping[str, KnownQuery] = field(default_factory=dict)
    """Text and domain of each query, by id, without gold answers."""
    verdicts: Verdicts = field(default_factory=Verdicts)
    """Verdicts on answers by the labels that may be seen."""

    @classmethod
    def of_snapshot(cls, snapshot: Snapshot, verdicts: Verdicts) -> KnownQueries:
        """Read the queries of a snapshot."""
        rows = snapshot.queries.select(["id", "domain", "text"]).to_pylist()
        return cls({row["id"]: KnownQuery(row["domain"], None, row["text"], stored=True) for row in rows}, verdicts)

    def domain_of(self, query: QueryId) -> Domain | None:
        """The domain of a query; None if the memory does not hold it."""
        known = self.queries.get(query)
        return known.domain if known is not None else None

    def query_of(self, item: IdentifiedRecord, earlier: KnownQuery | None = None) -> KnownQuery:
        """The query of a rollout as the memory holds it, else as the rollout and earlier ones give it, without gold."""
        record = item.record if item.record.gold is None else replace(item.record, gold=None)
        return self.queries.get(item.query_id) or merge_query(record, earlier)

    def given(self, item: IdentifiedRecord) -> Given:
        """The query and answer of a rollout, by their ids."""
        known = self.query_of(item)
        answer = read_answer(item.query_id, item.record.answer, known)
        return Given(item.query_id, None if answer is None else answer.id, known.domain, known.text, item.record.answer)

    def recall(self, groups: Sequence[Sequence[IdentifiedRecord]], judge: Judge | None) -> list[list[Verdict | None]]:
        """Return the remembered verdict on each rollout's answer; None where the memory does not know it.

        Args:
            groups: each of one query.
            judge: compares answers with stored reference answers; None leaves these unused.
        """
        given = [self.given(item) for group in groups for item in group]
        verdicts = iter(recall(self.verdicts, given, judge))
        return [[next(verdicts) for _ in group] for group in groups]


class Knowledge(Protocol):
    """A memory that queries and verdicts can be looked up in; it can be read again."""

    @property
    def known(self) -> KnownQueries:
        """What it knows, as last read."""
        ...

    def refresh(self) -> None:
        """Re-read the memory."""
        ...


class MemoryVerdicts:
    """The verdicts of an open memory that has no reward model yet: all labels are visible. Thread-safe."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self.refresh()

    @property
    def known(self) -> KnownQueries:
        """What the memory knows, as last read."""
        return self._known

    def refresh(self) -> None:
        """Re-read the memory; calls in progress keep what they started with."""
        outline = take_outline(self._memory.stores)
        self._known = KnownQueries.of_snapshot(outline, verdicts_of(outline, visible(outline)))


def judged_answers_by_run(memory: Memory) -> dict[str, int]:
    """Number of answers that each run's rollouts have a ground truth for: the verdicts that it has bought."""
    rollouts = memory.graph.nodes(NodeLabel.THINKING, ["run", "reward_source"])
    leads = memory.graph.edges(EdgeType.LEADS_TO, NodeLabel.THINKING, NodeLabel.ANSWER, [])
    of_answers = rollouts.take(pa.array(leads.source)).append_column("answer", pa.array(leads.target))
    judged = of_answers.filter(pc.equal(of_answers["reward_source"], GROUND_TRUTH))
    counted = judged.group_by("run").aggregate([("answer", "count_distinct")]).to_pylist()
    return {row["run"]: row["answer_count_distinct"] for row in counted if row["run"] is not None}
