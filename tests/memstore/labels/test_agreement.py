"""Agreement between people, and verdicts that confirm the label of another person."""

from __future__ import annotations

import pytest

from memstore.errors import LabelConflict
from memstore.labels.agreement import Agreement, agreement
from memstore.labels.answer_index import AnswerIndex
from memstore.labels.answers import AnswerVerdict
from memstore.labels.journal import Change, Journal
from memstore.labels.questions import read_query
from memstore.memory import Memory
from tests.memstore.labels.conftest import CODE, SUM
from tests.memstore.labels.test_label_answers import labels


def people(memory: Memory) -> list[Agreement]:
    return agreement(Journal(memory.folder).verdicts())


def contradiction(memory: Memory) -> list[Change]:
    """What is right by the last batch is said to be wrong."""
    changes = Journal(memory.folder).batches()[-1].changes
    return [Change(change.rollout, 1.0, "person", 0.0) for change in changes if change.after == 1.0]


def test_equal_and_overwritten_verdicts_are_counted(memory: Memory) -> None:
    right, wrong = AnswerVerdict("sum", "4", 1.0), AnswerVerdict("sum", "6", 0.0)
    memory.label_answers([right], by="ana")
    assert people(memory) == []
    confirmed = memory.label_answers([wrong], by="ben")
    assert (confirmed.changed, confirmed.batch is None) == (0, False)
    assert people(memory) == [Agreement(("ana", "ben"), 1, 1)]
    assert memory.label_answers([wrong], by="ben").batch is None, "the same person says it again"
    with pytest.raises(LabelConflict):
        memory.label_answers([AnswerVerdict("sum", "4", 0.0)], by="ben")
    memory.label_answers([AnswerVerdict("sum", "4", 0.0)], by="ben", replace=True)
    assert people(memory) == [Agreement(("ana", "ben"), 2, 1)]
    memory.undo_labels()
    assert people(memory) == [Agreement(("ana", "ben"), 1, 1)]


def test_a_contradiction_that_is_left_counts_once_and_changes_no_label(memory: Memory) -> None:
    memory.label_answers([AnswerVerdict("sum", "4", 1.0)], by="ana")
    before, batches = labels(memory, SUM), Journal(memory.folder).batches()
    changes = contradiction(memory)
    lines = [Journal(memory.folder).record(changes, "person", "ben", written=False) for _ in range(2)]
    assert people(memory) == [Agreement(("ana", "ben"), 1, 0)]
    assert (labels(memory, SUM), Journal(memory.folder).batches()) == (before, batches)
    for line in lines:
        Journal(memory.folder).record_undo(line.id, "ben")
    assert people(memory) == []
    memory.undo_labels()  # the contradiction is not what is undone
    assert set(labels(memory, SUM).values()) == {None}


def test_a_withdrawn_contradiction_leaves_later_batches_as_they_are(memory: Memory) -> None:
    memory.label_answers([AnswerVerdict("sum", "4", 1.0)], by="ana")
    changes = contradiction(memory)
    line = Journal(memory.folder).record(changes, "person", "ben", written=False)
    memory.undo_labels()
    memory.label_answers([AnswerVerdict("sum", "6", 1.0)], by="cat")
    later = Journal(memory.folder).batches()
    Journal(memory.folder).record_undo(line.id, "ben")
    assert Journal(memory.folder).batches() == later


def test_a_confirmation_is_undone_without_a_change(memory: Memory) -> None:
    memory.label_answers([AnswerVerdict("sum", "4", 1.0)], by="ana")
    before = labels(memory, SUM)
    memory.label_answers([AnswerVerdict("sum", "4", 1.0)], by="ben")
    memory.undo_labels()
    assert labels(memory, SUM) == before
    assert people(memory) == []


def test_labels_without_a_name_are_left_out(memory: Memory) -> None:
    memory.label_answers([AnswerVerdict("sum", "4", 1.0)])
    assert memory.label_answers([AnswerVerdict("sum", "4", 1.0)], by="ben").batch is None
    assert people(memory) == []


def test_an_index_of_some_queries_is_that_of_all(memory: Memory) -> None:
    whole = AnswerIndex.read(memory.graph)
    names = [whole.query_ids[whole.query(name)] for name in (SUM, CODE)]
    some = AnswerIndex(memory.graph, names)
    assert some.query_ids == sorted(names)
    for name in names:
        assert read_query(memory.stores, some, some.query(name)) == read_query(memory.stores, whole, whole.query(name))
    assert AnswerIndex(memory.graph, ["q-gone"]).query_ids == []
