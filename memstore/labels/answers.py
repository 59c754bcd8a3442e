"""Verdicts on answers: label all rollouts of a query that give an answer.

Where a query has one right answer (`memstore.graph.verdicts.ONE_RIGHT_VALUE`), a right answer makes the others wrong:
their rollouts are labelled 0, and so are the rollouts without a readable answer. In the other domains a verdict says
nothing of other answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from memstore.errors import InputError, LabelConflict
from memstore.graph.verdicts import ONE_RIGHT_VALUE, RIGHT
from memstore.labels.answer_index import AnswerIndex
from memstore.labels.batches import label_rollouts
from memstore.locations.stores import Stores
from memstore_schema.columns import NodeLabel

NO_ANSWER = -1
"""Position of the answer of a rollout without a readable answer."""


class AnswerVerdict(NamedTuple):
    """What a person says about an answer of a query."""

    query: str
    """Id of the query, its beginning, a key that a source gives it, or its text."""
    answer: str | None
    """The answer as written by a rollout, in another form of the same value, or its id; None: every answer."""
    reward: float | None
    """0 (wrong) to 1 (right); None removes the labels."""
    where: str = ""
    """Where it was read, for errors: `labels.csv:2: `."""


class LabelledAnswers(NamedTuple):
    """Result of `label_answers`."""

    batch: str | None
    """Id of the batch, which `undo_labels` takes; None if nothing changed."""
    queries: int
    answers: int
    """Answers that were judged, those that became wrong by a right one included."""
    rollouts: int
    """Rollouts that these answers have."""
    changed: int
    """Rollouts whose label changed."""


class _Judged(NamedTuple):
    """A verdict on one answer: positions in the index, and what it follows from."""

    query: int
    answer: int
    reward: float | None
    follows: bool
    """It follows from the right answer."""
    where: str


def label_answers(
    stores: Stores,
    verdicts: Sequence[AnswerVerdict],
    *,
    by: str | None = None,
    reason: str | None = None,
    seconds: float | None = None,
    replace: bool = False,
    index: AnswerIndex | None = None,
) -> LabelledAnswers:
    """Label the rollouts of answers as one batch, with the source `person`.

    Args:
        by, reason, seconds, replace: as in `memstore.labels.batches.label_rollouts`.
        index: the answers of the memory, if they are read already.

    Raises:
        LabelConflict: a verdict contradicts a label in the memory and `replace` is False; nothing is written.
        InputError: a query or answer is unknown or ambiguous, or two verdicts contradict each other;
            nothing is written.
    """
    index = index or AnswerIndex.read(stores.graph)
    judged = _judged(index, verdicts)
    rows = {(one.query, one.answer): index.rollouts_with(one.query, one.answer) for one in judged}
    stored = _stored(stores, index, np.unique(np.concatenate([np.empty(0, np.int64), *rows.values()])))
    rewards: dict[str, float | None] = {}
    for one in judged:
        for rollout in index.rollout_ids(rows[one.query, one.answer]):
            known = stored.get(rollout)
            if one.follows and known is not None and known <= RIGHT:
                continue  # a wrong answer stays as it was judged
            if known is not None and one.reward is not None and known != one.reward and not replace:
                raise LabelConflict(_contradiction(index, one, known))
            rewards[rollout] = one.reward
    batch = label_rollouts(stores, rewards, by=by, reason=reason, seconds=seconds, replace=replace)
    answers = sum(one.answer != NO_ANSWER for one in judged)
    total = sum(len(found) for found in rows.values())
    changed = 0 if batch is None else len(batch.changes)
    return LabelledAnswers(
        None if batch is None else batch.id, len({one.query for one in judged}), answers, total, changed
    )


def _judged(index: AnswerIndex, verdicts: Sequence[AnswerVerdict]) -> list[_Judged]:
    """The verdict on each answer, with those that follow."""
    found: dict[tuple[int, int], _Judged] = {}
    for verdict in verdicts:
        query = index.query(verdict.query, verdict.where)
        if verdict.answer is not None:
            answers = [index.answer(query, verdict.answer, verdict.where)]
        elif verdict.reward is not None and verdict.reward > RIGHT:
            raise InputError(f"{verdict.where}the right answer is not named; give it in `answer`")
        else:
            answers = index.answers_of(query)
        for answer in answers:
            one = _Judged(query, answer, verdict.reward, False, verdict.where)
            if found.setdefault((query, answer), one).reward != one.reward:
                raise InputError(
                    f"{one.where}the answer {index.answer_text(answer)!r} of the query {index.query_ids[query]} is "
                    "given two verdicts; keep one of them"
                )
    right = [one for one in found.values() if one.reward is not None and one.reward > RIGHT]
    for one in right:
        if index.domains[one.query] not in ONE_RIGHT_VALUE:
            continue
        for answer in [*index.answers_of(one.query), NO_ANSWER]:
            other = _Judged(one.query, answer, 0.0, True, one.where)
            given = found.setdefault((one.query, answer), other)
            if answer != one.answer and given.reward is not None and given.reward > RIGHT:
                raise InputError(
                    f"{given.where}the query {index.query_ids[one.query]} is given two right answers, "
                    f"{index.answer_text(one.answer)!r} and {index.answer_text(answer)!r}; keep one of them"
                )
    return list(found.values())


def _stored(stores: Stores, index: AnswerIndex, rows: np.ndarray) -> dict[str, float | None]:
    table = stores.graph.nodes(NodeLabel.THINKING, ["id", "reward"], ids=index.rollout_ids(rows))
    return dict(zip(table["id"].to_pylist(), table["reward"].to_pylist(), strict=True))


def _contradiction(index: AnswerIndex, one: _Judged, known: float) -> str:
    answer = (
        f"the answer {index.answer_text(one.answer)!r}" if one.answer != NO_ANSWER else "a rollout without an answer"
    )
    why = ", because another answer is said to be right" if one.follows else ""
    return (
        f"{one.where}{answer} of the query {index.query_ids[one.query]} has the label {known:g} and is now said to "
        f"have {one.reward:g}{why}; pass --replace (replace=True) to overwrite it"
    )
