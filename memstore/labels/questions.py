"""Queries to label by keys: their answers with the labels that are stored, and what a key says about them.

1, 2, ...  this answer is right          x    the first open answer is wrong; x2: the second answer is
0          none of the answers is right
"""

from __future__ import annotations

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


def verdict_in_words(query: LabelledQuery, verdict: AnswerVerdict, changed: int) -> str:
    """A sentence about a verdict, and how many rollouts it has labelled."""
    if verdict.answer is None:
        what = "none of the answers is right"
    else:
        text = next(one.text for one in query.answers if one.answer_id == verdict.answer)
        what = f"{text!r} is {'right' if verdict.reward else 'wrong'}"
    return f"{what}; {changed:,} rollout{'' if changed == 1 else 's'} labelled"
