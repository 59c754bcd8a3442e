"""What an engine makes of an endpoint: every sample once, whatever the server does; and errors that say what it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest
from pydantic import SecretStr

from memstore.errors import InputError
from memstore.testing.ports import free_port
from memstore_rl.benchmarks.question import Question
from memstore_rl.rollout.asking import sample_seed
from memstore_rl.rollout.endpoint import EndpointEngine
from memstore_rl.rollout.engine import Ask, Reply, Sampling
from memstore_rl.rollout.exchange import EndpointError, Exchange, Unanswered, base_url
from memstore_rl.rollout.retry_policy import Patience
from memstore_rl.testing.openai_stub import MODEL, Stub, serving, text_of
from memstore_rl.testing.sums import sums

Engines = Callable[..., EndpointEngine]
SAMPLING = Sampling(seed=3)
ALL_FAULTS = Stub(busy=0.1, broken=0.1, drop=0.1, cut=0.1, malformed=0.05, empty_choices=0.05, too_few=0.3, seed=2)


def replies_of(engine: EndpointEngine, asks: Sequence[Ask], sampling: Sampling = SAMPLING) -> list[Reply]:
    async def gathered() -> list[Reply]:
        return [reply async for reply in engine.generate(asks, sampling)]

    return asyncio.run(gathered())


def asks(count: int, n: int) -> list[Ask]:
    return [Ask(question, tuple(range(n))) for question in sums(count)]


def places(replies: Sequence[Reply]) -> list[tuple[str | None, int]]:
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
    ids=["good", "faults", "faults and n", "one at a time", "two at a time", "n refused"],
)
def test_every_sample_comes_once_and_with_its_own_seed(stub: Stub, n: int, engine: Engines) -> None:
    asked = asks(20, n)
    with serving(stub) as url:
        replies = replies_of(engine(url), asked)
    assert places(replies) == places([Reply(ask.question, sample) for ask in asked for sample in ask.samples])
    for reply in replies:
        assert reply.text == text_of(reply.question.text, sample_seed(3, reply.question, reply.sample))
        assert (reply.finish_reason, reply.mean_logprob) == ("stop", -0.25)


def test_samples_with_gaps_are_drawn_with_the_seeds_they_always_have(engine: Engines) -> None:
    [question] = sums(1)
    with serving(Stub()) as url:
        replies = replies_of(engine(url), [Ask(question, (1, 2, 5))])
    assert {reply.sample: reply.text for reply in replies} == {
        sample: text_of(question.text, sample_seed(3, question, sample)) for sample in (1, 2, 5)
    }


def test_a_prompt_is_completed_as_it_stands(engine: Engines) -> None:
    question = Question("What is 1 plus 2 ?", "sums", prompt="Sum: 1 2 ?", system="Be brief.")
    sampling = Sampling(seed=3, chat=False)
    with serving(Stub()) as url:
        [reply] = replies_of(engine(url), [Ask(question, (0,))], sampling)
    assert reply.text == text_of("Be brief.\n\nSum: 1 2 ?", sample_seed(3, question, 0))
    assert reply.mean_logprob == -0.25
    assert reply.completion_tokens == len((reply.text or "").split())


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
def test_reasoning_comes_apart_from_the_text(field: str, engine: Engines) -> None:
    with serving(Stub(think=field)) as url:
        [reply] = replies_of(engine(url), asks(1, 1))
    assert (reply.text or "").startswith("The answer is")
    assert "I add the numbers up" in (reply.reasoning or "")


def test_tokens_are_counted_once(engine: Engines) -> None:
    with serving(Stub()) as url:
        asked = engine(url)
        replies = replies_of(asked, asks(3, 4))
    usage = asked.usage
    assert (usage.requests, usage.retries) == (3, 0)
    assert usage.prompt_tokens == sum(len(question.text.split()) for question in sums(3))
    assert usage.completion_tokens == sum(reply.completion_tokens or 0 for reply in replies)


def test_no_more_requests_than_allowed_are_under_way_and_asks_are_taken_as_there_is_room(engine: Engines) -> None:
    taken: list[int] = []
    done: list[Reply] = []
    ahead: list[int] = []

    def lazily() -> object:
        for number, ask in enumerate(asks(60, 1)):
            taken.append(number)
            ahead.append(len(taken) - len(done))
            yield ask

    async def gathered(url: str) -> None:
        async for reply in engine(url, concurrency=4).generate(lazily(), SAMPLING):  # type: ignore[arg-type]
            done.append(reply)
            await asyncio.sleep(0)

    with serving(Stub()) as url:
        asyncio.run(gathered(url))
    assert len(done) == 60
    # Under way, in the two queues' room, and the one that was looked at first.
    assert max(ahead) <= 4 + 2 * 8 + 1


def test_a_prompt_that_is_too_long_costs_its_own_samples_alone(engine: Engines) -> None:
    long = Question("What is 1 plus 2 ? " + "x" * 100, "sums", key="long")
    with serving(Stub(context=60)) as url:
        replies = replies_of(engine(url), [*asks(20, 2), Ask(long, (0, 1))])
    failed = [reply for reply in replies if reply.text is None]
    assert [reply.question.key for reply in failed] == ["long", "long"]
    assert failed[0].error == "status 400: This model's maximum context length is 60 tokens."
    assert len(replies) == 42


def test_what_every_question_is_refused_for_ends_the_run(engine: Engines) -> None:
    with (
        serving(Stub(refuse_logprobs=True)) as url,
        pytest.raises(EndpointError, match="16 questions in a row.*logprobs are not supported.*what was done is kept"),
    ):
        replies_of(engine(url), asks(100, 2))
    with serving(Stub(refuse_logprobs=True)) as url:
        assert len(replies_of(engine(url, logprobs=False), asks(20, 2))) == 40


def test_a_model_that_is_not_there_is_named_with_those_that_are(engine: Engines) -> None:
    with serving(Stub()) as url, pytest.raises(EndpointError, match=r"'stab'.*does not exist.*it has stub$"):
        replies_of(engine(url, "stab"), asks(20, 2))


def test_nobody_there_is_said(engine: Engines) -> None:
    port = free_port()
    with pytest.raises(EndpointError, match=f"nobody answers at http://127.0.0.1:{port}/v1 .*start the server"):
        replies_of(engine(f"http://127.0.0.1:{port}"), asks(2, 2))


def test_a_server_that_stays_away_ends_the_run_after_its_tries(engine: Engines) -> None:
    patience = Patience(tries=2, first_pause_s=0.001)
    with serving(Stub(down=True)) as url, pytest.raises(EndpointError, match=r"16 questions.*status 503: the model is"):
        replies_of(engine(url, patience=patience), asks(40, 1))


def test_a_server_that_never_answers_a_question_costs_that_question(engine: Engines) -> None:
    with serving(Stub(stall_after=0)) as url:
        replies = replies_of(engine(url, patience=Patience(tries=2, timeout_s=0.2, first_pause_s=0.001)), asks(2, 1))
    assert [reply.error for reply in replies] == ["no answer within 0.2 s (2 tries)"] * 2


def test_a_key_is_needed_and_never_repeated(engine: Engines) -> None:
    with serving(Stub(key="sk-right")) as url:
        assert len(replies_of(engine(url, key=SecretStr("sk-right")), asks(2, 2))) == 4
        with pytest.raises(EndpointError, match=r"refuses the key \(status 401\): Incorrect API key") as refused:
            replies_of(engine(url, key=SecretStr("sk-secret-wrong")), asks(2, 2))
        assert "sk-secret" not in str(refused.value)
        with pytest.raises(EndpointError, match="refuses a request without a key"):
            replies_of(engine(url), asks(2, 2))


def test_what_a_server_asks_for_is_passed_on() -> None:
    async def ask(url: str) -> None:
        async with Exchange(url, MODEL, None, Patience(), 1) as exchange:
            await exchange.post("/completions", {"model": MODEL, "prompt": "1 ?"})

    with serving(Stub(busy=1, retry_after_s=7)) as url, pytest.raises(Unanswered) as said:
        asyncio.run(ask(url))
    assert (said.value.hint_s, said.value.gone) == (7, False)
    assert str(said.value) == "status 429: too many requests"


def test_a_proxy_is_used_but_not_for_this_machine(engine: Engines, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serving(Stub()) as url:
        monkeypatch.setenv("http_proxy", url.removesuffix("/v1"))
        assert len(replies_of(engine("http://model.invalid"), asks(2, 2))) == 4
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        assert len(replies_of(engine(url), asks(2, 2))) == 4


def test_nothing_asked_is_nothing_sent(engine: Engines) -> None:
    assert replies_of(engine("http://127.0.0.1:9"), []) == []


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("http://h:8000", "http://h:8000/v1"),
        ("http://h:8000/", "http://h:8000/v1"),
        ("https://h/openai/v1/", "https://h/openai/v1"),
        (" http://h/v1/chat/completions", "http://h/v1"),
    ],
)
def test_an_address_is_taken_as_people_write_it(given: str, used: str) -> None:
    assert base_url(given) == used


@pytest.mark.parametrize(
    "given", ["", "127.0.0.1:8000", "ftp://h", "http://", "http://h:port", "http://u:p@h", "http://h?k=1"]
)
def test_what_is_no_address_is_said(given: str) -> None:
    with pytest.raises(InputError, match="address"):
        base_url(given)
