"""EndpointEngine against a stub server with faults: every sample once, with its seed; errors are specific."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest
from pydantic import SecretStr

from memstore.errors import InputError
from memstore.runtime.retry import RetryPolicy
from memstore.testing.servers.ports import free_port
from memstore_rl.benchmarks.question import Question
from memstore_rl.rollout.endpoint import EndpointEngine
from memstore_rl.rollout.engine import Reply, SampleRequest, Sampling
from memstore_rl.rollout.http_client import EndpointClient, EndpointError, RetryableFailure, base_url
from memstore_rl.rollout.sample_keys import sample_seed
from memstore_rl.testing.addition_queries import sums
from memstore_rl.testing.openai_stub import MODEL, Stub, serving, text_of

Engines = Callable[..., EndpointEngine]
SAMPLING = Sampling(seed=3)
ALL_FAULTS = Stub(busy=0.1, broken=0.1, drop=0.1, cut=0.1, malformed=0.05, empty_choices=0.05, too_few=0.3, seed=2)


def replies_of(engine: EndpointEngine, requests: Sequence[SampleRequest], sampling: Sampling = SAMPLING) -> list[Reply]:
    async def collect() -> list[Reply]:
        return [reply async for reply in engine.generate(requests, sampling)]

    return asyncio.run(collect())


def requests_for(count: int, n: int) -> list[SampleRequest]:
    return [SampleRequest(question, tuple(range(n))) for question in sums(count)]


def sample_ids(replies: Sequence[Reply]) -> list[tuple[str | None, int]]:
    return sorted((reply.question.key, reply.sample) for reply in replies)


@pytest.mark.parametrize(
    ("stub", "n"),
    [
        (Stub(), 5),
        (ALL_FAULTS, 1),
        (ALL_FAULTS, 5),
        (Stub(most=1), 5),  # n is ignored
        (Stub(most=2), 5),
        (Stub(refuse_n=True), 5),
    ],
    ids=["no faults", "faults", "faults, n=5", "one choice", "two choices", "n rejected"],
)
def test_every_sample_arrives_once_with_its_seed(stub: Stub, n: int, engine: Engines) -> None:
    requests = requests_for(20, n)
    with serving(stub) as url:
        replies = replies_of(engine(url), requests)
    assert sample_ids(replies) == sample_ids(
        [Reply(request.question, sample) for request in requests for sample in request.samples]
    )
    for reply in replies:
        assert reply.text == text_of(reply.question.text, sample_seed(3, reply.question, reply.sample))
        assert (reply.finish_reason, reply.mean_logprob) == ("stop", -0.25)


def test_nonconsecutive_samples_keep_their_seeds(engine: Engines) -> None:
    [question] = sums(1)
    with serving(Stub()) as url:
        replies = replies_of(engine(url), [SampleRequest(question, (1, 2, 5))])
    assert {reply.sample: reply.text for reply in replies} == {
        sample: text_of(question.text, sample_seed(3, question, sample)) for sample in (1, 2, 5)
    }


def test_plain_completion_of_the_prompt(engine: Engines) -> None:
    question = Question("What is 1 plus 2 ?", "sums", prompt="Sum: 1 2 ?", system="Be brief.")
    sampling = Sampling(seed=3, chat=False)
    with serving(Stub()) as url:
        [reply] = replies_of(engine(url), [SampleRequest(question, (0,))], sampling)
    assert reply.text == text_of("Be brief.\n\nSum: 1 2 ?", sample_seed(3, question, 0))
    assert reply.mean_logprob == -0.25
    assert reply.completion_tokens == len((reply.text or "").split())


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
def test_reasoning_is_separate_from_the_text(field: str, engine: Engines) -> None:
    with serving(Stub(think=field)) as url:
        [reply] = replies_of(engine(url), requests_for(1, 1))
    assert (reply.text or "").startswith("The answer is")
    assert "I add the numbers up" in (reply.reasoning or "")


def test_tokens_are_counted_once(engine: Engines) -> None:
    with serving(Stub()) as url:
        endpoint = engine(url)
        replies = replies_of(endpoint, requests_for(3, 4))
    usage = endpoint.usage
    assert (usage.requests, usage.retries) == (3, 0)
    assert usage.prompt_tokens == sum(len(question.text.split()) for question in sums(3))
    assert usage.completion_tokens == sum(reply.completion_tokens or 0 for reply in replies)


def test_concurrency_is_limited_and_requests_are_consumed_lazily(engine: Engines) -> None:
    taken: list[int] = []
    done: list[Reply] = []
    ahead: list[int] = []

    def lazily() -> object:
        for number, request in enumerate(requests_for(60, 1)):
            taken.append(number)
            ahead.append(len(taken) - len(done))
            yield request

    async def collect(url: str) -> None:
        async for reply in engine(url, concurrency=4).generate(lazily(), SAMPLING):  # type: ignore[arg-type]
            done.append(reply)
            await asyncio.sleep(0)

    with serving(Stub()) as url:
        asyncio.run(collect(url))
    assert len(done) == 60
    # Running requests, the capacity of both queues, and the first request, which is read ahead.
    assert max(ahead) <= 4 + 2 * 8 + 1


def test_a_prompt_that_is_too_long_fails_alone(engine: Engines) -> None:
    long = Question("What is 1 plus 2 ? " + "x" * 100, "sums", key="long")
    with serving(Stub(context=60)) as url:
        replies = replies_of(engine(url), [*requests_for(20, 2), SampleRequest(long, (0, 1))])
    failed = [reply for reply in replies if reply.text is None]
    assert [reply.question.key for reply in failed] == ["long", "long"]
    assert failed[0].error == "status 400: This model's maximum context length is 60 tokens."
    assert len(replies) == 42


def test_rejection_of_every_question_ends_the_run(engine: Engines) -> None:
    with (
        serving(Stub(refuse_logprobs=True)) as url,
        pytest.raises(
            EndpointError,
            match="16 questions in a row.*logprobs are not supported.*run the same command again to resume",
        ),
    ):
        replies_of(engine(url), requests_for(100, 2))
    with serving(Stub(refuse_logprobs=True)) as url:
        assert len(replies_of(engine(url, logprobs=False), requests_for(20, 2))) == 40


def test_error_for_a_missing_model_lists_the_available_ones(engine: Engines) -> None:
    with serving(Stub()) as url, pytest.raises(EndpointError, match=r"'stab'.*does not exist.*it has stub$"):
        replies_of(engine(url, "stab"), requests_for(20, 2))


def test_unreachable_server_is_reported(engine: Engines) -> None:
    port = free_port()
    with pytest.raises(EndpointError, match=f"cannot reach a server at http://127.0.0.1:{port}/v1 .*start the server"):
        replies_of(engine(f"http://127.0.0.1:{port}"), requests_for(2, 2))


def test_unavailable_server_ends_the_run_after_all_tries(engine: Engines) -> None:
    retry_policy = RetryPolicy(attempts=2, first_pause_s=0.001)
    with serving(Stub(down=True)) as url, pytest.raises(EndpointError, match=r"16 questions.*status 503: the model is"):
        replies_of(engine(url, retry_policy=retry_policy), requests_for(40, 1))


def test_a_question_that_times_out_fails_alone(engine: Engines) -> None:
    with serving(Stub(stall_after=0)) as url:
        replies = replies_of(
            engine(url, retry_policy=RetryPolicy(attempts=2, first_pause_s=0.001), timeout_s=0.2), requests_for(2, 1)
        )
    assert [reply.error for reply in replies] == ["no response within 0.2 s (2 tries)"] * 2


def test_a_wrong_key_is_refused_and_not_repeated(engine: Engines) -> None:
    with serving(Stub(key="sk-right")) as url:
        assert len(replies_of(engine(url, key=SecretStr("sk-right")), requests_for(2, 2))) == 4
        with pytest.raises(EndpointError, match=r"refuses the key \(status 401\): Incorrect API key") as refused:
            replies_of(engine(url, key=SecretStr("sk-secret-wrong")), requests_for(2, 2))
        assert "sk-secret" not in str(refused.value)
        with pytest.raises(EndpointError, match="refuses a request without a key"):
            replies_of(engine(url), requests_for(2, 2))


def test_retry_after_is_passed_on() -> None:
    async def send(url: str) -> None:
        async with EndpointClient(url, MODEL, None, timeout_s=100, connections=1) as client:
            await client.post("/completions", {"model": MODEL, "prompt": "1 ?"})

    with serving(Stub(busy=1, retry_after_s=7)) as url, pytest.raises(RetryableFailure) as caught:
        asyncio.run(send(url))
    assert (caught.value.retry_after_s, caught.value.unreachable) == (7, False)
    assert str(caught.value) == "status 429: too many requests"


def test_proxy_is_used_except_for_loopback(engine: Engines, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serving(Stub()) as url:
        monkeypatch.setenv("http_proxy", url.removesuffix("/v1"))
        assert len(replies_of(engine("http://model.invalid"), requests_for(2, 2))) == 4
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        assert len(replies_of(engine(url), requests_for(2, 2))) == 4


def test_no_requests_send_nothing(engine: Engines) -> None:
    assert replies_of(engine("http://127.0.0.1:9"), []) == []


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("http://h:8000", "http://h:8000/v1"),
        ("http://h:8000/", "http://h:8000/v1"),
        ("https://h/openai/v1/", "https://h/openai/v1"),
        (" http://h/v1/chat/completions", "http://h/v1"),
    ],
)
def test_endpoint_address_is_normalized(endpoint: str, expected: str) -> None:
    assert base_url(endpoint) == expected


@pytest.mark.parametrize(
    "endpoint", ["", "127.0.0.1:8000", "ftp://h", "http://", "http://h:port", "http://u:p@h", "http://h?k=1"]
)
def test_invalid_endpoint_address_is_rejected(endpoint: str) -> None:
    with pytest.raises(InputError, match="address"):
        base_url(endpoint)
