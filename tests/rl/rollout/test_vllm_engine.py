"""VllmEngine over a stub of vLLM; `tests/vllm` runs it with the real vLLM where that is installed.

The stub has the properties of vLLM that the engine relies on: child j of a prompt is drawn with seed + j, a greedy
prompt has one child, and a prompt as long as the context fails the whole call.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import TemplateError

from memstore.errors import InputError
from memstore_rl.benchmarks.question import Question
from memstore_rl.rollout.engine import Reply, SampleRequest, Sampling
from memstore_rl.rollout.sample_keys import sample_seed
from memstore_rl.rollout.vllm_engine import VllmEngine, VllmError

CONTEXT = 40


@dataclass
class Params:
    """Stub of `SamplingParams`."""

    n: int
    temperature: float
    top_p: float
    max_tokens: int
    seed: int | None
    logprobs: int | None

    def __post_init__(self) -> None:
        if self.temperature == 0 and self.n > 1:
            raise ValueError(f"n must be 1 when using greedy sampling, got {self.n}.")


class Tokenizer:
    """One token per character, and two tokens per message."""

    def encode(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]

    def apply_chat_template(self, turns: Sequence[dict[str, str]], **how: Any) -> list[int]:
        if not how["tokenize"] or not how["add_generation_prompt"] or how["return_dict"]:
            raise AssertionError(f"the prompt is not rendered as LLM.chat renders it: {how}")
        if how["chat_template"] is None:
            raise ValueError("Cannot use chat template functions because tokenizer.chat_template is not set.\nSee ...")
        if turns[0]["role"] == "system":
            raise TemplateError("System role not supported")
        return [0, 1, *(ord(letter) for turn in turns for letter in turn["content"])]


@dataclass
class StubLlm:
    """Stub of `LLM` whose text is its seed."""

    chat_template: str | None = "{{ messages }}"
    calls: list[tuple[list[Any], list[Params]]] = field(default_factory=list)
    before: Callable[[], None] = lambda: None
    finish_reason: str = "stop"

    def __post_init__(self) -> None:
        self.model_config = SimpleNamespace(max_model_len=CONTEXT)

    def get_tokenizer(self) -> Tokenizer:
        return Tokenizer()

    def chat(self, turns: list[Any], params: list[Params], *, use_tqdm: bool) -> list[Any]:
        rendered = [Tokenizer().apply_chat_template(each, **CHAT, chat_template=self.chat_template) for each in turns]
        return self._answer(turns, rendered, params, use_tqdm)

    def generate(self, prompts: list[str], params: list[Params], *, use_tqdm: bool) -> list[Any]:
        return self._answer(prompts, [Tokenizer().encode(each) for each in prompts], params, use_tqdm)

    def _answer(self, asked: list[Any], tokens: list[list[int]], params: list[Params], use_tqdm: bool) -> list[Any]:
        self.before()
        self.calls.append((asked, params))
        if use_tqdm or any(not 0 < len(each) < CONTEXT for each in tokens):
            raise ValueError("the whole call is refused")
        return [self._output(each, own) for each, own in zip(tokens, params, strict=True)]

    def _output(self, tokens: list[int], own: Params) -> Any:
        children = []
        for index in range(own.n):
            seed = None if own.seed is None else own.seed + index
            text = f"seed {seed}" if own.temperature else "greedy"
            logprob = -0.5 * len(text) if own.logprobs == 0 else None
            children.append(SimpleNamespace(index=index, text=text, token_ids=Tokenizer().encode(text)))
            children[-1].cumulative_logprob, children[-1].finish_reason = logprob, self.finish_reason
        return SimpleNamespace(prompt_token_ids=tokens, outputs=children)


CHAT: dict[str, Any] = {"tokenize": True, "add_generation_prompt": True, "return_dict": False}


@pytest.fixture(autouse=True)
def vllm(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A stub of the module vllm."""
    module = ModuleType("vllm")
    module.SamplingParams = Params  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", module)
    return module


def question(name: str = "q", **more: str) -> Question:
    return Question(f"what is {name} ?", "sums", key=name, **more)


def replies_of(engine: VllmEngine, requests: Sequence[SampleRequest], sampling: Sampling) -> list[Reply]:
    async def collect() -> list[Reply]:
        return [reply async for reply in engine.generate(requests, sampling)]

    return asyncio.run(collect())


def test_every_sample_has_its_own_seed() -> None:
    asked = question()
    [*replies] = replies_of(VllmEngine(StubLlm(), "tiny"), [SampleRequest(asked, tuple(range(8)))], Sampling(seed=7))
    assert [reply.sample for reply in replies] == list(range(8))
    assert [reply.text for reply in replies] == [f"seed {sample_seed(7, asked, sample)}" for sample in range(8)]
    assert {reply.mean_logprob for reply in replies} == {-0.5}
    assert {(reply.finish_reason, reply.error, reply.reasoning) for reply in replies} == {("stop", None, None)}


@settings(deadline=None, max_examples=50)
@given(st.sets(st.integers(0, 12), min_size=1), st.booleans(), st.sampled_from([0.0, 1.0]), st.integers(1, 20))
def test_a_sample_does_not_depend_on_its_batch(wanted: set[int], chat: bool, temperature: float, batch: int) -> None:
    asks = [SampleRequest(question(name), tuple(wanted)) for name in "abc"]
    sampling = Sampling(temperature=temperature, seed=3, chat=chat)
    replies = replies_of(VllmEngine(StubLlm(), "tiny", batch=batch), asks, sampling)
    found = {(reply.question.key, reply.sample): reply.text for reply in replies}
    assert len(replies) == 3 * len(wanted)
    assert found == {
        (ask.question.key, sample): f"seed {sample_seed(3, ask.question, sample)}" if temperature else "greedy"
        for ask in asks
        for sample in wanted
    }


def test_consecutive_samples_are_one_prompt() -> None:
    llm = StubLlm()
    engine = VllmEngine(llm, "tiny")
    replies_of(engine, [SampleRequest(question(), (0, 1, 2, 5, 7, 8))], Sampling(seed=1, chat=False))
    [(asked, params)] = llm.calls
    assert asked == ["what is q ?"] * 3
    assert [own.n for own in params] == [3, 1, 2]
    assert engine.usage.requests == 3
    assert engine.usage.prompt_tokens == 3 * len("what is q ?")
    assert engine.usage.completion_tokens > 0


def test_sampling_parameters_are_passed_to_vllm() -> None:
    llm = StubLlm()
    sampling = Sampling(temperature=0.7, top_p=0.9, max_tokens=5)
    replies_of(VllmEngine(llm, "tiny"), [SampleRequest(question(prompt="say: 1"), (0, 1))], sampling)
    assert llm.calls == [([[{"role": "user", "content": "say: 1"}]], [Params(2, 0.7, 0.9, 5, None, 0)])]


@pytest.mark.parametrize("chat", [True, False])
def test_a_prompt_that_is_too_long_fails_alone(chat: bool) -> None:
    long = question("x" * CONTEXT)
    asks = [SampleRequest(question("a"), (0, 1)), SampleRequest(long, (0, 1)), SampleRequest(question("b"), (0,))]
    replies = replies_of(VllmEngine(StubLlm(), "tiny"), asks, Sampling(chat=chat))
    tokens = len(long.text) + 2 * chat
    assert {(reply.question.key, reply.sample) for reply in replies if reply.text} == {("a", 0), ("a", 1), ("b", 0)}
    assert [(reply.sample, reply.error) for reply in replies if reply.question is long] == [
        (sample, f"the prompt of {tokens} tokens fills the context of tiny, {CONTEXT} tokens") for sample in (0, 1)
    ]


def test_a_batch_of_failed_prompts_makes_no_call() -> None:
    llm = StubLlm()
    asks = [SampleRequest(question("x" * CONTEXT), (0,)), SampleRequest(question("s", system="be brief"), (0,))]
    replies = replies_of(VllmEngine(llm, "tiny"), asks, Sampling())
    assert [bool(reply.error) for reply in replies] == [True, True]
    assert replies[1].error == "the chat template of tiny rejects the prompt: System role not supported"
    assert llm.calls == []


def test_an_empty_prompt_is_reported() -> None:
    [reply] = replies_of(
        VllmEngine(StubLlm(), "tiny"), [SampleRequest(Question("", "sums"), (0,))], Sampling(chat=False)
    )
    assert reply.error == "the prompt is empty"


def test_an_aborted_request_has_no_text() -> None:
    [reply] = replies_of(
        VllmEngine(StubLlm(finish_reason="abort"), "tiny"), [SampleRequest(question(), (0,))], Sampling()
    )
    assert (reply.text, reply.error) == (None, "vLLM aborted the request: abort")


def test_a_missing_chat_template_is_reported() -> None:
    with pytest.raises(InputError, match=r"^tiny has no usable chat template .*not set\.\); pass --no-chat"):
        replies_of(VllmEngine(StubLlm(chat_template=None), "tiny"), [SampleRequest(question(), (0,))], Sampling())


def test_replies_before_a_failure_are_kept() -> None:
    calls = iter([False, True])

    def fail_the_second_time() -> None:
        if next(calls):
            raise RuntimeError("EngineCore encountered an issue.\nSee stack trace")

    engine = VllmEngine(StubLlm(before=fail_the_second_time), "tiny", batch=2)
    replies: list[Reply] = []

    async def collect() -> None:
        async for reply in engine.generate([SampleRequest(question(name), (0, 1)) for name in "ab"], Sampling()):
            replies.append(reply)

    with pytest.raises(VllmError, match=r"^vLLM failed while sampling 1 prompts \(EngineCore encountered an issue"):
        asyncio.run(collect())
    assert [(reply.question.key, reply.sample) for reply in replies] == [("a", 0), ("a", 1)]


def test_the_next_batch_is_sampled_while_replies_are_consumed() -> None:
    started = [threading.Event() for _ in range(3)]
    count = iter(started)
    engine = VllmEngine(StubLlm(before=lambda: next(count).set()), "tiny", batch=1)

    async def take() -> list[bool]:
        found = []
        async for _ in engine.generate([SampleRequest(question(name), (0,)) for name in "abc"], Sampling()):
            following = started[len(found) + 1 : len(found) + 2]
            found += [await asyncio.to_thread(each.wait, 200) for each in following] or [True]
        return found

    assert asyncio.run(take()) == [True, True, True]


def test_cancellation_does_not_wait_for_vllm() -> None:
    started, released = threading.Event(), threading.Event()

    def hang() -> None:
        started.set()
        released.wait()

    engine = VllmEngine(StubLlm(before=hang), "tiny")

    async def leave() -> None:
        async def collect() -> None:
            async for _ in engine.generate([SampleRequest(question(), (0,))], Sampling()):
                pass

        task = asyncio.create_task(collect())
        await asyncio.to_thread(started.wait)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(leave())
    released.set()


def test_requests_are_consumed_lazily() -> None:
    taken = []

    def asks() -> Any:
        for name in "abcdef":
            taken.append(name)
            yield SampleRequest(question(name), (0,))

    async def first() -> None:
        replies = VllmEngine(StubLlm(), "tiny", batch=2).generate(asks(), Sampling())
        await anext(replies)
        await replies.aclose()

    asyncio.run(first())
    assert taken == list("abcd")


def test_load_errors_repeat_vllms_message(vllm: ModuleType) -> None:
    def refuse(model: str, **options: object) -> None:
        raise ValueError(f"{model} has no config.json; {sorted(options)}\nTraceback")

    vllm.LLM = refuse  # type: ignore[attr-defined]
    with pytest.raises(VllmError, match=r"^vLLM cannot load the model m: m has no config.json; \['dtype'\]$"):
        VllmEngine.load("m", options={"dtype": "float32"})
    vllm.LLM = lambda model, **options: StubLlm()  # type: ignore[attr-defined]
    assert VllmEngine.load("some/folder").model == "some/folder"
    assert VllmEngine.load("some/folder", model="step-100").model == "step-100"


def test_missing_vllm_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(VllmError, match=r"pip install 'memstore\[vllm\]'"):
        VllmEngine.load("m")


def test_importing_the_module_does_not_import_vllm() -> None:
    code = "import sys, memstore_rl.rollout.vllm_engine; sys.exit('vllm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
