"""Recorder: scored rollouts reach the memory once, with label or score, despite failures."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from memstore.errors import StoreError
from memstore.memory import Memory
from memstore.pipeline.verify import VerifyReport
from memstore.testing.doubles.embedder import HashEmbedder
from memstore_rl.rewards.reward import Group, Reward, RewardQuery, Rollout
from memstore_rl.service import recorder as module
from memstore_rl.service.journal import Entry, Journal
from memstore_rl.service.recorder import Recorder, RecorderSchedule
from memstore_rl.service.service import entries_of
from memstore_rl.service.texts import TextVectors


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    with Memory.open(tmp_path / "memory", create=True, embedder=HashEmbedder()) as memory:
        yield memory


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "service" / "journal.sqlite")
    yield journal
    journal.close()


def scored(number: int, *, gold: str | None = None) -> tuple[Group, list[Reward]]:
    """Return a group of two rollouts and its rewards."""
    query = RewardQuery(f"what is {number} + 1?", dataset="sums", key=str(number), domain="math", gold=gold)
    rollouts = [Rollout(response=f"#### {number + offset}", run="grpo", step=3, policy="p") for offset in (1, 2)]
    values = (1.0, 0.0) if gold else (0.75, 0.25)
    shared = {"group_size": 2, "short": False, "known": False, "latency_s": 0.0}
    if gold:
        rewards = [Reward(value, "ground_truth", None, model=None, **shared) for value in values]
    else:
        rewards = [Reward(value, "predicted", value, model="m1", **shared) for value in values]
    return Group(query, rollouts), rewards


def rows(memory: Memory, query: str) -> list[tuple[object, ...]]:
    return sorted(memory.cypher(query).rows)


SCORES = (
    "MATCH (q:Query)-[:GENERATES]->(t:Thinking)-[s:SCORED_BY]->(m:RewardModel) "
    "RETURN t.query_key, t.step, t.sample_index, s.probability, m.id"
)
LABELS = (
    "MATCH (q:Query)-[:GENERATES]->(t:Thinking) WHERE t.reward IS NOT NULL "
    "RETURN t.query_key, q.gold, t.sample_index, t.reward, t.reward_source"
)


def test_labels_and_scores_are_written_once(memory: Memory, journal: Journal) -> None:
    recorder = Recorder(memory, journal, flush=TextVectors(memory.embedder, memory.cache).flush)
    for _ in range(2):
        for number, gold in ((1, None), (2, "3")):
            journal.append(entries_of(*scored(number, gold=gold)))
        assert recorder.round() == 4
        assert len(journal) == 0
        assert rows(memory, SCORES) == [("1", 3, 0, 0.75, "m1"), ("1", 3, 1, 0.25, "m1")]
        assert rows(memory, LABELS) == [("2", "3", 0, 1.0, "ground_truth"), ("2", "3", 1, 0.0, "ground_truth")]
        assert rows(memory, "MATCH (r:Run)-[:PRODUCED]->(t:Thinking) RETURN r.name, count(t)") == [("grpo", 4)]
    assert not list(journal.path.parent.glob("*.jsonl"))
    report = memory.verify()
    assert report.ok
    assert {(pending.kind, pending.count) for pending in report.pending} == {("not_linked", 2), ("not_linked", 4)}
    memory.link()
    assert memory.verify() == VerifyReport([], [])


@pytest.mark.parametrize(
    ("owner", "method"),
    [(Memory, "ingest"), (Memory, "record_scores"), (Journal, "remove"), (Path, "unlink")],
    ids=["before the memory", "before the scores", "before the journal", "before the file"],
)
def test_kill_during_a_round_loses_and_doubles_nothing(
    memory: Memory, journal: Journal, monkeypatch: pytest.MonkeyPatch, owner: type, method: str
) -> None:
    recorder = Recorder(memory, journal, flush=lambda: 0)
    journal.append(entries_of(*scored(1)))
    journal.append(entries_of(*scored(2, gold="3")))
    with monkeypatch.context() as patched:
        patched.setattr(owner, method, lambda *_, **__: (_ for _ in ()).throw(StoreError("killed here")))
        with pytest.raises(StoreError, match="killed here"):
            recorder.round()
    assert len(journal) == (0 if method == "unlink" else 4)
    journal.append(entries_of(*scored(4)))
    recorder.round()
    assert rows(memory, "MATCH (t:Thinking) RETURN count(t.id)") == [(6,)]
    assert {row[0] for row in rows(memory, SCORES)} == {"1", "4"}
    assert len(rows(memory, SCORES)) == 4
    assert len(rows(memory, LABELS)) == 2
    assert len(journal) == 0
    assert not list(journal.path.parent.glob("*.jsonl"))


def test_recording_ignores_the_wall_clock(memory: Memory, journal: Journal, jumping_clock: Callable[[], float]) -> None:
    recorded: list[int] = []
    schedule = RecorderSchedule(interval_s=0.05, link_idle_s=0.0)
    recorder = Recorder(memory, journal, flush=lambda: 0, schedule=schedule, on_recorded=recorded.append)
    recorder.start()
    group, rewards = scored(2, gold="3")
    for number, values in enumerate((rewards, rewards[::-1], rewards[:1] * 2), start=1):  # later labels contradict
        journal.append(entries_of(group, values))
        wait_until(lambda number=number: len(recorded) == number)
    wait_until(lambda: memory.verify() == VerifyReport([], []))
    assert recorder.stop(200) == 0
    assert [len(file.read_text().splitlines()) for file in memory.rejects_folder.iterdir()] in ([1, 2], [2, 1])


def test_remembered_verdicts_are_scores_of_the_model_in_use(memory: Memory, journal: Journal) -> None:
    group, rewards = scored(1)
    remembered = replace(rewards[0], source="remembered", value=1.0, probability=1.0, model=None)
    journal.append(entries_of(group, [remembered, rewards[1]], "m2"))
    Recorder(memory, journal, flush=lambda: 0).round()
    edges = "MATCH (t:Thinking)-[s:SCORED_BY]->(m:RewardModel) RETURN t.sample_index, m.id, s.source, s.reward"
    assert rows(memory, edges) == [(0, "m2", "remembered", 1.0), (1, "m1", "predicted", 0.25)]
    group, rewards = scored(4)  # without a model in use, only the answer's verdict says it
    journal.append(entries_of(group, [replace(remembered)] * 2))
    Recorder(memory, journal, flush=lambda: 0).round()
    assert len(rows(memory, edges)) == 2


def test_failed_write_is_retried(
    memory: Memory, journal: Journal, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failures: list[None] = []
    recorded: list[int] = []
    ingest, tries = memory.ingest, 0

    def sometimes(*given: object, **options: object) -> object:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise StoreError("the server is down")
        return ingest(*given, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(memory, "ingest", sometimes)
    recorder = Recorder(
        memory,
        journal,
        flush=lambda: 0,
        schedule=RecorderSchedule(interval_s=0.05, link_idle_s=0.0),
        on_recorded=recorded.append,
        on_failure=lambda: failures.append(None),
    )
    journal.append(entries_of(*scored(1)))
    recorder.start()
    wait_until(lambda: recorded == [2])
    wait_until(lambda: memory.verify() == VerifyReport([], []))  # links once no rollouts arrive
    assert recorder.stop(200) == 0
    assert len(failures) == 1
    assert "the server is down" in caplog.text


def test_stop_writes_the_remaining_entries(memory: Memory, journal: Journal) -> None:
    recorder = Recorder(memory, journal, flush=lambda: 0, schedule=RecorderSchedule(interval_s=30))
    recorder.start()
    for number in range(5):
        journal.append(entries_of(*scored(number)))
    assert recorder.stop(200) == 0
    assert len(rows(memory, SCORES)) == 10


def test_scorer_is_refreshed_after_recording(memory: Memory, journal: Journal) -> None:
    seen: list[int] = []
    recorder = Recorder(
        memory,
        journal,
        flush=lambda: 0,
        refresh=lambda: seen.append(len(rows(memory, SCORES))),
        schedule=RecorderSchedule(interval_s=0.05, refresh_s=0.2),
    )
    recorder.start()
    journal.append(entries_of(*scored(1)))
    wait_until(lambda: seen == [2])
    recorder.stop(200)
    assert seen == [2]  # no refresh without new rollouts


def test_contradicting_label_goes_to_the_rejects(
    memory: Memory, journal: Journal, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    group, rewards = scored(2, gold="3")
    journal.append(entries_of(group, rewards))
    recorder = Recorder(memory, journal, flush=lambda: 0)
    recorder.round()
    journal.append(entries_of(group, rewards[::-1]))  # contradicting labels
    journal.append(entries_of(*scored(1)))
    assert recorder.round() == 4
    assert len(journal) == 0
    [rejects] = memory.rejects_folder.glob("service-*.rejects.jsonl")
    assert len(rejects.read_text().splitlines()) == 2
    assert rejects.name in caplog.text
    assert len(rows(memory, SCORES)) == 2


def test_texts_are_embedded_once(memory: Memory, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    embedder, embedded = memory.embedder, []
    embed = embedder.embed
    monkeypatch.setattr(
        embedder, "embed", lambda texts, progress=None: embedded.extend(texts) or embed(texts, progress)
    )
    texts = TextVectors(embedder, memory.cache)
    wanted = ["what is 1 + 1?", "other", "what is 1 + 1?"]
    first = texts.embed(wanted)
    assert (texts.embed(wanted) == first).all()
    assert sorted(embedded) == sorted(set(wanted))
    journal.append(entries_of(*scored(1)))
    Recorder(memory, journal, flush=texts.flush).round()
    assert len(embedded) == len(set(embedded))
    assert (texts.embed(wanted) == first).all()
    assert texts.flush() == 0


def test_number_of_unflushed_vectors_is_bounded(memory: Memory) -> None:
    texts = TextVectors(memory.embedder, memory.cache, max_unflushed=3)
    for number in range(10):
        texts.embed([f"text {number}"])
    assert texts.flush() == 3


def test_rollout_id_matches_the_ingest(memory: Memory, tmp_path: Path) -> None:
    group, rewards = scored(1)
    entries = entries_of(group, rewards)
    file = tmp_path / "elsewhere.jsonl"
    file.write_text("\n".join(entry.row for entry in entries))
    memory.ingest([file])
    ids = {module.rollout_id(entry.row) for entry in entries}
    assert ids == {row[0] for row in rows(memory, "MATCH (t:Thinking) RETURN t.id")}
    assert all(json.loads(entry.row)["run"] == "grpo" for entry in entries)


def wait_until(holds: Callable[[], bool], seconds: float = 200.0) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "the condition did not become true in time"
        time.sleep(0.05)


OLD_ROWS: tuple[tuple[dict[str, object], str | None], ...] = (
    # memstore 0.1.0 left out an absent thinking; the answer is the policy's, and there is no label
    ({"response": "I add. So it is 7.", "answer": "7"}, None),
    ({"response": "#### 8"}, None),
    ({"thinking": "I add.", "answer": "9"}, None),
    ({"answer": "10"}, None),
    ({"response": "It is 3.", "answer": "3", "gold": "3", "reward": 1.0, "reward_source": "ground_truth"}, "3"),
)


@pytest.mark.parametrize(("texts", "gold"), OLD_ROWS)
def test_the_answers_of_an_old_journal_are_no_gold_answers(
    memory: Memory, journal: Journal, texts: dict[str, object], gold: str | None
) -> None:
    common = {"query": "what is 1 + 2?", "domain": "math", "policy": "p", "run": "grpo", "sample_index": 0}
    row = json.dumps({**common, **texts}, sort_keys=True)
    journal.append([Entry("k", row, None if gold else "m1", None if gold else 0.75, 0.75)])
    assert Recorder(memory, journal, flush=lambda: 0).round() == 1
    (found,) = memory.cypher(
        "MATCH (q:Query)-[:GENERATES]->(t:Thinking)-[:LEADS_TO]->(a:Answer) RETURN q.gold, t.reward, a.text"
    ).rows
    answer = str(texts.get("answer", "8"))
    assert found == (gold, 1.0 if gold else None, answer)
    scores = rows(memory, "MATCH (t:Thinking)-[s:SCORED_BY]->(m:RewardModel) RETURN s.probability, m.id")
    assert scores == ([] if gold else [(0.75, "m1")])
