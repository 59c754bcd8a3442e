"""Both engines of the real vLLM, server and in-process, follow the protocol and give the same samples."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from memstore_rl.benchmarks.question import Question
from memstore_rl.rollout.endpoint import EndpointEngine, EndpointError
from memstore_rl.rollout.engine import Engine, Reply, SampleRequest, Sampling
from memstore_rl.rollout.vllm_engine import VllmEngine, VllmError

pytestmark = pytest.mark.timeout(1800)

QUESTIONS = [Question(f"what is {name} and three ?", "sums", key=name) for name in ("two", "five", "three")]
LONG = Question("what is two ? " * 200, "sums", key="long")
EIGHT = tuple(range(8))


def replies_of(engine: Engine, requests: Sequence[SampleRequest], sampling: Sampling) -> list[Reply]:
    async def collect() -> list[Reply]:
        return [reply async for reply in engine.generate(requests, sampling)]

    return asyncio.run(collect())


def texts(replies: Sequence[Reply]) -> dict[tuple[str | None, int], str | None]:
    return {(reply.question.key, reply.sample): reply.text for reply in replies}


def requests_for_all(samples: Sequence[int] = EIGHT) -> list[SampleRequest]:
    return [SampleRequest(question, tuple(samples)) for question in QUESTIONS]


@pytest.mark.parametrize("chat", [True, False], ids=["chat", "completions"])
def test_eight_samples_with_log_probabilities(engine: Engine, chat: bool) -> None:
    before = engine.usage.requests
    replies = replies_of(engine, requests_for_all(), Sampling(max_tokens=12, seed=0, chat=chat))
    assert sorted(texts(replies)) == sorted((question.key, sample) for question in QUESTIONS for sample in EIGHT)
    assert engine.usage.requests - before == 3
    for reply in replies:
        assert reply.error is None
        assert reply.text is not None
        assert reply.finish_reason in ("stop", "length")
        assert reply.mean_logprob is not None
        assert math.isfinite(reply.mean_logprob)
        assert reply.mean_logprob <= 0
        assert reply.prompt_tokens
    lengths = {reply.completion_tokens for reply in replies if reply.finish_reason == "length"}
    assert lengths == {12}


@pytest.mark.parametrize("chat", [True, False], ids=["chat", "completions"])
def test_samples_are_reproduced_by_their_seeds(engine: Engine, chat: bool) -> None:
    sampling = Sampling(max_tokens=12, seed=1, chat=chat)
    first = texts(replies_of(engine, requests_for_all(), sampling))
    assert texts(replies_of(engine, requests_for_all(), sampling)) == first
    assert len(set(first.values())) == len(first)
    rest = texts(replies_of(engine, requests_for_all((1, 4, 5, 7)), sampling))
    assert rest == {place: text for place, text in first.items() if place[1] in (1, 4, 5, 7)}
    assert texts(replies_of(engine, requests_for_all(), Sampling(max_tokens=12, seed=2, chat=chat))) != first


def test_greedy_samples_are_equal(engine: Engine) -> None:
    found = texts(replies_of(engine, requests_for_all((0, 1, 2)), Sampling(temperature=0, max_tokens=12)))
    assert len(found) == 9
    for question in QUESTIONS:
        assert len({found[question.key, sample] for sample in (0, 1, 2)}) == 1


@pytest.mark.parametrize("chat", [True, False], ids=["chat", "completions"])
def test_a_prompt_that_is_too_long_fails_alone(engine: Engine, chat: bool) -> None:
    requests = [requests_for_all()[0], SampleRequest(LONG, (0, 1)), requests_for_all()[1]]
    replies = replies_of(engine, requests, Sampling(max_tokens=4, seed=0, chat=chat))
    assert sum(reply.text is not None for reply in replies) == 16
    refused = [reply for reply in replies if reply.question is LONG]
    assert len(refused) == 2
    for reply in refused:
        assert reply.text is None
        assert reply.error is not None
        assert "256" in reply.error
        assert "\n" not in reply.error


def test_a_reply_that_fills_the_context_is_truncated(engine: Engine) -> None:
    nearly_full = Question("0123456789" * 22, "sums", key="nearly full")
    replies = replies_of(engine, [SampleRequest(nearly_full, EIGHT)], Sampling(max_tokens=200, seed=5))
    cut = [reply for reply in replies if reply.finish_reason == "length"]
    assert cut
    assert {(reply.prompt_tokens or 0) + (reply.completion_tokens or 0) for reply in cut} == {256}


@pytest.mark.parametrize("chat", [True, False], ids=["chat", "completions"])
def test_server_and_process_give_the_same_samples(vllm_server: tuple[str, str], loaded: VllmEngine, chat: bool) -> None:
    sampling = Sampling(max_tokens=12, seed=3, chat=chat)
    served = replies_of(EndpointEngine(*vllm_server), requests_for_all(), sampling)
    here = replies_of(loaded, requests_for_all(), sampling)
    assert texts(served) == texts(here)
    means = {(reply.question.key, reply.sample): reply.mean_logprob for reply in served}
    for reply in here:
        assert reply.mean_logprob == pytest.approx(means[reply.question.key, reply.sample], abs=1e-3)


def test_a_model_missing_on_the_server_is_reported(vllm_server: tuple[str, str]) -> None:
    engine = EndpointEngine(vllm_server[0], "tinny")
    with pytest.raises(EndpointError, match=r"'tinny' .*it has tiny$"):
        replies_of(engine, requests_for_all(), Sampling(max_tokens=4))


def test_a_missing_model_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(VllmError, match=r"^vLLM cannot load the model .*nothing: [^\n]+$"):
        VllmEngine.load(str(tmp_path / "nothing"))
