"""`rollout` from questions to file and memory: resuming, grading, budgets, ingest."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from memstore.errors import InputError, MemstoreError
from memstore.memory import Memory
from memstore.runtime.retry import RetryPolicy
from memstore.testing.doubles.embedder import HashEmbedder
from memstore_rl.benchmarks.question import Question
from memstore_rl.rollout.endpoint import EndpointEngine
from memstore_rl.rollout.engine import Engine, Reply, SampleRequest, Sampling, Usage
from memstore_rl.rollout.http_client import EndpointError
from memstore_rl.rollout.run import RolloutPlan, rollout
from memstore_rl.rollout.summary import Prices
from memstore_rl.testing.addition_queries import rows_of, sums
from memstore_rl.testing.openai_stub import Stub, serving, text_of
from memstore_rl.verifiers import standard_verifiers

Engines = Callable[..., EndpointEngine]
QUESTIONS = list(sums(12))
PLAN = RolloutPlan(4, Sampling(seed=3))
FAULTY = Stub(busy=0.1, broken=0.1, drop=0.05, cut=0.05, malformed=0.05, empty_choices=0.05, too_few=0.2, seed=4)


class StubEngine(Engine):
    """An engine that returns the stub server's text and can fail after a number of samples."""

    model = "stub-engine"

    def __init__(self, fail_after: int | None = None, error: MemstoreError | None = None) -> None:
        self.usage = Usage()
        self.sampled: list[tuple[str | None, int]] = []
        self._left = fail_after
        self._error = error

    async def generate(self, requests: Iterable[SampleRequest], sampling: Sampling) -> AsyncIterator[Reply]:
        for request in requests:
            for sample in request.samples:
                if self._left == 0:
                    raise self._error or KeyboardInterrupt
                self._left = None if self._left is None else self._left - 1
                self.sampled.append((request.question.key, sample))
                yield Reply(request.question, sample, text_of(request.question.text, sample), finish_reason="stop")


def sample_ids(path: Path) -> list[tuple[str, int]]:
    return sorted((row["query_id"], row["sample_index"]) for row in rows_of(path))


def all_sample_ids(questions: Iterable[Question] = QUESTIONS, n: int = 4) -> list[tuple[str, int]]:
    return sorted((str(question.key), sample) for question in questions for sample in range(n))


def test_a_run_against_a_faulty_server_is_complete_and_graded(engine: Engines, tmp_path: Path) -> None:
    verifiers = standard_verifiers()
    with serving(FAULTY) as url:
        summary = rollout(QUESTIONS, engine(url), tmp_path / "a.jsonl", PLAN, verifiers=verifiers)
    verifiers.close()
    assert sample_ids(tmp_path / "a.jsonl") == all_sample_ids()
    assert (summary.queries, summary.rollouts, summary.existing, summary.failed) == (12, 48, 0, 0)
    for row in rows_of(tmp_path / "a.jsonl"):
        right = row["response"].endswith(f"is {row['gold']}.")
        assert (row["reward"], row["reward_source"]) == (float(right), "ground_truth")
    assert summary.graded == 48
    assert summary.mean_reward == pytest.approx(sum(row["reward"] for row in rows_of(tmp_path / "a.jsonl")) / 48)
    assert summary.usage.retries > 0


def test_a_second_run_requests_nothing(engine: Engines, tmp_path: Path) -> None:
    with serving(Stub()) as url:
        rollout(QUESTIONS, engine(url), tmp_path / "a.jsonl", PLAN)
    before = (tmp_path / "a.jsonl").read_bytes()
    again = rollout(QUESTIONS, engine("http://127.0.0.1:9"), tmp_path / "a.jsonl", PLAN)
    assert (again.rollouts, again.existing, again.usage.requests) == (0, 48, 0)
    assert (tmp_path / "a.jsonl").read_bytes() == before


@pytest.mark.parametrize("after", [0, 1, 7, 47])
def test_a_failed_run_is_resumed_with_the_missing_samples(after: int, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with pytest.raises(EndpointError):
        rollout(QUESTIONS, StubEngine(after, EndpointError("gone")), path, PLAN)
    kept = sample_ids(path)
    assert len(kept) == after
    second = StubEngine()
    summary = rollout(QUESTIONS, second, path, PLAN)
    assert sample_ids(path) == all_sample_ids()
    assert sorted(second.sampled) == sorted(set(all_sample_ids()) - set(kept))
    assert (summary.existing, summary.rollouts) == (after, 48 - after)


def test_ctrl_c_leaves_complete_rollouts(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with pytest.raises(KeyboardInterrupt):
        rollout(QUESTIONS, StubEngine(30), path, PLAN)
    assert set(sample_ids(path)) <= set(all_sample_ids())
    rollout(QUESTIONS, StubEngine(), path, PLAN)
    assert sample_ids(path) == all_sample_ids()


def test_a_larger_n_adds_samples(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rollout(QUESTIONS, StubEngine(), path, RolloutPlan(2, Sampling(seed=3)))
    more = StubEngine()
    rollout(QUESTIONS, more, path, PLAN)
    assert {sample for _, sample in more.sampled} == {2, 3}
    assert sample_ids(path) == all_sample_ids()


def test_other_sampling_run_or_step_gives_other_rollouts(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    plans = [
        PLAN,
        RolloutPlan(4, Sampling(temperature=0.0)),
        RolloutPlan(4, Sampling(seed=3), run="second"),
        RolloutPlan(4, Sampling(seed=3), run="second", step=1),
    ]
    for plan in plans:
        assert rollout(QUESTIONS, StubEngine(), path, plan).rollouts == 48
    assert len(list(rows_of(path))) == 4 * 48


def test_failed_samples_are_reported_and_requested_again(engine: Engines, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    long = Question("What is 1 plus 2 ? " + "x" * 100, "sums", key="long", domain="math")
    with serving(Stub(context=60)) as url:
        summary = rollout([*QUESTIONS, long], engine(url), path, PLAN)
    assert (summary.rollouts, summary.failed) == (48, 4)
    [reason] = summary.reasons
    assert reason == "sums 'long': status 400: This model's maximum context length is 60 tokens."
    with serving(Stub()) as url:
        assert rollout([*QUESTIONS, long], engine(url), path, PLAN).rollouts == 4


def test_truncated_and_empty_rollouts_are_counted(engine: Engines, tmp_path: Path) -> None:
    with serving(Stub(truncate=0.3, blank=0.2)) as url:
        summary = rollout(QUESTIONS, engine(url), tmp_path / "a.jsonl", PLAN)
    rows = list(rows_of(tmp_path / "a.jsonl"))
    assert summary.truncated == sum(row["finish_reason"] == "length" for row in rows) > 0
    assert summary.truncated == sum(row.get("answer") == "" for row in rows)
    assert summary.empty == sum(row.get("response") == "" for row in rows) > 0


def test_budgets_label_their_share_and_are_nested(tmp_path: Path) -> None:
    kept = []
    for budget in (0.25, 0.5):
        path = tmp_path / f"{budget}.jsonl"
        plan = RolloutPlan(2, budget=budget)
        verifiers = standard_verifiers()
        summary = rollout(QUESTIONS, StubEngine(), path, plan, verifiers=verifiers)
        verifiers.close()
        golds = {row["query_id"] for row in rows_of(path) if "gold" in row}
        assert golds == {row["query_id"] for row in rows_of(path) if "reward" in row}
        assert len(golds) == summary.labelled == 12 * budget
        kept.append(golds)
    assert kept[0] < kept[1]


def test_test_queries_are_never_labelled(tmp_path: Path) -> None:
    questions = [replace(question, split="test" if i % 2 else "train") for i, question in enumerate(QUESTIONS)]
    rollout(questions, StubEngine(), tmp_path / "a.jsonl", RolloutPlan(1, budget=1.0))
    assert {row["metadata"]["split"] for row in rows_of(tmp_path / "a.jsonl") if "gold" in row} == {"train"}


def test_cost_is_computed_from_the_used_tokens(engine: Engines, tmp_path: Path) -> None:
    plan = RolloutPlan(4, Sampling(seed=3), prices=Prices(2.0, 10.0))
    with serving(Stub()) as url:
        document = rollout(QUESTIONS, engine(url), tmp_path / "a.jsonl", plan).as_json()
    tokens = document["tokens"]
    assert document["cost"] == pytest.approx((2 * tokens["prompt"] + 10 * tokens["completion"]) / 1e6)
    assert tokens["completion"] > 0


def test_progress_reports_rollouts_and_tokens_per_second(engine: Engines, tmp_path: Path) -> None:
    calls: list[tuple[str, object]] = []

    class Recorder:
        def stage(self, name: str, total: int | None = None) -> None:
            calls.append((name, total))

        def advance(self, done: int) -> None:
            calls.append(("advance", done))

        def note(self, text: str) -> None:
            calls.append(("note", text))

    with serving(Stub()) as url:
        rollout(QUESTIONS[:6], engine(url), tmp_path / "a.jsonl", PLAN)
        rollout(QUESTIONS, engine(url), tmp_path / "a.jsonl", PLAN, progress=Recorder())
    assert calls[0] == ("rollouts", 48)
    assert sum(done for name, done in calls if name == "advance" and isinstance(done, int)) == 48
    assert any(name == "note" and str(text).endswith(" tokens/s") for name, text in calls)


@pytest.mark.parametrize(
    "sampling", [Sampling(temperature=-1), Sampling(top_p=0), Sampling(top_p=1.5), Sampling(max_tokens=0)]
)
def test_invalid_sampling_parameters_are_rejected(sampling: Sampling) -> None:
    with pytest.raises(InputError, match="invalid sampling parameters"):
        RolloutPlan(1, sampling)


def test_a_memory_is_filled_while_the_file_grows(tmp_path: Path) -> None:
    path = tmp_path / "stub.jsonl"
    plan = RolloutPlan(4, Sampling(seed=3), block_rows=10)
    with Memory.open(tmp_path / "memory", create=True, embedder=HashEmbedder()) as memory:
        # Rollouts that an earlier run wrote to the file only are ingested first.
        with pytest.raises(EndpointError):
            rollout(QUESTIONS, StubEngine(9, EndpointError("gone")), path, plan)
        with pytest.raises(EndpointError):
            rollout(QUESTIONS, StubEngine(25, EndpointError("gone")), path, plan, memory=memory)
        summary = rollout(QUESTIONS, StubEngine(), path, plan, memory=memory)
        assert summary.ingested is not None
        assert summary.ingested.rejected == 0
        assert memory.stats().thinkings == 48
        assert summary.ingested.added + summary.ingested.unchanged == 48
        again = memory.ingest([path])
        assert (again.added, again.unchanged) == (0, 48)
        assert memory.verify().ok


def test_rows_that_contradict_the_memory_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "stub.jsonl"
    with Memory.open(tmp_path / "memory", create=True, embedder=HashEmbedder()) as memory:
        rollout(QUESTIONS, StubEngine(), path, PLAN, memory=memory)
        other = [Question(q.text, q.dataset, q.key, "math", "-1") for q in QUESTIONS[:1]]
        summary = rollout(other, StubEngine(), path, RolloutPlan(4, run="other"), memory=memory)
    assert summary.ingested is not None
    assert (summary.ingested.rejected, summary.ingested.unchanged) == (4, 48)
    assert summary.ingested.rejects == tmp_path / "memory" / "rejects"


def test_sampling_continues_while_a_block_is_ingested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first ingest blocks until the engine has returned all replies."""
    all_sampled = threading.Event()
    engine = StubEngine()

    class SignallingEngine(StubEngine):
        async def generate(self, requests: Iterable[SampleRequest], sampling: Sampling) -> AsyncIterator[Reply]:
            async for reply in engine.generate(requests, sampling):
                yield reply
            all_sampled.set()

    with Memory.open(tmp_path / "memory", create=True, embedder=HashEmbedder()) as memory:
        ingest = memory.ingest

        def blocked_ingest(*arguments: object, **options: object) -> object:
            assert all_sampled.wait(200)
            return ingest(*arguments, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(memory, "ingest", blocked_ingest)
        path = tmp_path / "a.jsonl"
        summary = rollout(QUESTIONS, SignallingEngine(), path, RolloutPlan(4, block_rows=5), memory=memory)
        assert summary.ingested is not None
        assert summary.ingested.added == 48


def test_question_ids_are_the_memorys_query_ids(tmp_path: Path) -> None:
    with Memory.open(tmp_path / "memory", create=True, embedder=HashEmbedder()) as memory:
        rollout(QUESTIONS, StubEngine(), tmp_path / "a.jsonl", PLAN, memory=memory)
        found = {row[0] for row in memory.cypher("MATCH (q:Query) RETURN q.id AS id").rows}
    assert found == {question.id for question in QUESTIONS}


def test_a_timeout_gives_no_rollout(engine: Engines, tmp_path: Path) -> None:
    with serving(Stub(stall_after=0)) as url:
        summary = rollout(
            QUESTIONS[:2], engine(url, retry_policy=RetryPolicy(attempts=1), timeout_s=0.2), tmp_path / "a.jsonl", PLAN
        )
    assert (summary.rollouts, summary.failed) == (0, 8)
    assert (tmp_path / "a.jsonl").read_bytes() == b""
