"""Labelling a queue by keys."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from memstore.errors import InputError
from memstore.labels.journal import Journal
from memstore.labels.label_studio import task
from memstore.labels.session import LabelSession, queue_of_file
from memstore.memory import Memory
from memstore.testing.doubles.embedder import HashEmbedder
from tests.memstore.labels.conftest import CODE, PRODUCT, SUM
from tests.memstore.labels.test_label_answers import labels


def test_keys_label_and_move_on(memory: Memory) -> None:
    session = LabelSession(memory.stores, ["sum", "product", "code"], by="ana")
    question = session.question()
    assert question is not None
    assert [(answer.text, answer.rollouts) for answer in question.answers] == [("4", 3), ("6", 1), ("5", 1)]
    assert (question.position, question.total) == (1, 3)
    assert session.press("1") == "'4' is right; 6 rollouts labelled"
    assert (session.question() or question).text == PRODUCT
    assert "wrong" in session.press("x2")
    shown = session.question()
    assert shown is not None
    assert [answer.label for answer in shown.answers] == [None, 0.0], "the query stays until it is settled"
    assert session.press("0") == "none of the answers is right; 2 rollouts labelled"
    assert (session.question() or question).text == CODE
    session.press("s")
    assert session.question() is None
    assert labels(memory, SUM)["5"] == 0.0
    last = Journal(memory.folder).batches()[-1]
    assert last.by == "ana"
    assert last.seconds is not None


def test_a_wrong_answer_leaves_the_next_open_one(memory: Memory) -> None:
    session = LabelSession(memory.stores, ["sum"])
    for expected in ("'4' is wrong", "'6' is wrong", "'5' is wrong"):
        assert session.question() is not None
        assert session.press("x").startswith(expected)
    assert session.question() is None


def test_undo_returns_to_the_query(memory: Memory) -> None:
    session = LabelSession(memory.stores, ["sum", "product"])
    session.question()
    session.press("2")
    assert (session.question() or pytest.fail("no query")).text == PRODUCT
    assert session.press("u") == "undone: 6 rollouts"
    assert (session.question() or pytest.fail("no query")).text == SUM
    assert set(labels(memory, SUM).values()) == {None}
    with pytest.raises(InputError, match="no verdict of this session to undo"):
        session.press("u")


def test_answers_beyond_the_ninth_have_keys(tmp_path: Path) -> None:
    row = {"query": "How many?", "query_id": "many", "domain": "math", "thinking": "Hm."}
    rows = [row | {"answer": str(100 + n), "sample_index": n} for n in range(11)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with Memory.open(tmp_path / "memory", create=True, embedder=HashEmbedder()) as memory:
        memory.ingest([tmp_path / "rows.jsonl"])
        session = LabelSession(memory.stores, ["many"])
        texts = [answer.text for answer in (session.question() or pytest.fail("no query")).answers]
        for number in range(9):
            assert session.press("x").startswith(f"{texts[number]!r} is wrong")
        assert session.press("x").startswith(f"{texts[9]!r} is wrong")
        session.press("u")
        assert session.press("x10").startswith(f"{texts[9]!r} is wrong")
        assert session.press("11").startswith(f"{texts[10]!r} is right")


def test_only_undo_has_a_meaning_after_the_end(memory: Memory) -> None:
    session = LabelSession(memory.stores, ["product"])
    session.question()
    session.press("1")
    assert session.question() is None
    for key in ("1", "0", "x", "s"):
        with pytest.raises(InputError, match=f"the queue has ended, so '{key}' has no meaning; use u or q"):
            session.press(key)
    assert session.press("u") == "undone: 3 rollouts"
    assert (session.question() or pytest.fail("no query")).text == PRODUCT


@pytest.mark.parametrize(
    ("key", "message"), [("7", "there is no answer 7"), ("z", "'z' is no key"), ("x9", "answer 9")]
)
def test_a_wrong_key_changes_nothing(memory: Memory, key: str, message: str) -> None:
    session = LabelSession(memory.stores, ["sum"])
    session.question()
    with pytest.raises(InputError, match=message):
        session.press(key)
    assert set(labels(memory, SUM).values()) == {None}


def test_an_unknown_query_in_a_queue(memory: Memory) -> None:
    with pytest.raises(InputError, match="no query with the id 'q-gone'"):
        LabelSession(memory.stores, ["sum", "q-gone"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has no queries"),
        ('{"query_id": "q-1"}\n{"id": 1}', ":2: a row needs `query_id`"),
        ("what", ":1: not JSON"),
        ('[{"data": {"query_id": "q-1"}}, 3]', ":2: a row needs `query_id`"),
        ("[1", "is not JSON of Label Studio"),
    ],
)
def test_a_bad_queue_file_is_one_sentence(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "queue.jsonl").write_text(content)
    with pytest.raises(InputError) as caught:
        queue_of_file(tmp_path / "queue.jsonl")
    assert message in str(caught.value)


def test_a_queue_file_gives_its_queries_in_order(tmp_path: Path) -> None:
    (tmp_path / "queue.jsonl").write_text("".join(json.dumps({"query_id": f"q-{n}"}) + "\n" for n in (3, 1)))
    assert queue_of_file(tmp_path / "queue.jsonl") == ["q-3", "q-1"]


def test_tasks_of_label_studio_are_a_queue(tmp_path: Path) -> None:
    tasks = [task(f"q-{n}", "text", {"a-1": "4"}) for n in (3, 1)]
    (tmp_path / "tasks.json").write_text(json.dumps(tasks, indent=1))
    assert queue_of_file(tmp_path / "tasks.json") == ["q-3", "q-1"]
