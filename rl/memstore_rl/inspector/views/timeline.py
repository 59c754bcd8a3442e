"""The timeline of a query: shares of its answers and mean rewards by step, for one policy of one run.

It counts as the named query `history` does: the majority of a step is its most frequent answer and, of answers with as
many votes, the one whose text comes first. The prediction is that of the model in use. An answer has died out at the
first step from which on no rollout gives it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from memstore_rl.inspector.source import Source
from memstore_rl.inspector.texts import one_line
from memstore_rl.inspector.views.group import rollouts_of, scores_of
from memstore_rl.inspector.views.missing import NotThere
from memstore_schema.columns import NodeLabel

ANSWERS = 8
"""Answers with a line and a column of their own; the others are one."""
STEPS = 100
"""Steps of a page of the table."""
FLIPS = 20
"""Changes of the majority that are listed."""
ANSWER_TEXT = 60


@dataclass(frozen=True)
class Series:
    """The rollouts of a query that one policy made in one run."""

    policy: str | None
    run: str | None
    rollouts: int
    steps: int
    """Steps that the rollouts name."""


@dataclass(frozen=True)
class AnswerLife:
    """An answer of a series over its steps."""

    id: str | None
    """None for rollouts without an answer."""
    text: str
    verdict: float | None
    votes: int
    first: int | None
    """The first step in which it occurs; None if only rollouts without a step give it."""
    died: int | None
    """The step at which it died out; None if the last step has it."""


@dataclass(frozen=True)
class Moment:
    """A step of a series."""

    step: int | None
    """None for rollouts that name none."""
    rollouts: int
    answers: int
    shares: tuple[float, ...]
    """Share of each answer of the timeline among the rollouts, and of all others together if there are any."""
    top: str | None
    """Id of the most frequent answer."""
    top_text: str
    top_share: float
    labelled: int
    reward: float | None
    """Mean label."""
    predicted: float | None
    """Mean probability by the model in use."""


@dataclass(frozen=True)
class Flip:
    """A change of the majority between two steps."""

    step: int
    before: str
    after: str


@dataclass(frozen=True)
class Timeline:
    """A query over the steps of one policy and run."""

    id: str
    text: str
    series: tuple[Series, ...]
    """All of the query, those with most steps first."""
    chosen: Series | None
    """None if the query has no rollouts."""
    model: str | None
    answers: tuple[AnswerLife, ...]
    others: int
    """Answers beyond these."""
    moments: tuple[Moment, ...]
    """All steps, rollouts without a step first."""
    flips: tuple[Flip, ...]

    @property
    def stepped(self) -> tuple[Moment, ...]:
        """The moments that are steps."""
        return tuple(moment for moment in self.moments if moment.step is not None)

    def page(self, after: int | None) -> tuple[Moment, ...]:
        """The moments of a page of the table: those after a step, `STEPS` at most."""
        later = [one for one in self.moments if after is None or (one.step is not None and one.step > after)]
        return tuple(later[:STEPS])


def timeline(source: Source, query: str, series: tuple[str | None, str | None] | None = None) -> Timeline:
    """The timeline of a query.

    Args:
        series: policy and run; by default those with most steps.

    Raises:
        NotThere: the query does not exist, or has no rollouts of this policy and run.
    """
    found = source.nodes(NodeLabel.QUERY, ["text"], ids=[query])
    if not len(found):
        raise NotThere(f"there is no query {query}; search for it by its text or key")
    rows = rollouts_of(source, query)
    known = _series(rows)
    chosen = next((one for one in known if series is None or (one.policy, one.run) == series), None)
    if series is not None and chosen is None:
        raise NotThere("the query has no rollouts of this policy and run; choose one of its timeline")
    own = [row for row in rows if chosen is not None and (row["policy"], row["run"]) == (chosen.policy, chosen.run)]
    model = source.model_in_use()
    scores = scores_of(source, query, model)
    nodes = _answers(source, own)
    votes = Counter(row["answer"] for row in own)
    ranked = sorted(votes, key=lambda name: (-votes[name], _text(nodes, name), name or ""))
    moments = _moments(own, scores, nodes, ranked)
    return Timeline(
        id=query,
        text=one_line(found["text"][0].as_py()),
        series=known,
        chosen=chosen,
        model=model,
        answers=tuple(_life(name, votes[name], own, nodes) for name in ranked[:ANSWERS]),
        others=max(0, len(ranked) - ANSWERS),
        moments=moments,
        flips=_flips(moments),
    )


def _series(rows: Sequence[dict[str, Any]]) -> tuple[Series, ...]:
    steps: dict[tuple[str | None, str | None], set[int]] = {}
    counts = Counter((row["policy"], row["run"]) for row in rows)
    for row in rows:
        known = steps.setdefault((row["policy"], row["run"]), set())
        if row["step"] is not None:
            known.add(row["step"])
    found = [Series(*names, count, len(steps[names])) for names, count in counts.items()]
    return tuple(sorted(found, key=lambda one: (-one.steps, -one.rollouts, one.policy or "", one.run or "")))


def _answers(source: Source, rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    ids = sorted({row["answer"] for row in rows if row["answer"] is not None})
    nodes = source.nodes(NodeLabel.ANSWER, ["id", "text", "verdict"], ids=ids).to_pylist()
    return {node["id"]: node for node in nodes}


def _text(nodes: Mapping[str, dict[str, Any]], name: str | None) -> str:
    return "" if name is None else str(nodes[name]["text"] or "")


def _moments(
    rows: Sequence[dict[str, Any]],
    scores: Mapping[str, dict[str, Any]],
    nodes: Mapping[str, dict[str, Any]],
    ranked: Sequence[str | None],
) -> tuple[Moment, ...]:
    """The steps in their order, rollouts without a step first."""
    of_step: dict[int | None, list[dict[str, Any]]] = {}
    for row in rows:
        of_step.setdefault(row["step"], []).append(row)
    ordered = sorted(of_step, key=lambda step: (step is not None, step or 0))
    return tuple(_moment(step, of_step[step], scores, nodes, ranked) for step in ordered)


def _moment(
    step: int | None,
    rows: Sequence[dict[str, Any]],
    scores: Mapping[str, dict[str, Any]],
    nodes: Mapping[str, dict[str, Any]],
    ranked: Sequence[str | None],
) -> Moment:
    votes = Counter(row["answer"] for row in rows)
    shares = [votes[name] / len(rows) for name in ranked[:ANSWERS]]
    if len(ranked) > ANSWERS:
        shares.append(1 - sum(votes[name] for name in ranked[:ANSWERS]) / len(rows))
    given = [name for name in votes if name is not None]
    top = min(given, key=lambda name: (-votes[name], _text(nodes, name), name), default=None)
    labels = [row["reward"] for row in rows if row["reward"] is not None]
    predicted = [scores[row["id"]]["probability"] for row in rows if row["id"] in scores]
    return Moment(
        step=step,
        rollouts=len(rows),
        answers=len(given),
        shares=tuple(shares),
        top=top,
        top_text=one_line(_text(nodes, top), ANSWER_TEXT),
        top_share=votes[top] / len(rows) if top is not None else 0.0,
        labelled=len(labels),
        reward=_mean(labels),
        predicted=_mean(predicted),
    )


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _life(
    name: str | None, votes: int, rows: Sequence[dict[str, Any]], nodes: Mapping[str, dict[str, Any]]
) -> AnswerLife:
    steps = sorted({row["step"] for row in rows if row["step"] is not None})
    own = {row["step"] for row in rows if row["answer"] == name and row["step"] is not None}
    return AnswerLife(
        id=name,
        text=one_line(_text(nodes, name), ANSWER_TEXT),
        verdict=nodes[name]["verdict"] if name is not None else None,
        votes=votes,
        first=min(own, default=None),
        died=next((step for step in steps if step > max(own)), None) if own else None,
    )


def _flips(moments: Sequence[Moment]) -> tuple[Flip, ...]:
    """The changes of the majority; a step without any answer has none."""
    led = [moment for moment in moments if moment.step is not None and moment.top is not None]
    return tuple(
        Flip(after.step, before.top_text, after.top_text)
        for before, after in pairwise(led)
        if after.step is not None and before.top != after.top
    )
