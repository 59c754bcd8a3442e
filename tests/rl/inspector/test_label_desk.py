"""Several people label at once: leases, verdicts, undo, and what a label changes."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from memstore.errors import InputError
from memstore.labels.answers import AnswerVerdict
from memstore.labels.journal import Journal
from memstore.labels.questions import Shown
from memstore.memory import Memory
from memstore.testing.embedder import HashEmbedder
from memstore_rl.inspector.desk import BUSY, Desk, Turn, desk_of, shown_of
from memstore_rl.inspector.label_effects import calibration_of, effect_of
from memstore_rl.inspector.label_queue import QueueEntry, entry_of, read_queue
from memstore_rl.inspector.leases import Leases
from memstore_rl.inspector.source import MemorySource, SnapshotSource
from memstore_rl.inspector.views.queue import Asked, queue_page
from memstore_schema.columns import NodeLabel

from .conftest import make_memory, many_answers, more_rollouts, query_with

OPEN = ("Mia has 4", "Mia has 5", "كم")
"""The queries without a label."""


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    with make_memory(tmp_path) as opened:
        yield opened


def entries(memory: Memory) -> list[QueueEntry]:
    return [entry_of({"query_id": query_with(memory, text)}) for text in OPEN]


@pytest.fixture
def desk(memory: Memory) -> Desk:
    return Desk(MemorySource(memory), entries(memory))


def turn(desk: Desk, person: str) -> Turn:
    found = desk.next(person, desk.queue.get())
    assert found is not None
    return found


def test_leases_end_without_action() -> None:
    clock = [0.0]
    leases = Leases(10.0, lambda: clock[0])
    assert leases.take("ana", "q-1")
    assert not leases.take("ben", "q-1")
    clock[0] = 9.0
    assert leases.take_seconds("ana", "q-1") == 9.0
    assert leases.take("ana", "q-1")
    clock[0] = 18.0
    assert not leases.take("ben", "q-1")
    clock[0] = 19.0
    assert leases.take("ben", "q-1")
    assert leases.take_seconds("ana", "q-1") is None
    assert leases.take("ben", "q-2")
    assert leases.take("ana", "q-1"), "another query ends the lease"
    assert (leases.query_of("ana"), leases.query_of("ben")) == ("q-1", "q-2")


def test_people_never_meet_the_same_query(desk: Desk, memory: Memory) -> None:
    barrier, found = threading.Barrier(3), {}

    def begin(person: str) -> None:
        barrier.wait(200)
        found[person] = turn(desk, person).query.query_id

    threads = [threading.Thread(target=begin, args=(name,)) for name in ("ana", "ben", "cat")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(200)
    assert sorted(found.values()) == sorted(entry.query for entry in entries(memory))
    assert desk.next("dan", desk.queue.get()) is None
    assert desk.press("dan", "1", found["ana"], by="Dan").sentence == BUSY
    assert turn(desk, "ana").query.query_id == found["ana"], "a reload shows the same query"


def test_a_verdict_is_written_with_name_seconds_and_reason(desk: Desk, memory: Memory) -> None:
    query = turn(desk, "ana").query
    outcome = desk.press("ana", "1", query.query_id, shown_of(query), by="Ana", reason="I counted")
    assert outcome.sentence == "'8' is right; 6 rollouts labelled"
    batch = Journal(memory.folder).batches()[-1]
    assert (batch.by, batch.reason) == ("Ana", "I counted")
    assert batch.seconds is not None
    assert turn(desk, "ana").query.query_id != query.query_id
    assert outcome.effect is not None
    assert (outcome.effect.scored, outcome.effect.moved) == (6, 2)  # each had .9; four are right
    assert outcome.effect.mean_change == pytest.approx((4 * 0.1 + 2 * 0.9) / 6)
    assert outcome.after is not None
    assert outcome.after.right == pytest.approx(4 / 6)
    assert desk.press("ana", "u", "", by="Ana").sentence == "undone: 6 rollouts"
    assert turn(desk, "ana").query.query_id == query.query_id
    assert desk.press("ana", "u", "", by="Ana").failed


def test_a_wrong_answer_leaves_the_query_open(desk: Desk) -> None:
    query = turn(desk, "ana").query
    second = query.answers[1].text
    outcome = desk.press("ana", "x2", query.query_id, shown_of(query), by="Ana")
    assert outcome.sentence == f"{second!r} is wrong; 1 rollout labelled"
    again = turn(desk, "ana").query
    assert again.query_id == query.query_id
    assert [answer.label for answer in again.answers] == [None, 0.0, None]
    desk.press("ana", "0", query.query_id, shown_of(query), by="Ana")
    assert turn(desk, "ana").query.query_id != query.query_id


def answers(desk: Desk, query: str) -> dict[str, float | None]:
    """The stored label of each answer of a query."""
    found = desk.one("eve", query, desk.queue.get())
    assert found is not None
    return {one.text: one.label for one in found.query.answers}


@pytest.mark.parametrize(("key", "label"), [("1", 1.0), ("x1", 0.0)])
def test_a_number_means_the_answer_that_was_shown(desk: Desk, memory: Memory, key: str, label: float) -> None:
    shown = turn(desk, "ana").query
    more_rollouts(memory, "9")
    assert turn(desk, "ana").query.answers[0].text == "9"
    outcome = desk.press("ana", key, shown.query_id, shown_of(shown), by="Ana")
    assert outcome.sentence.startswith(f"'8' is {'right' if label else 'wrong'}")
    desk.leases.release("ana")
    assert answers(desk, shown.query_id)["8"] == label


def test_none_of_these_means_the_answers_that_were_shown(desk: Desk, memory: Memory) -> None:
    shown = turn(desk, "ana").query
    more_rollouts(memory, "9")  # more votes for an answer that was shown change nothing
    assert not desk.press("ana", "0", shown.query_id, shown_of(shown), by="Ana").failed
    assert desk.press("ana", "u", "", by="Ana").sentence == "undone: 16 rollouts"
    more_rollouts(memory, "11")
    outcome = desk.press("ana", "0", shown.query_id, shown_of(shown), by="Ana")
    assert "have changed since the page was shown, so nothing is written" in outcome.sentence
    assert (outcome.failed, outcome.conflict, Journal(memory.folder).batches()) == (True, None, [])
    again = turn(desk, "ana").query
    assert again.query_id == shown.query_id
    assert not desk.press("ana", "0", again.query_id, shown_of(again), by="Ana").failed


def test_an_answer_that_is_gone_is_not_judged(desk: Desk, memory: Memory) -> None:
    query = turn(desk, "ana").query
    gone = Shown(("a-gone",), "")
    for key, expected in (("1", "no longer among those"), ("2", "no answer 2"), ("x", "no key of this page")):
        assert expected in desk.press("ana", key, query.query_id, gone, by="Ana").sentence
    assert "`" not in desk.press("ana", "q", query.query_id, gone, by="Ana").sentence
    assert "shown no answer 1" in desk.press("ana", "1", query.query_id, by="Ana").sentence
    assert Journal(memory.folder).batches() == []


def test_a_verdict_that_is_pressed_twice_shows_its_effect_twice(desk: Desk, memory: Memory) -> None:
    query = turn(desk, "ana").query
    first = desk.press("ana", "1", query.query_id, shown_of(query), by="Ana")
    assert desk.press("ana", "1", query.query_id, shown_of(query), by="Ana") == first
    assert desk.take_outcome("ana") == first
    assert len(Journal(memory.folder).batches()) == 1


def test_an_undo_passes_over_a_verdict_that_was_overwritten(desk: Desk, memory: Memory) -> None:
    for _ in range(2):
        query = turn(desk, "ana").query
        desk.press("ana", "1", query.query_id, shown_of(query), by="Ana")
    desk.press("ben", "2", query.query_id, shown_of(query), by="Ben", replace=True)
    later = Journal(memory.folder).batches()[-1].id
    outcome = desk.press("ana", "u", "", by="Ana")
    assert (outcome.failed, outcome.conflict) == (True, None)
    assert f"undo the later batch {later} first; this verdict is left as it is" in outcome.sentence
    assert "your next undo takes back the verdict before it" in outcome.sentence
    assert desk.press("ana", "u", "", by="Ana").sentence == "undone: 6 rollouts"
    assert "stop these pages, then run: memstore label --undo" in desk.press("ana", "u", "", by="Ana").sentence


def test_none_of_these_speaks_of_the_answers_that_are_shown(desk: Desk, memory: Memory) -> None:
    query = many_answers(memory, 60)

    def shown() -> Asked:
        asked = queue_page(desk, "ana", query).asked
        assert asked is not None
        return asked

    first = shown()
    assert (len(first.answers), first.more, first.none_of_all) == (50, 10, False)
    said = desk.press("ana", "0", query, first.shown, by="Ana").sentence
    assert said == "none of these 50 answers is right; 50 rollouts labelled"
    rest = shown()
    assert (len(rest.answers), rest.more, rest.none_of_all, rest.is_open) == (50, 10, True, True)
    assert [line.label for line in rest.answers] == [None] * 10 + [0.0] * 40
    assert not {line.id for line in rest.answers[:10]} & set(first.shown.answers)
    said = desk.press("ana", "0", query, rest.shown, by="Ana").sentence
    assert said == "none of the answers is right; 10 rollouts labelled"
    assert desk.press("ana", "u", "", by="Ana").sentence == "undone: 10 rollouts"
    assert desk.press("ana", "u", "", by="Ana").sentence == "undone: 50 rollouts"


def test_none_of_these_keeps_an_answer_that_is_not_shown(desk: Desk, memory: Memory) -> None:
    query = many_answers(memory, 60, domain="code")  # several programs can be right
    right = turn_of(desk, query).shown.answers[59 - 10]
    memory.label_answers([AnswerVerdict(query, right, 1.0)], by="Ben")
    for expected in (50, 9):
        desk.press("ana", "0", query, turn_of(desk, query).shown, by="Ana")
        assert len(Journal(memory.folder).batches()[-1].changes) == expected
    index = memory.graph.nodes(NodeLabel.THINKING, ["id", "reward"]).to_pylist()
    labels = [row["reward"] for row in index if row["id"] in turn_of(desk, query).query.labels]
    assert (labels.count(1.0), labels.count(0.0), labels.count(None)) == (1, 59, 1)


def turn_of(desk: Desk, query: str) -> Turn:
    found = desk.one("ana", query, desk.queue.get())
    assert found is not None
    return found


def test_a_second_opinion_on_many_answers_follows_the_votes(desk: Desk, memory: Memory) -> None:
    query = many_answers(memory, 60)
    before = turn_of(desk, query).shown
    memory.label_answers([AnswerVerdict(query, before.answers[3], 1.0)], by="Ben")
    asked = queue_page(desk, "ana", query).asked
    assert asked is not None
    assert (asked.shown, asked.is_open, asked.none_of_all) == (before, False, False)
    assert desk.press("ana", "0", query, asked.shown, by="Ana").conflict is not None


def test_what_failed_keeps_its_reason(desk: Desk, memory: Memory) -> None:
    query = turn(desk, "ana").query
    outcome = desk.press("ana", "7", query.query_id, shown_of(query), by="Ana", reason="I counted")
    assert (outcome.failed, outcome.query, outcome.reason) == (True, query.query_id, "I counted")
    assert desk.press("ana", "1", query.query_id, shown_of(query), by="Ana", reason="I counted").reason == ""


def test_skipped_queries_come_again_when_asked_for(desk: Desk, memory: Memory) -> None:
    for _ in OPEN:
        desk.press("ana", "s", turn(desk, "ana").query.query_id, by="Ana")
    assert desk.next("ana", desk.queue.get()) is None
    assert turn(desk, "ben"), "only Ana has skipped them"
    desk.press("ana", "again", "", by="Ana")
    assert turn(desk, "ana")


def test_a_contradiction_changes_nothing_until_it_is_overwritten(desk: Desk, memory: Memory) -> None:
    query = turn(desk, "ana").query
    memory.label_answers([AnswerVerdict(query.query_id, "8", 1.0)], by="Ben")
    outcome = desk.press("ana", "2", query.query_id, shown_of(query), by="Ana")
    assert (outcome.failed, outcome.conflict) == (True, (query.query_id, "2", shown_of(query)))
    assert len(Journal(memory.folder).batches()) == 1
    done = desk.press("ana", "2", query.query_id, shown_of(query), by="Ana", replace=True)
    assert done.sentence == f"{query.answers[1].text!r} is right; 5 rollouts labelled"
    [row] = desk.agreement(200.0).value or []
    assert (row.people, row.verdicts, row.agreed) == (("Ana", "Ben"), 1, 0)


def test_a_contradiction_that_is_left_counts_as_a_disagreement(desk: Desk, memory: Memory) -> None:
    query = turn(desk, "ana").query
    memory.label_answers([AnswerVerdict(query.query_id, "8", 1.0)], by="Ben")
    for _ in range(2):
        desk.press("ana", "2", query.query_id, shown_of(query), by="Ana")
    [row] = desk.agreement(200.0).value or []
    assert (row.people, row.verdicts, row.agreed) == (("Ana", "Ben"), 1, 0)


@pytest.mark.parametrize("key", ["7", "z", "x9", ""])
def test_a_key_without_a_meaning_is_one_sentence(desk: Desk, memory: Memory, key: str) -> None:
    query = turn(desk, "ana").query
    assert desk.press("ana", key, query.query_id, shown_of(query), by="Ana").failed
    assert desk.press("ana", "1", "q-gone", shown_of(query), by="Ana").failed
    assert desk.press("ana", "1", query.query_id, shown_of(query), by="").failed
    assert Journal(memory.folder).batches() == []


def test_a_settled_query_is_passed_over_and_can_be_chosen(desk: Desk, memory: Memory) -> None:
    first = entries(memory)[0].query
    memory.label_answers([AnswerVerdict(first, "8", 1.0)], by="Ben")
    assert turn(desk, "ana").query.query_id == entries(memory)[1].query
    page = queue_page(desk, "ana", first)
    assert page.asked is not None
    assert "second opinion" in page.asked.why
    assert [answer.label for answer in page.asked.answers] == [None, None, None]
    outcome = desk.press("ana", "1", first, page.asked.shown, by="Ana")
    assert outcome.sentence.endswith("0 rollouts labelled; it confirms the label of another person")


def test_a_queue_is_chosen_in_a_thread(desk: Desk) -> None:
    desk.queue.choose("training")
    state = desk.queue.get(200.0)
    assert (state.failure, state.running, state.p_from) == (None, False, "votes")
    assert len(state.entries) == 3
    assert all(entry.why or entry.audit for entry in state.entries)
    page = queue_page(desk, "ana", None)
    assert page.asked is not None
    assert page.asked.position == 1
    assert [answer.probability for answer in page.asked.answers] == pytest.approx([0.9, 0.9, 0.9])


def test_a_queue_that_cannot_be_chosen_is_a_sentence(desk: Desk, tmp_path: Path) -> None:
    desk.queue.choose("pages")  # the model's files are missing
    assert desk.queue.get(200.0).failure is not None
    with Memory.open(tmp_path / "empty", create=True, embedder=HashEmbedder()) as empty:
        unused = Desk(MemorySource(empty))
        unused.queue.choose("pages")
        assert "no rollouts" in str(unused.queue.get(200.0).failure)


def test_a_queue_is_read_from_a_file(memory: Memory, tmp_path: Path) -> None:
    texts = ("Mia has 3", *OPEN)
    file = tmp_path / "queue.jsonl"
    file.write_text("".join(json.dumps({"query_id": query_with(memory, text)}) + "\n" for text in texts))
    assert read_queue(memory, file) == entries(memory), "the first query is settled"
    file.write_text(json.dumps({"query_id": "q-gone"}))
    with pytest.raises(InputError, match="not in this memory"):
        read_queue(memory, file)


def test_what_cannot_be_labelled_has_no_desk(looked_at: Memory) -> None:
    assert desk_of(MemorySource(looked_at, read_only=True)) is None
    assert desk_of(SnapshotSource(looked_at.snapshot(), "a snapshot")) is None


def test_effects_of_a_label() -> None:
    effect = effect_of({"a": 0.5, "b": 0.5}, {"a": None, "b": None, "c": None}, {"a": 1.0, "b": 0.0, "c": 1.0})
    assert effect is not None
    assert (effect.scored, effect.moved, effect.mean_change, effect.advantage_change) == (2, 0, 0.5, 0.5)
    assert effect_of({}, {"a": None}, {"a": 1.0}) is None
    assert calibration_of({}) is None
