"""Labels that follow from a right answer: what keeps them, what removes them, and what undo does to them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from memstore.errors import InputError, LabelConflict
from memstore.labels.answers import AnswerVerdict
from memstore.labels.export import export_labels
from memstore.labels.files import read_labels
from memstore.labels.journal import Journal
from memstore.memory import Memory
from memstore.testing.doubles.embedder import HashEmbedder
from tests.memstore.labels.conftest import ROWS, SUM
from tests.memstore.labels.test_label_answers import labels

RIGHT_FOUR = AnswerVerdict("sum", "4", 1.0)
SETTLED = {"4": 1.0, "4.0": 1.0, "5": 0.0, "6": 0.0, "": 0.0}


def right_rollouts(memory: Memory) -> list[str]:
    return [row[0] for row in memory.cypher("MATCH (t:Thinking) WHERE t.reward = 1.0 RETURN t.id").rows]


@pytest.mark.parametrize("label", [None, 0.0])
def test_labels_of_single_rollouts_withdraw_a_right_answer_too(memory: Memory, label: float | None) -> None:
    memory.label_answers([RIGHT_FOUR])
    first, *others = right_rollouts(memory)
    memory.label({first: label}, replace=True)
    assert labels(memory, SUM)["5"] == 0.0, "another rollout still says that the answer is right"
    memory.label(dict.fromkeys(others, label), replace=True)
    assert labels(memory, SUM) == {"4": label, "4.0": label, "5": None, "6": None, "": None}
    memory.undo_labels()
    memory.undo_labels()
    assert labels(memory, SUM) == SETTLED


@pytest.mark.parametrize("name", ["labels.jsonl", "labels.json"])
def test_exported_labels_that_are_read_again_change_nothing(memory: Memory, tmp_path: Path, name: str) -> None:
    memory.label_answers([RIGHT_FOUR], by="ana")
    export_labels(memory.stores, tmp_path / name)
    again = memory.label_answers(read_labels(tmp_path / name).answers)
    assert (again.batch, again.changed, again.rollouts) == (None, 0, 6)
    assert len(Journal(memory.folder).batches()) == 1
    memory.label_answers([AnswerVerdict("sum", "4", None)])
    assert set(labels(memory, SUM).values()) == {None}


@pytest.mark.parametrize("name", ["labels.jsonl", "labels.csv", "labels.json"])
def test_labels_that_are_implied_stay_so_in_another_memory(memory: Memory, tmp_path: Path, name: str) -> None:
    memory.label_answers([RIGHT_FOUR, AnswerVerdict("sum", "6", 0.0)], by="ana")
    export_labels(memory.stores, tmp_path / name.replace("csv", "jsonl"))
    if name.endswith("csv"):
        rows = [json.loads(line) for line in (tmp_path / "labels.jsonl").read_text().splitlines()]
        lines = [f"{row['query_id']},{row['answer']},{row['reward']},{row['implied']}" for row in rows]
        (tmp_path / name).write_text("query_id,answer,reward,implied\n" + "\n".join(lines) + "\n")
        assert {row["answer"]: row["implied"] for row in rows} == {"4": False, "5": True, "6": False}
    with Memory.open(tmp_path / "copy", create=True, embedder=HashEmbedder()) as copy:
        copy.ingest([tmp_path / "rows.jsonl"])
        copy.label_answers(read_labels(tmp_path / name).answers)
        assert labels(copy, SUM) == SETTLED
        copy.label_answers([AnswerVerdict("sum", "4", None)])
        assert labels(copy, SUM) == {"4": None, "4.0": None, "5": None, "6": 0.0, "": None}


def test_implied_is_true_or_false(tmp_path: Path) -> None:
    (tmp_path / "labels.jsonl").write_text('{"query": "sum", "answer": "4", "reward": 1, "implied": "perhaps"}')
    with pytest.raises(InputError, match="`implied` is 'perhaps'; write true or false, or leave it empty"):
        read_labels(tmp_path / "labels.jsonl")


def test_ground_truth_of_an_ingest_is_not_implied(memory: Memory, tmp_path: Path) -> None:
    file = tmp_path / "truth.jsonl"
    [row] = [row for row in ROWS if (row["query_id"], row["answer"]) == ("sum", "5")]
    file.write_text(json.dumps(row | {"reward": 0}), encoding="utf-8")
    batch = memory.label_answers([RIGHT_FOUR]).batch
    memory.ingest([file])
    memory.label_answers([AnswerVerdict("sum", "4", None)])
    assert labels(memory, SUM) == {"4": None, "4.0": None, "5": 0.0, "6": None, "": None}
    memory.undo_labels()
    memory.undo_labels(batch)
    assert labels(memory, SUM) == {"4": None, "4.0": None, "5": 0.0, "6": None, "": None}
    found = memory.cypher("MATCH (t:Thinking) WHERE t.reward IS NOT NULL RETURN t.reward_source").rows
    assert list(found) == [("ground_truth",)]


def test_an_implied_label_without_support_contradicts_nothing(memory: Memory) -> None:
    """A statement of Cypher, or an older version, has removed the right answer."""
    memory.label_answers([RIGHT_FOUR])
    memory.graph.clear_labels(right_rollouts(memory))
    done = memory.label_answers([AnswerVerdict("sum", "5", 1.0)])
    assert labels(memory, SUM) == {"4": 0.0, "4.0": 0.0, "5": 1.0, "6": 0.0, "": 0.0}
    memory.undo_labels(done.batch)
    [five] = [row[0] for row in memory.cypher("MATCH (t)-[l:LEADS_TO]->() WHERE l.text = '5' RETURN t.id").rows]
    assert memory.label({five: 1.0}) >= 1
    assert labels(memory, SUM)["5"] == 1.0


def test_undo_leaves_an_implied_label_that_a_later_verdict_confirmed(memory: Memory) -> None:
    first = memory.label_answers([RIGHT_FOUR])
    second = memory.label_answers([AnswerVerdict("sum", "5", 0.0)], by="bo")
    memory.undo_labels(first.batch)
    assert labels(memory, SUM) == {"4": None, "4.0": None, "5": 0.0, "6": None, "": None}
    assert memory.undo_labels().id == second.batch
    assert set(labels(memory, SUM).values()) == {None}


def test_undo_of_a_confirmation_removes_a_label_that_lost_its_support(memory: Memory) -> None:
    memory.label_answers([RIGHT_FOUR])
    confirmed = memory.label_answers([AnswerVerdict("sum", "5", 0.0)])
    memory.label_answers([AnswerVerdict("sum", "4", None)])
    assert labels(memory, SUM)["5"] == 0.0
    memory.undo_labels(confirmed.batch)
    assert set(labels(memory, SUM).values()) == {None}


def test_undo_names_the_later_batch_even_if_it_gave_the_same_label(memory: Memory) -> None:
    batches = [
        memory.label_answers([AnswerVerdict("sum", "4", reward)], replace=True).batch for reward in (1.0, 0.0, 1.0)
    ]
    with pytest.raises(LabelConflict, match=f"undo the later batch {batches[2]} first"):
        memory.undo_labels(batches[0])
    assert labels(memory, SUM) == SETTLED
    assert [memory.undo_labels().id for _ in batches] == batches[::-1]
    assert set(labels(memory, SUM).values()) == {None}


def test_undo_refuses_a_batch_whose_right_answer_was_withdrawn(memory: Memory) -> None:
    first = memory.label_answers([RIGHT_FOUR]).batch
    later = memory.label_answers([AnswerVerdict("sum", "4", None)]).batch
    with pytest.raises(LabelConflict, match=f"undo the later batch {later} first"):
        memory.undo_labels(first)
    memory.undo_labels()
    assert labels(memory, SUM) == SETTLED
