"""Verdicts on answers: what the labels of the rollouts that gave an answer say about it.

A verdict is the mean of the labels that count, dated by the first of their rollouts that was stored. If a person has
labelled one of the rollouts, only the labels of persons count. Labels that contradict each other give no verdict. The
graph stores use this rule for the verdicts that they store, and the reward model for those that it may see. A verdict
says nothing about other answers of the query; `memstore_gnn.data.verdicts` adds that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from memstore.graph.protocol import EdgeTable
from memstore.types import BoolVector, FloatVector, IntVector
from memstore_schema.columns import NODE_COLUMNS, TIME, NodeLabel

RIGHT = 0.5
"""A label above this says that the answer is right."""
ONE_RIGHT_VALUE = frozenset({"math", "qa"})
"""Domains in which a query has one right answer."""
PERSON = "person"
GROUND_TRUTH = "ground_truth"
NO_TIME = np.iinfo(np.int64).max
"""Time of a rollout for which none is recorded."""
_LABEL_COLUMNS = ("reward", "reward_source", "created_at")
_THINKING = NODE_COLUMNS[NodeLabel.THINKING]
ANSWER_LABELS = pa.schema([("answer_id", pa.string()), *((name, _THINKING[name]) for name in _LABEL_COLUMNS)])
"""Labels by answer: columns of the labelled rollouts, and the id of the answer that each gave."""
VERDICT_COLUMNS = ("verdict", "verdict_source", "verdict_at")
"""Columns of Answer that follow from the labels."""


@dataclass(frozen=True)
class JudgedAnswers:
    """C answers that have labels."""

    answer: IntVector
    """int64 [C], ascending."""
    count: IntVector
    """int64 [C], number of labels."""
    right: IntVector
    """int64 [C], number of labels above `RIGHT`."""
    agree: BoolVector
    """bool [C], the labels that count do not contradict each other: there is a verdict."""
    value: FloatVector
    """float64 [C], mean of the labels that count, 0..1."""
    person: BoolVector
    """bool [C], the labels that count are those of persons."""
    stored_at: IntVector
    """int64 [C], when the first rollout with a label that counts was stored, in microseconds since 1970; `NO_TIME` if
    that is not recorded."""

    @property
    def contested(self) -> BoolVector:
        """bool [C], some labels are right and some are wrong."""
        return np.asarray((self.right > 0) & (self.right < self.count), np.bool_)


def judge(answer: IntVector, reward: FloatVector, person: BoolVector, stored_at: IntVector) -> JudgedAnswers:
    """Derive verdicts from labels.

    Args:
        answer: int64 [N], the answer that each labelled rollout gave.
        reward: float64 [N], the labels, 0..1.
        person: bool [N], the label is a person's.
        stored_at: int64 [N], microseconds since 1970, or `NO_TIME`.
    """
    # A sum of floats depends on the order, and a verdict must not.
    order = np.lexsort((reward, answer))
    answer, reward, person, stored_at = answer[order], reward[order], person[order], stored_at[order]
    answers, cell = np.unique(answer, return_inverse=True)
    size, right = len(answers), reward > RIGHT

    def total(values: BoolVector | FloatVector) -> FloatVector:
        return np.asarray(np.bincount(cell, values, size), np.float64)

    by_person = total(person) > 0
    counts = person | ~by_person[cell]
    counted, counted_right = total(counts), total(counts & right)
    first = np.full(size, NO_TIME)
    np.minimum.at(first, cell[counts], stored_at[counts])
    return JudgedAnswers(
        answer=answers.astype(np.int64),
        count=np.bincount(cell, minlength=size).astype(np.int64),
        right=total(right).astype(np.int64),
        agree=(counted_right == 0) | (counted_right == counted),
        value=total(np.where(counts, reward, 0.0)) / np.maximum(counted, 1),
        person=by_person,
        stored_at=first,
    )


def label_columns(thinkings: pa.Table) -> tuple[FloatVector, BoolVector, IntVector]:
    """Reward float64 [T] (NaN without a label), whether a person gave it bool [T], and time stored int64 [T]."""
    reward = np.asarray(thinkings["reward"].to_numpy(zero_copy_only=False), np.float64)
    person = np.asarray(pc.equal(thinkings["reward_source"], PERSON).fill_null(False).to_numpy(), np.bool_)
    stored_at = thinkings["created_at"].cast(pa.int64()).fill_null(NO_TIME).to_numpy()
    return reward, person, np.asarray(stored_at, np.int64)


def with_verdicts(answers: pa.Table, labels: pa.Table) -> pa.Table:
    """The answers with the verdicts that follow from labels.

    Args:
        answers: a table with `id`, unique; earlier verdicts in it are replaced.
        labels: a table with the columns of `ANSWER_LABELS`. Rows without a reward, or of other answers, do not count.
    """
    labels = labels.select(ANSWER_LABELS.names)
    row = pc.index_in(labels["answer_id"], value_set=answers["id"])
    known = pc.and_(pc.is_valid(row), pc.is_valid(labels["reward"]))
    judged = judge(row.filter(known).to_numpy().astype(np.int64), *label_columns(labels.filter(known)))
    at, size = judged.answer[judged.agree], answers.num_rows
    verdict, source, time = np.full(size, np.nan), np.full(size, None, np.object_), np.full(size, NO_TIME)
    verdict[at] = judged.value[judged.agree]
    source[at] = np.where(judged.person, PERSON, GROUND_TRUTH)[judged.agree]
    time[at] = judged.stored_at[judged.agree]
    columns = (
        pa.array(verdict, from_pandas=True),
        pa.array(source, pa.string()),
        pa.array(time, pa.int64(), mask=time == NO_TIME).cast(TIME),
    )
    answers = answers.select([name for name in answers.column_names if name not in VERDICT_COLUMNS])
    for name, column in zip(VERDICT_COLUMNS, columns, strict=True):
        answers = answers.append_column(name, column)
    return answers


def labels_by_answer(answers: pa.ChunkedArray, thinkings: pa.Table, leads_to: EdgeTable) -> pa.Table:
    """The labels of rollouts by the answers that they lead to (`ANSWER_LABELS`).

    Args:
        answers: ids of all answers, in the order that `leads_to` refers to.
        thinkings: all rollouts, in that order too.
    """
    columns = {name: thinkings[name].take(pa.array(leads_to.source)) for name in _LABEL_COLUMNS}
    return pa.table({"answer_id": answers.take(pa.array(leads_to.target)), **columns})
