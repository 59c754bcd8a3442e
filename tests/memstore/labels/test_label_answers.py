"""Labels by query and answer: which rollouts get them, what contradicts, and undo."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from memstore.errors import InputError, LabelConflict
from memstore.labels.answers import AnswerVerdict
from memstore.labels.journal import Change, Journal
from memstore.memory import Memory
from memstore.records.ids import query_id
from memstore.testing.doubles.embedder import HashEmbedder
from tests.memstore.labels.conftest import CODE, PRODUCT, SUM


def labels(memory: Memory, query: str) -> dict[str, float | None]:
    """The labels of a query's rollouts by answer as written, in the order of the rows."""
    rows = memory.cypher(
        "MATCH (q:Query)-[:GENERATES]->(t:Thinking) WHERE q.id = $q OPTIONAL MATCH (t)-[l:LEADS_TO]->(:Answer) "
        "RETURN coalesce(l.text, ''), t.reward ORDER BY t.query_key, t.sample_index",
        {"q": query_id(query)},
    ).rows
    return dict(rows)  # type: ignore[arg-type]


def test_a_right_answer_settles_a_query_of_mathematics(memory: Memory) -> None:
    done = memory.label_answers([AnswerVerdict("sum", "4", 1.0)], by="ana")
    assert labels(memory, SUM) == {"4": 1.0, "4.0": 1.0, "5": 0.0, "6": 0.0, "": 0.0}
    assert (done.queries, done.answers, done.rollouts, done.changed) == (1, 3, 6, 6)
    assert set(labels(memory, PRODUCT).values()) == {None}
    again = memory.label_answers([AnswerVerdict("sum", "$4$", 1.0)])
    assert (again.batch, again.changed) == (None, 0)


def test_a_wrong_answer_says_nothing_of_the_others(memory: Memory) -> None:
    memory.label_answers([AnswerVerdict("sum", "5", 0.0)])
    assert labels(memory, SUM) == {"4": None, "4.0": None, "5": 0.0, "6": None, "": None}
    memory.label_answers([AnswerVerdict("sum", "4", 1.0)])
    assert labels(memory, SUM)["5"] == 0.0


def test_programs_are_right_each_by_itself(memory: Memory) -> None:
    memory.label_answers([AnswerVerdict("code", "def f():\n    return 2", 1.0)])
    assert sorted(labels(memory, CODE).values(), key=str) == [1.0, None, None]


def test_no_answer_is_right(memory: Memory) -> None:
    memory.label_answers([AnswerVerdict(SUM, None, 0.0)])
    assert labels(memory, SUM) == {"4": 0.0, "4.0": 0.0, "5": 0.0, "6": 0.0, "": None}


def test_queries_are_named_by_id_prefix_key_and_text(memory: Memory) -> None:
    whole = query_id(PRODUCT)
    for name in (whole, whole[:10], "product", PRODUCT, f"  {PRODUCT} "):
        assert memory.label_answers([AnswerVerdict(name, "9", 1.0)]).queries == 1
        memory.label_answers([AnswerVerdict(name, None, None)])


UNKNOWN = [
    (("nothing", "4", 1.0), "no query with the id 'nothing'"),
    (("q-", "4", 1.0), "3 queries have an id that begins with 'q-'"),
    (("shared", "4", 1.0), r"2 queries have the key 'shared' \(q-"),
    (("sum", "7", 1.0), "gives the answer '7'; its answers are '4', '6', '5'"),
    (("sum", None, 1.0), "the right answer is not named"),
    (("sum", "a-", 1.0), r"3 answers of the query q-\w+ have an id that begins with 'a-' \(a-\w+ '4', a-\w+ '6', a-"),
    ((" ", "4", 1.0), "the query is empty; name it by its id, its key or its text"),
]


@pytest.mark.parametrize(("verdict", "message"), UNKNOWN, ids=[case[1] for case in UNKNOWN])
def test_unknown_names_are_one_sentence(memory: Memory, verdict: tuple[str, str | None, float], message: str) -> None:
    good = AnswerVerdict("product", "9", 1.0)
    with pytest.raises(InputError, match=message) as caught:
        memory.label_answers([good, AnswerVerdict(*verdict, "a.csv:3: ")])
    assert str(caught.value).startswith("a.csv:3: ")
    assert "\n" not in str(caught.value)
    assert set(labels(memory, PRODUCT).values()) == {None}, "half of the batch was applied"


def test_verdicts_that_contradict_each_other_are_refused(memory: Memory) -> None:
    with pytest.raises(InputError, match="is given two verdicts"):
        memory.label_answers([AnswerVerdict("sum", "4", 1.0), AnswerVerdict(SUM, "4.0", 0.0)])
    with pytest.raises(InputError, match="is given two right answers, '4' and '5'"):
        memory.label_answers([AnswerVerdict("sum", "4", 1.0), AnswerVerdict("sum", "5", 1.0)])
    assert set(labels(memory, SUM).values()) == {None}


@pytest.mark.parametrize(("answer", "follows"), [("4", ""), ("5", ", because another answer is said to be right")])
def test_a_verdict_that_contradicts_the_memory_is_refused_whole(memory: Memory, answer: str, follows: str) -> None:
    memory.label_answers([AnswerVerdict("sum", "4", 1.0)], by="ana")
    verdict = AnswerVerdict("sum", answer, float(answer == "5"), "a.csv:2: ")
    other = AnswerVerdict("product", "9", 1.0)
    with pytest.raises(LabelConflict, match="pass --replace") as caught:
        memory.label_answers([other, verdict])
    assert "has the label" in str(caught.value)
    assert set(labels(memory, PRODUCT).values()) == {None}
    assert len(Journal(memory.folder).batches()) == 1
    memory.label_answers([other, verdict], replace=True)
    assert labels(memory, SUM)["4"] == 0.0
    assert follows in str(caught.value) or "'5'" in str(caught.value)


REMOVED = [(AnswerVerdict("sum", "4", None), None), (AnswerVerdict("sum", "4", 0.0), 0.0)]


@pytest.mark.parametrize(("verdict", "label"), REMOVED, ids=["removed", "wrong"])
def test_a_right_answer_that_is_withdrawn_takes_what_it_implied_along(
    memory: Memory, verdict: AnswerVerdict, label: float | None
) -> None:
    """But not the labels that other verdicts gave: before, in the same batch, or after."""
    memory.label_answers([AnswerVerdict("product", "9", 1.0), AnswerVerdict("sum", "4", 1.0)])
    done = memory.label_answers([verdict], replace=True)
    assert labels(memory, SUM) == {"4": label, "4.0": label, "5": None, "6": None, "": None}
    assert (done.changed, done.removed) == (6, 6 if label is None else 3)
    assert labels(memory, PRODUCT) == {"9": 1.0, "6": 0.0}
    memory.undo_labels()
    assert labels(memory, SUM) == {"4": 1.0, "4.0": 1.0, "5": 0.0, "6": 0.0, "": 0.0}
    memory.undo_labels()

    memory.label_answers([AnswerVerdict("sum", "5", 0.0)])
    memory.label_answers([AnswerVerdict("sum", "4", 1.0)])
    confirmed = memory.label_answers([AnswerVerdict("sum", "6", 0.0)])
    assert (confirmed.changed, confirmed.rollouts) == (0, 1)
    memory.label_answers([verdict], replace=True)
    assert labels(memory, SUM) == {"4": label, "4.0": label, "5": 0.0, "6": 0.0, "": None}

    memory.label_answers([AnswerVerdict("sum", None, None)])
    memory.label_answers([AnswerVerdict("sum", "4", 1.0), AnswerVerdict("sum", "5", 0.0)])
    memory.label_answers([verdict], replace=True)
    assert labels(memory, SUM) == {"4": label, "4.0": label, "5": 0.0, "6": None, "": None}


def test_another_right_answer_keeps_what_it_implies(memory: Memory) -> None:
    memory.label_answers([AnswerVerdict("sum", "4", 1.0)])
    memory.label_answers([AnswerVerdict("sum", "5", 1.0)], replace=True)
    assert labels(memory, SUM) == {"4": 0.0, "4.0": 0.0, "5": 1.0, "6": 0.0, "": 0.0}
    memory.label_answers([AnswerVerdict("sum", "5", None)])
    assert set(labels(memory, SUM).values()) == {None}


def test_undo_restores_what_was_there(memory: Memory) -> None:
    first = memory.label_answers([AnswerVerdict("sum", "5", 0.0)], by="ana")
    second = memory.label_answers([AnswerVerdict("sum", "5", 1.0)], by="bo", replace=True)
    assert labels(memory, SUM)["4"] == 0.0
    with pytest.raises(LabelConflict, match="was labelled again after the batch"):
        memory.undo_labels(first.batch)
    undone = memory.undo_labels()
    assert (undone.id, undone.by) == (second.batch, "bo")
    assert labels(memory, SUM) == {"4": None, "4.0": None, "5": 0.0, "6": None, "": None}
    assert memory.verify().ok
    assert memory.undo_labels((first.batch or "")[:6]).id == first.batch
    assert set(labels(memory, SUM).values()) == {None}
    with pytest.raises(InputError, match="no batch of labels can be undone: all are undone already"):
        memory.undo_labels()


def test_undo_keeps_the_source_of_a_label(memory: Memory) -> None:
    [rollout] = memory.cypher("MATCH (t:Thinking {query_key: 'product'}) RETURN t.id LIMIT 1").rows
    memory.label({rollout[0]: 1.0}, source="ground_truth")
    memory.label({rollout[0]: 0.0}, replace=True)
    memory.undo_labels()
    found = memory.cypher("MATCH (t:Thinking) WHERE t.reward IS NOT NULL RETURN t.id, t.reward, t.reward_source").rows
    assert list(found) == [(rollout[0], 1.0, "ground_truth")]


def test_a_batch_that_is_not_there(memory: Memory) -> None:
    memory.label_answers([AnswerVerdict("sum", "5", 0.0)])
    with pytest.raises(InputError, match="there is no batch 'l-nothing'"):
        memory.undo_labels("l-nothing")


def test_a_journal_cut_off_by_a_crash_is_read(memory: Memory) -> None:
    done = memory.label_answers([AnswerVerdict("sum", "5", 0.0)])
    path = Path(memory.folder) / "labels.jsonl"
    path.write_bytes(path.read_bytes() + b'{"batch": "l-cut", "at": "2026')
    later = memory.label_answers([AnswerVerdict("product", "9", 1.0)])
    assert [batch.id for batch in Journal(memory.folder).batches()] == [done.batch, later.batch]


def test_a_batch_whose_labels_a_crash_prevented_is_undone(memory: Memory) -> None:
    done = memory.label_answers([AnswerVerdict("sum", "5", 0.0)])
    path = Path(memory.folder) / "labels.jsonl"
    lost = json.loads(path.read_text()) | {"batch": "l-lost"}
    lost["rollouts"] = [[rollout, None, None, 1.0] for rollout, *_ in lost["rollouts"]]
    memory.undo_labels(done.batch)
    path.write_text(path.read_text() + json.dumps(lost) + "\n")
    assert memory.undo_labels().id == "l-lost"
    assert set(labels(memory, SUM).values()) == {None}


def test_a_verdict_reads_the_journal_once(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    memory.label_answers([AnswerVerdict("sum", "4", 1.0)], by="ana")
    reads, read = [], Journal._lines
    monkeypatch.setattr(Journal, "_lines", lambda journal: reads.append(journal) or read(journal))
    memory.label_answers([AnswerVerdict("sum", "4", 1.0), AnswerVerdict("sum", "5", 0.0)], by="bo")
    memory.label_answers([AnswerVerdict("sum", "6", 1.0)], by="bo", replace=True)
    assert len(reads) == 2


def test_a_name_that_is_a_text_and_another_querys_key_is_refused(tmp_path: Path) -> None:
    rows = [
        {"query": text, "query_id": key, "dataset": "sums", "domain": "math", "thinking": "t", "answer": "4"}
        for text, key in (("2 + 2", "3 + 1"), ("3 + 1", "other"), ("1 + 3", "1 + 3"))
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with Memory.open(tmp_path / "memory", create=True, embedder=HashEmbedder()) as memory:
        memory.ingest([tmp_path / "rows.jsonl"])
        assert memory.label_answers([AnswerVerdict("1 + 3", "4", 1.0)]).queries == 1
        both = f"'3 .+ 1' is the text of the query {query_id('3 + 1')} and the key of the query {query_id('2 + 2')}"
        with pytest.raises(InputError, match=f"{both}; name the query by its id"):
            memory.label_answers([AnswerVerdict("3 + 1", "4", 1.0)])


def test_an_empty_memory_has_nothing_to_label(tmp_path: Path) -> None:
    with (
        Memory.open(tmp_path / "empty", create=True, embedder=HashEmbedder()) as empty,
        pytest.raises(InputError, match="the memory has no rollouts to label"),
    ):
        empty.label_answers([AnswerVerdict("sum", "4", 1.0)])


def test_a_journal_makes_its_folder(tmp_path: Path) -> None:
    """A machine that only labels a memory on servers has no local folder yet."""
    journal = Journal(tmp_path / "not" / "there")
    batch = journal.record([Change("t-1", None, None, 1.0)], "person", "ana")
    assert journal.batches() == [batch]
