"""Queries to label by keys: their answers with the labels that are stored, and what a key says about them.

1, 2, ...  this answer is right          x    the first open answer is wrong; x2: the second answer is
0          none of the answers is right

A page that shows a part of the answers means this part by 0, unless the others are labelled wrong. Numbers follow the
votes, which change when rollouts are ingested. A page, which is read before a key is pressed, sends the answers that it
has shown (`Shown`), so that a verdict is on the answer that the person saw.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from memstore.errors import InputError
from memstore.graph.verdicts import ONE_RIGHT_VALUE, RIGHT
from memstore.labels.answer_index import AnswerIndex
from memstore.labels.answers import AnswerVerdict
from memstore.locations.stores import Stores
from memstore_schema.columns import NodeLabel

_ANSWER = re.compile(r"(x?)([1-9][0-9]*)|x", re.ASCII)
"""The key of an answer."""


class ShownAnswer(NamedTuple):
    """An answer of a query."""

    text: str
    rollouts: int
    label: float | None
    """Mean label of its rollouts, if they have one."""
    answer_id: str
    rollout_ids: tuple[str, ...]


class LabelledQuery(NamedTuple):
    """A query with the labels that are stored."""

    query_id: str
    text: str
    answers: list[ShownAnswer]
    """The most frequent first."""
    labels: Mapping[str, float | None]
    """The labels of all its rollouts, by id."""
    is_open: bool
    """A verdict is missing: an answer has no label, and no answer is right where only one can be."""


class Shown(NamedTuple):
    """The answers of a query as a page has shown them."""

    answers: tuple[str, ...]
    """Ids of the numbered answers, in order."""
    state: str
    """`state_of_answers` at that time."""


def state_of_answers(query: LabelledQuery) -> str:
    """A short text that changes when a query gets another answer or loses one, but not with votes or labels."""
    ids = sorted(answer.answer_id for answer in query.answers)
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()[:16]


def read_query(stores: Stores, index: AnswerIndex, query: int) -> LabelledQuery:
    """A query of an index with its present labels."""
    return read_queries(stores, index, [query])[0]


def read_queries(stores: Stores, index: AnswerIndex, queries: Sequence[int]) -> list[LabelledQuery]:
    """Queries of an index with their present labels, which are read at once."""
    rows = [index.rollouts_of(query) for query in queries]
    ids = index.rollout_ids(np.concatenate([np.empty(0, np.int64), *rows]))
    table = stores.graph.nodes(NodeLabel.THINKING, ["id", "reward"], ids=ids)
    labels = dict(zip(table["id"].to_pylist(), table["reward"].to_pylist(), strict=True))
    return [_labelled_query(index, query, labels) for query in queries]


def _labelled_query(index: AnswerIndex, query: int, labels: Mapping[str, float | None]) -> LabelledQuery:
    rows = index.rollouts_of(query)
    ids = index.rollout_ids(rows)
    own: dict[int, list[str]] = {}
    for rollout, answer in zip(ids, index.answers_of_rollouts(rows).tolist(), strict=True):
        own.setdefault(answer, []).append(rollout)
    answers = []
    for answer in index.answers_of(query):
        known = [label for rollout in own[answer] if (label := labels.get(rollout)) is not None]
        mean = sum(known) / len(known) if known else None
        text, name = index.answer_text(answer), index.answer_id(answer)
        answers.append(ShownAnswer(text, len(own[answer]), mean, name, tuple(own[answer])))
    stored = {rollout: labels.get(rollout) for rollout in ids}
    is_open = _is_open(index.domains[query], answers)
    return LabelledQuery(index.query_ids[query], index.texts[query] or "", answers, stored, is_open)


def _is_open(domain: str, answers: Sequence[ShownAnswer]) -> bool:
    if domain in ONE_RIGHT_VALUE and any(one.label is not None and one.label > RIGHT for one in answers):
        return False
    return any(one.label is None for one in answers)


def verdict_of_key(query: LabelledQuery, key: str) -> AnswerVerdict:
    """What a key says about a query.

    Raises:
        InputError: the key has no meaning here.
    """
    answers = query.answers
    if key == "0":
        return AnswerVerdict(query.query_id, None, 0.0)
    found = _ANSWER.fullmatch(key)
    if found is None:
        raise InputError(f"{key!r} is no key; use 1-{len(answers)}, 0, x, s, u or q")
    open_ = (row for row, one in enumerate(answers) if one.label is None)
    chosen = int(found[2]) - 1 if found[2] else next(open_, len(answers))
    if chosen >= len(answers):
        raise InputError(f"there is no answer {chosen + 1}; the query has {len(answers)}")
    return AnswerVerdict(query.query_id, answers[chosen].answer_id, 0.0 if key.startswith("x") else 1.0)


def is_none_of_all(query: LabelledQuery, shown: Sequence[str]) -> bool:
    """Whether the key 0 on these answers speaks of all answers: the others, if any, are labelled wrong.

    Args:
        shown: ids of the answers.
    """
    hidden = [one for one in query.answers if one.answer_id not in set(shown)]
    return not hidden or (query.is_open and all(one.label == 0.0 for one in hidden))


def verdicts_on_shown(query: LabelledQuery, key: str, shown: Shown) -> list[AnswerVerdict]:
    """What a key says about the answers that a page has shown.

    Raises:
        InputError: the key has no meaning on the page, or the query no longer has the answers that it means.
    """
    if key == "0":
        if shown.state != state_of_answers(query):
            raise InputError(
                "the answers of this query have changed since the page was shown, so nothing is written; read them "
                "again before you say that none is right"
            )
        wrong = [None] if is_none_of_all(query, shown.answers) else shown.answers
        return [AnswerVerdict(query.query_id, answer, 0.0) for answer in wrong]
    found = _ANSWER.fullmatch(key)
    if found is None or found[2] is None:
        raise InputError(f"{key!r} is no key of this page; press the number of an answer, x and a number, 0, s or u")
    number = int(found[2])
    if number > len(shown.answers):
        raise InputError(f"the page has shown no answer {number}, so nothing is written; choose one of its answers")
    answer = shown.answers[number - 1]
    if all(one.answer_id != answer for one in query.answers):
        raise InputError(
            f"the answer that was shown as {number} is no longer among those of this query, so nothing is written; "
            "read the answers again"
        )
    return [AnswerVerdict(query.query_id, answer, 0.0 if key.startswith("x") else 1.0)]


def verdict_in_words(query: LabelledQuery, verdicts: Sequence[AnswerVerdict], changed: int) -> str:
    """A sentence about what a key says, and how many rollouts it has labelled."""
    verdict = verdicts[0]
    if verdict.answer is None:
        what = "none of the answers is right"
    elif len(verdicts) > 1:
        what = f"none of these {len(verdicts)} answers is right"
    else:
        text = next(one.text for one in query.answers if one.answer_id == verdict.answer)
        what = f"{text!r} is {'right' if verdict.reward else 'wrong'}"
    return f"{what}; {changed:,} rollout{'' if changed == 1 else 's'} labelled"
