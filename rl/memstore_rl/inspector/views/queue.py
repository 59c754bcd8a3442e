"""The query that a person is to label: why this one, its answers with votes and probability, and what came of a key."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from memstore.labels.agreement import Agreement
from memstore.labels.questions import LabelledQuery, Shown, is_none_of_all
from memstore_rl.inspector.desk import Desk, Outcome, Turn, numbered
from memstore_rl.inspector.label_queue import QueueEntry
from memstore_rl.inspector.recurring import Computed
from memstore_rl.inspector.texts import Cut, cut
from memstore_rl.inspector.views.missing import NotThere

QUERY_TEXT = 20_000
ANSWER_TEXT = 2_000
WAIT_S = 0.25
"""Seconds that a page waits for a queue that is being chosen."""
SECOND = "It is settled. Its labels are not shown, so that your verdict is a second opinion."


@dataclass(frozen=True)
class AnswerLine:
    """An answer of the query."""

    number: int
    """From 1; it is the key of the first nine."""
    id: str
    text: Cut
    votes: int
    share: float
    probability: float | None
    label: float | None
    """None without a label, or where it is hidden."""


@dataclass(frozen=True)
class Asked:
    """A query to label."""

    id: str
    text: Cut
    why: str
    """Why this one, in words."""
    audit: bool
    is_open: bool
    """A verdict is missing."""
    position: int
    """In the queue, from 1; 0 if it is not of the queue."""
    rollouts: int
    answers: tuple[AnswerLine, ...]
    more: int
    """Answers that are not shown."""
    none_of_all: bool
    """The key 0 says that none of all answers is right, not only none of those that are shown."""
    shown: Shown
    """What the numbers stand for; the form sends it with a key."""


@dataclass(frozen=True)
class QueuePage:
    """The page of a person."""

    asked: Asked | None
    alone: bool
    """The query was chosen by its address."""
    outcome: Outcome | None
    total: int
    p_from: str | None
    running: bool
    failure: str | None
    agreement: Computed[list[Agreement]]
    rescoring: tuple[bool, str] | None
    """Whether other rollouts are scored again now, and a sentence."""


def queue_page(desk: Desk, person: str, query: str | None) -> QueuePage:
    """The next query of a person, or one that the person has chosen.

    Raises:
        NotThere: the chosen query does not exist.
        InputError: another person is labelling it now.
    """
    state = desk.queue.get(WAIT_S)
    turn = desk.next(person, state) if query is None else desk.one(person, query, state)
    if turn is None and query is not None:
        raise NotThere(f"there is no query {query}; search for it by its text or key")
    return QueuePage(
        asked=_asked(desk, turn) if turn else None,
        alone=query is not None,
        outcome=desk.take_outcome(person),
        total=len(state.entries),
        p_from=state.p_from,
        running=state.running,
        failure=state.failure,
        agreement=desk.agreement(WAIT_S),
        rescoring=desk.rescoring(),
    )


def _asked(desk: Desk, turn: Turn) -> Asked:
    query, entry = turn.query, turn.entry
    scores = desk.probabilities(query.query_id)
    return Asked(
        id=query.query_id,
        text=cut(query.text, QUERY_TEXT),
        why=_why(entry) if query.is_open else SECOND,
        audit=entry is not None and entry.audit,
        is_open=query.is_open,
        position=turn.position,
        rollouts=len(query.labels),
        answers=tuple(_lines(query, entry, scores)),
        more=len(query.answers) - len(turn.shown.answers),
        none_of_all=is_none_of_all(query, turn.shown.answers),
        shown=turn.shown,
    )


def _lines(query: LabelledQuery, entry: QueueEntry | None, scores: Mapping[str, float]) -> list[AnswerLine]:
    lines = []
    for number, answer in enumerate(numbered(query), start=1):
        known = [scores[rollout] for rollout in answer.rollout_ids if rollout in scores]
        queued = None if entry is None else entry.probability.get(answer.answer_id)
        lines.append(
            AnswerLine(
                number=number,
                id=answer.answer_id,
                text=cut(answer.text, ANSWER_TEXT),
                votes=answer.rollouts,
                share=answer.rollouts / len(query.labels),
                probability=sum(known) / len(known) if known else queued,
                label=answer.label if query.is_open else None,
            )
        )
    return lines


def _why(entry: QueueEntry | None) -> str:
    """Why a query was chosen, with its worth in words."""
    if entry is None:
        return "You have chosen it."
    if entry.audit:
        return "It was drawn at random to measure the reward model: no training sees its labels."
    if (worth := entry.why.get("worth")) is not None:
        change = math.sqrt(max(worth, 0.0))
        return f"A verdict is expected to change the advantage of a rollout by about {change:.2f} ({entry.reason})."
    if (gain := entry.why.get("gain")) is not None:
        return f"Its label says most about the uncertain queries: it covers {gain:.1%} of them ({entry.reason})."
    return f"{entry.reason[:1].upper()}{entry.reason[1:]}."
