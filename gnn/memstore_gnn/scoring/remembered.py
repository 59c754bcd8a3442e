"""Recall verdicts: which rollouts need no prediction because the memory knows whether their answer is right.

In order of strength: the verdict on the same answer of the query; a stored reference answer that may be seen, which a
verifier compares the new answer with (`Judge`); a right verdict that settles the query. What is recalled is the reward
and the probability. No model learns it or changes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

from memstore.snapshots.snapshot import Snapshot
from memstore.types import Domain
from memstore_gnn.data.groups import query_of_thinkings
from memstore_gnn.data.verdicts import Verdict, Verdicts

GOLD = "gold"
"""`judged_by` of an answer that a verifier compared with a stored reference answer."""


class Question(NamedTuple):
    """An answer to compare with a stored reference answer."""

    domain: Domain
    query: str
    """The query's text."""
    gold: str
    answer: str
    """The answer as written; "" if there is none."""


Judge: TypeAlias = Callable[[Sequence[Question]], Sequence[float | None]]
"""Compares answers with reference answers: a reward 0..1 for each, None if it cannot tell.
`memstore_rl.verifiers.stored_golds` has one over the verifiers of rewards."""


class Given(NamedTuple):
    """A rollout to recall a verdict for."""

    query: str
    """Id of the query."""
    answer: str | None
    """Id of the answer; None without an answer."""
    domain: Domain
    text: str
    """The query's text."""
    written: str
    """The answer as written."""


def recall(verdicts: Verdicts, given: Sequence[Given], judge: Judge | None = None) -> list[Verdict | None]:
    """The remembered verdict on each rollout's answer; None where the memory does not know it.

    Args:
        judge: compares answers with stored reference answers; None leaves these unused.
    """
    judged = _by_gold(verdicts, given, judge) if judge is not None and verdicts.golds else {}
    return [judged.get((one.query, one.answer)) or verdicts.on(one.query, one.answer) for one in given]


def _by_gold(verdicts: Verdicts, given: Sequence[Given], judge: Judge) -> dict[tuple[str, str | None], Verdict]:
    """Verdicts of the judge by query and answer, each answer judged once."""
    open_: dict[tuple[str, str | None], Question] = {}
    for one in given:
        gold = verdicts.golds.get(one.query)
        if gold is not None and (one.answer is None or one.answer not in verdicts.answers):
            open_.setdefault((one.query, one.answer), Question(one.domain, one.text, gold, one.written))
    rewards = judge(list(open_.values())) if open_ else []
    return {key: Verdict(reward, GOLD, None) for key, reward in zip(open_, rewards, strict=True) if reward is not None}


def given_of(snapshot: Snapshot) -> list[Given]:
    """The rollouts of a snapshot, in the order of its thinkings."""
    leads, count = snapshot.edges["leads_to"], snapshot.thinkings.num_rows
    answers: list[str | None] = [None] * count
    written = [""] * count
    names = snapshot.answers["id"].take(leads.target).to_pylist()
    texts = leads.properties["text"].to_pylist() if "text" in leads.properties.column_names else names
    for rollout, name, text in zip(leads.source.tolist(), names, texts, strict=True):
        answers[rollout], written[rollout] = name, text or ""
    columns = [snapshot.queries[name].to_pylist() for name in ("id", "domain", "text")]
    query = query_of_thinkings(snapshot).tolist()
    return [
        Given(columns[0][row], answer, columns[1][row], columns[2][row] or "", text)
        for row, answer, text in zip(query, answers, written, strict=True)
    ]
