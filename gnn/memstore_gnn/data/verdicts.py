"""Verdicts on answers: what the visible labels of a memory say about the answers of its queries.

A verdict belongs to a query and an answer. It comes from the labelled rollouts that gave the answer
(`memstore.graph.verdicts`) and holds for every other rollout that gives it. Where a domain's answers have one right
value (`memstore.graph.verdicts.ONE_RIGHT_VALUE`), a right verdict settles the query: another answer, or none, is wrong.
In the other domains many answers can be right, so a right verdict says nothing of the others.

Labels of an answer that contradict each other give no verdict, and a warning. Two right answers where there is one
right value give a warning, too: both stay right, since they may be two forms of the value, and other answers are
wrong. The verdicts that the graph stores come
from all labels; here they are derived again, from the labels that the caller passes because they may be seen
(`memstore_gnn.data.visibility`).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from memstore.graph.verdicts import (
    GROUND_TRUTH,
    NO_TIME,
    PERSON,
    RIGHT,
    JudgedAnswers,
    judge,
    label_columns,
)
from memstore.graph.verdicts import ONE_RIGHT_VALUE as ONE_RIGHT_VALUE
from memstore.snapshots.snapshot import Snapshot
from memstore.types import BoolVector, FloatVector, IntVector
from memstore_gnn.data.groups import query_of_thinkings
from memstore_gnn.data.visibility import Visible

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class Verdict(NamedTuple):
    """A remembered verdict."""

    value: float
    """0 (wrong) to 1 (right)."""
    judged_by: str
    """Source of the label: `ground_truth` or `person`; `gold` if a verifier compared the answer with a stored gold."""
    judged_at: str | None
    """Time at which the judged rollout was stored, ISO 8601 in UTC; None if it is not recorded."""


class Contradiction(NamedTuple):
    """An answer with labels that contradict each other."""

    query: str
    answer: str
    right: int
    """Number of labels above `RIGHT`."""
    wrong: int
    right_in: tuple[str, ...]
    """Datasets of the rollouts with these labels."""
    wrong_in: tuple[str, ...]


@dataclass(frozen=True)
class Verdicts:
    """The visible verdicts of a memory.

    Attributes:
        answers: by answer id, which includes the query.
        settled: by query id, the right verdict that settles the query.
        golds: by query id, visible reference answers of queries, which a verifier can compare an answer with.
        contradictions: answers whose labels contradict each other.
        two_right: by query id, right answers (ids) of a query that has several, although one value is right.
    """

    answers: Mapping[str, Verdict] = field(default_factory=dict)
    settled: Mapping[str, Verdict] = field(default_factory=dict)
    golds: Mapping[str, str] = field(default_factory=dict)
    contradictions: tuple[Contradiction, ...] = ()
    two_right: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def on(self, query: str, answer: str | None) -> Verdict | None:
        """The verdict on an answer of a query; None if there is none.

        Args:
            query: id of the query.
            answer: id of the answer; None for a rollout without an answer.
        """
        judged = self.answers.get(answer) if answer is not None else None
        if judged is not None:
            return judged
        right = self.settled.get(query)
        return None if right is None else right._replace(value=0.0)

    def warning(self) -> str | None:
        """A sentence about contradictions and about queries with two right answers; None without any."""
        return "; ".join(filter(None, (self._contradicting(), self._several_right()))) or None

    def _several_right(self) -> str | None:
        if not self.two_right:
            return None
        (query, answers), count = next(iter(self.two_right.items())), len(self.two_right)
        return (
            f"{count:,} {'queries have' if count > 1 else 'query has'} two right answers by the labels where one value "
            f"is right, such as {query} ({' and '.join(answers[:2])}); they count as right and every other answer as "
            "wrong, so correct a wrong one with `memstore label --replace`"
        )

    def _contradicting(self) -> str | None:
        if not self.contradictions:
            return None
        first, count = self.contradictions[0], len(self.contradictions)
        right, wrong = (" and ".join(map(str, names)) for names in (first.right_in, first.wrong_in))
        return (
            f"{count:,} answer{'s have' if count > 1 else ' has'} labels that contradict each other, such as "
            f"{first.answer} of query {first.query} ({first.right:,} right in {right}, {first.wrong:,} wrong in "
            f"{wrong}); they count as not judged unless a person's labels agree, so correct them with `memstore label "
            "--replace`"
        )


def verdicts_of(snapshot: Snapshot, seen: Visible) -> Verdicts:
    """Derive the verdicts on the answers of a snapshot from the labels that may be seen."""
    found, query_of = _judged(snapshot, seen.reward)
    ids = snapshot.answers["id"].take(found.answer).to_pylist()
    judged = {
        ids[row]: Verdict(
            float(found.value[row]), PERSON if found.person[row] else GROUND_TRUTH, _time(int(found.stored_at[row]))
        )
        for row in np.flatnonzero(found.agree)
    }
    queries = snapshot.queries["id"].to_pylist()
    domains = snapshot.queries["domain"].to_pylist()
    settled: dict[str, Verdict] = {}
    right_answers: dict[str, tuple[str, ...]] = {}
    contradictions = []
    datasets = _datasets_of(snapshot, seen.reward, found.answer[found.contested])
    for row, (answer, query) in enumerate(zip(ids, query_of[found.answer].tolist(), strict=True)):
        verdict = judged.get(answer)
        if verdict is not None and verdict.value > RIGHT and domains[query] in ONE_RIGHT_VALUE:
            settled.setdefault(queries[query], verdict)
            right_answers[queries[query]] = (*right_answers.get(queries[query], ()), answer)
        if found.contested[row]:
            right = int(found.right[row])
            where = (tuple(datasets.get((int(found.answer[row]), side), ())) for side in (True, False))
            contradictions.append(Contradiction(queries[query], answer, right, int(found.count[row]) - right, *where))
    golds = _golds(snapshot, seen.queries)
    two_right = {query: own for query, own in right_answers.items() if len(own) > 1}
    return Verdicts(judged, settled, golds, tuple(contradictions), two_right)


def _judged(snapshot: Snapshot, reward: FloatVector) -> tuple[JudgedAnswers, IntVector]:
    """The answers with visible labels (float64 [T], NaN elsewhere), and the query of every answer, int64 [A]."""
    leads = snapshot.edges["leads_to"]
    query_of = np.zeros(snapshot.answers.num_rows, np.int64)
    query_of[leads.target] = query_of_thinkings(snapshot)[leads.source]
    known = np.isfinite(reward[leads.source])
    rollout, answer = leads.source[known], leads.target[known]
    _, person, stored_at = label_columns(snapshot.thinkings)
    return judge(answer, reward[rollout], person[rollout], stored_at[rollout]), query_of


def _datasets_of(snapshot: Snapshot, reward: FloatVector, answers: IntVector) -> dict[tuple[int, bool], list[str]]:
    """Datasets in which answers (rows) have right labels, by answer and True, and wrong ones, by answer and False."""
    leads = snapshot.edges["leads_to"]
    known = np.isin(leads.target, answers) & np.isfinite(reward[leads.source])
    rows, names = leads.source[known], set[tuple[int, bool, str]]()
    columns = (leads.target[known].tolist(), (reward[rows] > RIGHT).tolist())
    names.update(zip(*columns, snapshot.thinkings["dataset"].take(pa.array(rows)).to_pylist(), strict=True))
    found: dict[tuple[int, bool], list[str]] = {}
    for answer, right, name in sorted(names, key=str):
        found.setdefault((answer, right), []).append(name)
    return found


def _time(stored_at: int) -> str | None:
    """A time of `JudgedAnswers` as ISO 8601."""
    return None if stored_at == NO_TIME else (_EPOCH + dt.timedelta(microseconds=stored_at)).isoformat()


def _golds(snapshot: Snapshot, queries: BoolVector) -> dict[str, str]:
    """Visible reference answers by query id; {} if the snapshot has none."""
    if "gold" not in snapshot.queries.column_names:
        return {}
    rows = zip(snapshot.queries["id"].to_pylist(), snapshot.queries["gold"].to_pylist(), queries.tolist(), strict=True)
    return {query: gold for query, gold, seen in rows if seen and gold and not gold.isspace()}
