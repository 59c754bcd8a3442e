"""Verdicts on answers: label all rollouts of a query that give an answer.

Where a query has one right answer (`memstore.graph.verdicts.ONE_RIGHT_VALUE`), a right answer makes the others wrong:
their rollouts are labelled 0, and so are the rollouts without a readable answer. When no answer is right any more,
these labels are removed (`memstore.labels.implied`). In the other domains a verdict says nothing of other answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from memstore.errors import InputError, LabelConflict
from memstore.graph.verdicts import ONE_RIGHT_VALUE, RIGHT
from memstore.labels.answer_index import AnswerIndex
from memstore.labels.batches import label_rollouts
from memstore.labels.implied import is_right, unsupported_labels
from memstore.labels.journal import Journal
from memstore.labels.problems import Problems
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
    audit: bool = False
    """Mark the query as an audit query before it is labelled (`memstore.labels.audit`)."""
    answer_id: str | None = None
    """Id of the answer. It counts where the query has an answer with this id, else `answer` does."""


class LabelledAnswers(NamedTuple):
    """Result of `label_answers`."""

    batch: str | None
    """Id of the batch, which `undo_labels` takes; None if nothing changed."""
    queries: int
    answers: int
    """Answers that were judged, those that became wrong by a right one included."""
    rollouts: int
    """Rollouts that these answers have, and those whose label goes with a right answer that is withdrawn."""
    changed: int
    """Rollouts whose label changed."""
    removed: int
    """Rollouts whose label was removed."""
    audit: int
    """Queries that the verdicts mark as audit queries."""


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
    journal = Journal(stores.location.folder)
    stored = _stored(stores, journal, index, judged)
    rewards, implied = _rewards(index, judged, stored, replace)
    implied |= _repeated(journal, index, judged, stored)
    queries = sorted({one.query for one in judged})
    audit = sorted({index.query_ids[index.query(verdict.query)] for verdict in verdicts if verdict.audit})
    batch = label_rollouts(
        stores,
        rewards,
        by=by,
        reason=reason,
        seconds=seconds,
        replace=replace,
        audit=audit,
        implied=implied,
        journal=journal,
    )
    changes = () if batch is None else batch.changes
    return LabelledAnswers(
        batch=None if batch is None else batch.id,
        queries=len(queries),
        answers=sum(one.answer != NO_ANSWER for one in judged),
        rollouts=sum(len(index.rollouts_with(one.query, one.answer)) for one in judged)
        + sum(change.rollout not in rewards for change in changes),
        changed=0 if batch is None else batch.changed,
        removed=sum(change.after is None for change in changes),
        audit=len(audit),
    )


def _rewards(
    index: AnswerIndex, judged: Sequence[_Judged], stored: Mapping[str, float | None], replace: bool
) -> tuple[dict[str, float | None], set[str]]:
    """The rewards of the rollouts of judged answers, and which of them follow from a right answer."""
    rewards: dict[str, float | None] = {}
    implied, refused = set[str](), set[tuple[int, str]]()
    problems = Problems()
    for one in judged:
        rollouts = _ids(index, one)
        if one.follows:  # a wrong answer stays as it was judged
            rollouts = [rollout for rollout in rollouts if (known := stored[rollout]) is None or known > RIGHT]
            implied.update(rollouts)
        against = [known for rollout in rollouts if (known := stored[rollout]) not in (None, one.reward)]
        row = one.query, one.where
        if against and one.reward is not None and not replace and row not in refused:
            refused.add(row)
            problems.add(LabelConflict(_contradiction(index, one, against[0])))
        rewards |= dict.fromkeys(rollouts, one.reward)
    problems.check()
    return rewards, implied


def _judged(index: AnswerIndex, verdicts: Sequence[AnswerVerdict]) -> list[_Judged]:
    """The verdict on each answer, with those that follow."""
    found: dict[tuple[int, int], _Judged] = {}
    problems = Problems()
    for verdict in verdicts:
        with problems.collect():
            _judge(index, verdict, found)
    problems.check()
    for one in list(found.values()):
        if is_right(one.reward) and index.domains[one.query] in ONE_RIGHT_VALUE:
            with problems.collect():
                _judge_others(index, one, found)
    problems.check()
    return list(found.values())


def _judge(index: AnswerIndex, verdict: AnswerVerdict, found: dict[tuple[int, int], _Judged]) -> None:
    query = index.query(verdict.query, verdict.where)
    if verdict.answer is not None:
        answers = [index.answer(query, verdict.answer, verdict.where, verdict.answer_id)]
    elif is_right(verdict.reward):
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


def _judge_others(index: AnswerIndex, right: _Judged, found: dict[tuple[int, int], _Judged]) -> None:
    """The other answers of a query are wrong."""
    for answer in [*index.answers_of(right.query), NO_ANSWER]:
        other = _Judged(right.query, answer, 0.0, True, right.where)
        given = found.setdefault((right.query, answer), other)
        if answer != right.answer and is_right(given.reward):
            raise InputError(
                f"{given.where}the query {index.query_ids[right.query]} is given two right answers, "
                f"{index.answer_text(right.answer)!r} and {index.answer_text(answer)!r}; keep one of them"
            )


def _stored(stores: Stores, journal: Journal, index: AnswerIndex, judged: Sequence[_Judged]) -> dict[str, float | None]:
    """The labels of all rollouts of the judged queries, without implied ones that lack support."""
    rows = [index.rollouts_of(query) for query in sorted({one.query for one in judged})]
    ids = index.rollout_ids(np.concatenate([np.empty(0, np.int64), *rows]))
    table = stores.graph.nodes(NodeLabel.THINKING, ["id", "reward"], ids=ids)
    stored = dict(zip(table["id"].to_pylist(), table["reward"].to_pylist(), strict=True))
    return stored | dict.fromkeys(unsupported_labels(stores.graph, journal, ids))


def _repeated(
    journal: Journal, index: AnswerIndex, judged: Sequence[_Judged], stored: Mapping[str, float | None]
) -> set[str]:
    """Rollouts whose implied label is given again together with the right answer that it follows from.

    They stay implied: a file of labels of an older export that is read again changes nothing.
    """
    labels = {(one.query, one.answer): _ids(index, one) for one in judged}
    unchanged = [one for one in judged if all(stored[name] == one.reward for name in labels[one.query, one.answer])]
    settled = {one.query for one in unchanged if is_right(one.reward)}
    wrong = [one for one in unchanged if one.query in settled and not one.follows and not is_right(one.reward)]
    found = {name for one in wrong for name in labels[one.query, one.answer]}
    return found & journal.implied() if found else found


def _ids(index: AnswerIndex, one: _Judged) -> list[str]:
    """Ids of the rollouts of a judged answer."""
    return index.rollout_ids(index.rollouts_with(one.query, one.answer))


def _contradiction(index: AnswerIndex, one: _Judged, known: float) -> str:
    answer = (
        f"the answer {index.answer_text(one.answer)!r}" if one.answer != NO_ANSWER else "a rollout without an answer"
    )
    why = ", because another answer is said to be right" if one.follows else ""
    return (
        f"{one.where}{answer} of the query {index.query_ids[one.query]} has the label {known:g} and is now said to "
        f"have {one.reward:g}{why}; pass --replace (replace=True) to overwrite it"
    )
