"""Whole runs: what a file lacks is asked for, graded, written, and fed into a memory."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from memstore.errors import InputError, MemstoreError
from memstore.memory import Memory
from memstore.testing.embedder import HashEmbedder
from memstore_rl.benchmarks.question import Question
from memstore_rl.rollout.endpoint import EndpointEngine
from memstore_rl.rollout.engine import Ask, Engine, Reply, Sampling, Usage
from memstore_rl.rollout.exchange import EndpointError
from memstore_rl.rollout.retry_policy import Patience
from memstore_rl.rollout.run import RolloutPlan, rollout
from memstore_rl.rollout.summary import Prices
from memstore_rl.testing.openai_stub import Stub, serving, text_of
from memstore_rl.testing.sums import rows_of, sums
from memstore_rl.verifiers import standard_verifiers

Engines = Callable[..., EndpointEngine]
QUESTIONS = list(sums(12))
PLAN = RolloutPlan(4, Sampling(seed=3))
FAULTY = Stub(busy=0.1, broken=0.1, drop=0.05, cut=0.05, malformed=0.05, empty_choices=0.05, too_few=0.2, seed=4)


class Counting(Engine):
    """An engine that writes what the stub writes, and can end in the middle."""

    model = "counting"

    def __init__(self, ends_after: int | None = None, error: MemstoreError | None = None) -> None:
        self.usage = Usage()
        self.asked: list[tuple[str | None, int]] = []
        self._left = ends_after
        self._error = error

    async def generate(self, asks: Iterable[Ask], sampling: Sampling) -> AsyncIterator[Reply]:
        for ask in asks:
            for sample in ask.samples:
                if self._left == 0:
                    raise self._error or KeyboardInterrupt
                self._left = None if self._left is None else self._left - 1
                self.asked.append((ask.question.key, sample))
                yield Reply(ask.question, sample, text_of(ask.question.text, sample), finish_reason="stop")


def places(path: Path) -> list[tuple[str, int]]:
    return sorted((row["query_id"], row["sample_index"]) for row in rows_of(path))


def all_places(questions: Iterable[Question] = QUESTIONS, n: int = 4) -> list[tuple[str, int]]:
    return sorted((str(question.key), sample) for question in questions for sample in range(n))


def test_a_run_against_a_bad_server_is_complete_and_graded(engine: Engines, tmp_path: Path) -> None:
    verifiers = standard_verifiers()
    with serving(FAULTY) as url:
        summary = rollout(QUESTIONS, engine(url), tmp_path / "a.jsonl", PLAN, verifiers=verifiers)
    verifiers.close()
    assert places(tmp_path / "a.jsonl") == all_places()
    assert (summary.queries, summary.rollouts, summary.held, summary.failed) == (12, 48, 0, 0)
    for row in rows_of(tmp_path / "a.jsonl"):
        right = row["response"].endswith(f"is {row['gold']}.")
        assert (row["reward"], row["reward_source"]) == (float(right), "ground_truth")
    assert summary.graded == 48
    assert summary.mean_reward == pytest.approx(sum(row["reward"] for row in rows_of(tmp_path / "a.jsonl")) / 48)
    assert summary.usage.retries > 0


def test_a_second_run_asks_for_nothing(engine: Engines, tmp_path: Path) -> None:
    with serving(Stub()) as url:
        rollout(QUESTIONS, engine(url), tmp_path / "a.jsonl", PLAN)
    before = (tmp_path / "a.jsonl").read_bytes()
    again = rollout(QUESTIONS, engine("http://127.0.0.1:9"), tmp_path / "a.jsonl", PLAN)
    assert (again.rollouts, again.held, again.usage.requests) == (0, 48, 0)
    assert (tmp_path / "a.jsonl").read_bytes() == before


@pytest.mark.parametrize("after", [0, 1, 7, 47])
def test_what_was_done_before_the_end_is_kept_and_only_the_rest_is_asked(after: int, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with pytest.raises(EndpointError):
        rollout(QUESTIONS, Counting(after, EndpointError("gone")), path, PLAN)
    kept = places(path)
    assert len(kept) == after
    second = Counting()
    summary = rollout(QUESTIONS, second, path, PLAN)
    assert places(path) == all_places()
    assert sorted(second.asked) == sorted(set(all_places()) - set(kept))
    assert (summary.held, summary.rollouts) == (after, 48 - after)


def test_ctrl_c_leaves_whole_rollouts(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with pytest.raises(KeyboardInterrupt):
        rollout(QUESTIONS, Counting(30), path, PLAN)
    assert set(places(path)) <= set(all_places())
    rollout(QUESTIONS, Counting(), path, PLAN)
    assert places(path) == all_places()


def test_more_samples_of_the_same_queries_add_to_those_that_are_there(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rollout(QUESTIONS, Counting(), path, RolloutPlan(2, Sampling(seed=3)))
    more = Counting()
    rollout(QUESTIONS, more, path, PLAN)
    assert {sample for _, sample in more.asked} == {2, 3}
    assert places(path) == all_places()


def test_other_sampling_another_run_and_another_step_are_other_rollouts(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    plans = [
        PLAN,
        RolloutPlan(4, Sampling(temperature=0.0)),
        RolloutPlan(4, Sampling(seed=3), run="second"),
        RolloutPlan(4, Sampling(seed=3), run="second", step=1),
    ]
    for plan in plans:
        assert rollout(QUESTIONS, Counting(), path, plan).rollouts == 48
    assert len(list(rows_of(path))) == 4 * 48


def test_what_could_not_be_had_is_told_and_asked_for_again(engine: Engines, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    long = Question("What is 1 plus 2 ? " + "x" * 100, "sums", key="long", domain="math")
    with serving(Stub(context=60)) as url:
        summary = rollout([*QUESTIONS, long], engine(url), path, PLAN)
    assert (summary.rollouts, summary.failed) == (48, 4)
    [reason] = summary.reasons
    assert reason == "sums 'long': status 400: This model's maximum context length is 60 tokens."
    with serving(Stub()) as url:
        assert rollout([*QUESTIONS, long], engine(url), path, PLAN).rollouts == 4


def test_cut_off_and_empty_rollouts_are_counted(engine: Engines, tmp_path: Path) -> None:
    with serving(Stub(truncate=0.3, blank=0.2)) as url:
        summary = rollout(QUESTIONS, engine(url), tmp_path / "a.jsonl", PLAN)
    rows = list(rows_of(tmp_path / "a.jsonl"))
    assert summary.truncated == sum(row["finish_reason"] == "length" for row in rows) > 0
    assert summary.truncated == sum(row.get("answer") == "" for row in rows)
    assert summary.empty == sum(row.get("response") == "" for row in rows) > 0


def test_a_budget_leaves_ground_truth_to_its_share_and_is_nested(tmp_path: Path) -> None:
    kept = []
    for budget in (0.25, 0.5):
        path = tmp_path / f"{budget}.jsonl"
        plan = RolloutPlan(2, budget=budget)
        verifiers = standard_verifiers()
        summary = rollout(QUESTIONS, Counting(), path, plan, verifiers=verifiers)
        verifiers.close()
        golds = {row["query_id"] for row in rows_of(path) if "gold" in row}
        assert golds == {row["query_id"] for row in rows_of(path) if "reward" in row}
        assert len(golds) == summary.labelled == 12 * budget
        kept.append(golds)
    assert kept[0] < kept[1]


def test_a_budget_leaves_queries_for_testing_without_a_label(tmp_path: Path) -> None:
    asked = [replace(question, split="test" if place % 2 else "train") for place, question in enumerate(QUESTIONS)]
    rollout(asked, Counting(), tmp_path / "a.jsonl", RolloutPlan(1, budget=1.0))
    assert {row["metadata"]["split"] for row in rows_of(tmp_path / "a.jsonl") if "gold" in row} == {"train"}


def test_cost_is_of_the_tokens_that_were_used(engine: Engines, tmp_path: Path) -> None:
    plan = RolloutPlan(4, Sampling(seed=3), prices=Prices(2.0, 10.0))
    with serving(Stub()) as url:
        document = rollout(QUESTIONS, engine(url), tmp_path / "a.jsonl", plan).as_json()
    tokens = document["tokens"]
    assert document["cost"] == pytest.approx((2 * tokens["prompt"] + 10 * tokens["completion"]) / 1e6)
    assert tokens["completion"] > 0


def test_progress_tells_rollouts_and_tokens_a_second(engine: Engines, tmp_path: Path) -> None:
    told: list[tuple[str, object]] = []

    class Told:
        def stage(self, name: str, total: int | None = None) -> None:
            told.append((name, total))

        def advance(self, done: int) -> None:
            told.append(("advance", done))

        def note(self, text: str) -> None:
            told.append(("note", text))

    with serving(Stub()) as url:
        rollout(QUESTIONS[:6], engine(url), tmp_path / "a.jsonl", PLAN)
        rollout(QUESTIONS, engine(url), tmp_path / "a.jsonl", PLAN, progress=Told())
    assert told[0] == ("rollouts", 48)
    assert sum(done for name, done in told if name == "advance" and isinstance(done, int)) == 48
    assert any(name == "note" and str(text).endswith(" tokens/s") for name, text in told)


@pytest.mark.parametrize(
    "sampling", [Sampling(temperature=-1), Sampling(top_p=0), Sampling(top_p=1.5), Sampling(max_tokens=0)]
)
def test_a_plan_that_cannot_be_is_refused(sampling: Sampling) -> None:
    with pytest.raises(InputError, match="nothing can be sampled with"):
        RolloutPlan(1, sampling)


def test_a_memory_is_fed_as_the_file_grows(tmp_path: Path) -> None:
    path = tmp_path / "stub.jsonl"
    plan = RolloutPlan(4, Sampling(seed=3), block_rows=10)
    with Memory.open(tmp_path / "memory", create=True, embedder=HashEmbedder()) as memory:
        # What an earlier run left in the file, and not in the memory, comes first.
        with pytest.raises(EndpointError):
            rollout(QUESTIONS, Counting(9, EndpointError("gone")), path, plan)
        with pytest.raises(EndpointError):
            rollout(QUESTIONS, Counting(25, EndpointError("gone")), path, plan, memory=memory)
        summary = rollout(QUESTIONS, Counting(), path, plan, memory=memory)
        assert summary.fed is not None
        assert summary.fed.rejected == 0
        assert memory.stats().thinkings == 48
        assert summary.fed.added + summary.fed.unchanged == 48
        again = memory.ingest([path])
        assert (again.added, again.unchanged) == (0, 48)
        assert memory.verify().ok


def test_rows_that_contradict_the_memory_are_kept_aside(tmp_path: Path) -> None:
    path = tmp_path / "stub.jsonl"
    with Memory.open(tmp_path / "memory", create=True, embedder=HashEmbedder()) as memory:
        rollout(QUESTIONS, Counting(), path, PLAN, memory=memory)
        other = [Question(q.text, q.dataset, q.key, "math", "-1") for q in QUESTIONS[:1]]
        summary = rollout(other, Counting(), path, RolloutPlan(4, run="other"), memory=memory)
    assert summary.fed is not None
    assert (summary.fed.rejected, summary.fed.unchanged) == (4, 48)
    assert summary.fed.rejects == tmp_path / "memory" / "rejects"


def test_requests_go_on_while_a_block_is_ingested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first block is held up until the engine has written all it has to write."""
    all_asked = threading.Event()
    engine = Counting()

    class Ending(Counting):
        async def generate(self, asks: Iterable[Ask], sampling: Sampling) -> AsyncIterator[Reply]:
            async for reply in engine.generate(asks, sampling):
                yield reply
            all_asked.set()

    with Memory.open(tmp_path / "memory", create=True, embedder=HashEmbedder()) as memory:
        ingest = memory.ingest

        def held_up(*arguments: object, **options: object) -> object:
            assert all_asked.wait(200)
            return ingest(*arguments, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(memory, "ingest", held_up)
        path = tmp_path / "a.jsonl"
        summary = rollout(QUESTIONS, Ending(), path, RolloutPlan(4, block_rows=5), memory=memory)
        assert summary.fed is not None
        assert summary.fed.added == 48


def test_a_query_is_the_one_that_the_memory_has(tmp_path: Path) -> None:
    with Memory.open(tmp_path / "memory", create=True, embedder=HashEmbedder()) as memory:
        rollout(QUESTIONS, Counting(), tmp_path / "a.jsonl", PLAN, memory=memory)
        found = {row[0] for row in memory.cypher("MATCH (q:Query) RETURN q.id AS id").rows}
    assert found == {question.id for question in QUESTIONS}


def test_a_timeout_of_the_server_is_no_rollout(engine: Engines, tmp_path: Path) -> None:
    patience = Patience(tries=1, timeout_s=0.2)
    with serving(Stub(stall_after=0)) as url:
        summary = rollout(QUESTIONS[:2], engine(url, patience=patience), tmp_path / "a.jsonl", PLAN)
    assert (summary.rollouts, summary.failed) == (0, 8)
    assert (tmp_path / "a.jsonl").read_bytes() == b""
