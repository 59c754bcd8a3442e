"""The engine that is vLLM in this process, over a stand-in; `tests/vllm` asks the real one, where it is installed.

What the stand-in has in common with the real one is what the engine builds on: child j of a prompt is drawn with seed
+ j, a greedy prompt has one child, a prompt of the context's length is refused and the whole call with it.
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
from memstore_rl.rollout.asking import sample_seed
from memstore_rl.rollout.engine import Ask, Reply, Sampling
from memstore_rl.rollout.vllm_engine import VllmEngine, VllmError

CONTEXT = 40


@dataclass
class Params:
    """`SamplingParams`."""

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
    """A token a letter; a turn costs two."""

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
class StandIn:
    """`LLM`, of a model that writes what its seed says."""

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
    """What `import vllm` finds."""
    module = ModuleType("vllm")
    module.SamplingParams = Params  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", module)
    return module


def question(name: str = "q", **more: str) -> Question:
    return Question(f"what is {name} ?", "sums", key=name, **more)


def drawn(engine: VllmEngine, asks: Sequence[Ask], sampling: Sampling) -> list[Reply]:
    async def collect() -> list[Reply]:
        return [reply async for reply in engine.generate(asks, sampling)]

    return asyncio.run(collect())


def test_every_sample_is_drawn_with_its_own_seed() -> None:
    asked = question()
    [*replies] = drawn(VllmEngine(StandIn(), "tiny"), [Ask(asked, tuple(range(8)))], Sampling(seed=7))
    assert [reply.sample for reply in replies] == list(range(8))
    assert [reply.text for reply in replies] == [f"seed {sample_seed(7, asked, sample)}" for sample in range(8)]
    assert {reply.mean_logprob for reply in replies} == {-0.5}
    assert {(reply.finish_reason, reply.error, reply.reasoning) for reply in replies} == {("stop", None, None)}


@settings(deadline=None, max_examples=50)
@given(st.sets(st.integers(0, 12), min_size=1), st.booleans(), st.sampled_from([0.0, 1.0]), st.integers(1, 20))
def test_a_sample_is_the_same_whatever_it_is_drawn_with(wanted: set[int], chat: bool, heat: float, batch: int) -> None:
    asks = [Ask(question(name), tuple(wanted)) for name in "abc"]
    sampling = Sampling(temperature=heat, seed=3, chat=chat)
    replies = drawn(VllmEngine(StandIn(), "tiny", batch=batch), asks, sampling)
    found = {(reply.question.key, reply.sample): reply.text for reply in replies}
    assert len(replies) == 3 * len(wanted)
    assert found == {
        (ask.question.key, sample): f"seed {sample_seed(3, ask.question, sample)}" if heat else "greedy"
        for ask in asks
        for sample in wanted
    }


def test_neighbouring_samples_are_one_prompt_and_it_is_counted_once() -> None:
    llm = StandIn()
    engine = VllmEngine(llm, "tiny")
    drawn(engine, [Ask(question(), (0, 1, 2, 5, 7, 8))], Sampling(seed=1, chat=False))
    [(asked, params)] = llm.calls
    assert asked == ["what is q ?"] * 3
    assert [own.n for own in params] == [3, 1, 2]
    assert engine.usage.requests == 3
    assert engine.usage.prompt_tokens == 3 * len("what is q ?")
    assert engine.usage.completion_tokens > 0


def test_what_sampling_says_is_what_vllm_is_told() -> None:
    llm = StandIn()
    sampling = Sampling(temperature=0.7, top_p=0.9, max_tokens=5)
    drawn(VllmEngine(llm, "tiny"), [Ask(question(prompt="say: 1"), (0, 1))], sampling)
    assert llm.calls == [([[{"role": "user", "content": "say: 1"}]], [Params(2, 0.7, 0.9, 5, None, 0)])]


@pytest.mark.parametrize("chat", [True, False])
def test_a_prompt_that_is_too_long_costs_no_other_its_answer(chat: bool) -> None:
    long = question("x" * CONTEXT)
    asks = [Ask(question("a"), (0, 1)), Ask(long, (0, 1)), Ask(question("b"), (0,))]
    replies = drawn(VllmEngine(StandIn(), "tiny"), asks, Sampling(chat=chat))
    tokens = len(long.text) + 2 * chat
    assert {(reply.question.key, reply.sample) for reply in replies if reply.text} == {("a", 0), ("a", 1), ("b", 0)}
    assert [(reply.sample, reply.error) for reply in replies if reply.question is long] == [
        (sample, f"its prompt of {tokens} tokens leaves no room in the context of tiny, {CONTEXT} tokens")
        for sample in (0, 1)
    ]


def test_a_batch_of_refused_prompts_is_no_call() -> None:
    llm = StandIn()
    asks = [Ask(question("x" * CONTEXT), (0,)), Ask(question("s", system="be brief"), (0,))]
    replies = drawn(VllmEngine(llm, "tiny"), asks, Sampling())
    assert [bool(reply.error) for reply in replies] == [True, True]
    assert replies[1].error == "the chat template of tiny does not take it: System role not supported"
    assert llm.calls == []


def test_an_empty_prompt_is_said() -> None:
    [reply] = drawn(VllmEngine(StandIn(), "tiny"), [Ask(Question("", "sums"), (0,))], Sampling(chat=False))
    assert reply.error == "its prompt is empty"


def test_an_answer_that_vllm_broke_off_is_none() -> None:
    [reply] = drawn(VllmEngine(StandIn(finish_reason="abort"), "tiny"), [Ask(question(), (0,))], Sampling())
    assert (reply.text, reply.error) == (None, "vLLM broke its answer off: abort")


def test_a_model_without_a_chat_template_is_one_sentence() -> None:
    with pytest.raises(InputError, match=r"^tiny has no chat template .*not set\.\); pass --no-chat"):
        drawn(VllmEngine(StandIn(chat_template=None), "tiny"), [Ask(question(), (0,))], Sampling())


def test_what_came_before_a_failure_of_vllm_is_there() -> None:
    calls = iter([False, True])

    def fail_the_second_time() -> None:
        if next(calls):
            raise RuntimeError("EngineCore encountered an issue.\nSee stack trace")

    engine = VllmEngine(StandIn(before=fail_the_second_time), "tiny", batch=2)
    replies: list[Reply] = []

    async def collect() -> None:
        async for reply in engine.generate([Ask(question(name), (0, 1)) for name in "ab"], Sampling()):
            replies.append(reply)

    with pytest.raises(VllmError, match=r"^vLLM failed while it answered 1 prompts \(EngineCore encountered an issue"):
        asyncio.run(collect())
    assert [(reply.question.key, reply.sample) for reply in replies] == [("a", 0), ("a", 1)]


def test_the_next_batch_is_drawn_while_the_last_is_taken() -> None:
    started = [threading.Event() for _ in range(3)]
    count = iter(started)
    engine = VllmEngine(StandIn(before=lambda: next(count).set()), "tiny", batch=1)

    async def take() -> list[bool]:
        found = []
        async for _ in engine.generate([Ask(question(name), (0,)) for name in "abc"], Sampling()):
            following = started[len(found) + 1 : len(found) + 2]
            found += [await asyncio.to_thread(each.wait, 200) for each in following] or [True]
        return found

    assert asyncio.run(take()) == [True, True, True]


def test_a_program_that_is_told_to_end_does_not_wait_for_vllm() -> None:
    started, released = threading.Event(), threading.Event()

    def hang() -> None:
        started.set()
        released.wait()

    engine = VllmEngine(StandIn(before=hang), "tiny")

    async def leave() -> None:
        async def collect() -> None:
            async for _ in engine.generate([Ask(question(), (0,))], Sampling()):
                pass

        task = asyncio.create_task(collect())
        await asyncio.to_thread(started.wait)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(leave())
    released.set()


def test_asks_are_taken_as_there_is_room() -> None:
    taken = []

    def asks() -> Any:
        for name in "abcdef":
            taken.append(name)
            yield Ask(question(name), (0,))

    async def first() -> None:
        replies = VllmEngine(StandIn(), "tiny", batch=2).generate(asks(), Sampling())
        await anext(replies)
        await replies.aclose()

    asyncio.run(first())
    assert taken == list("abcd")


def test_loading_says_what_vllm_says(vllm: ModuleType) -> None:
    def refuse(model: str, **options: object) -> None:
        raise ValueError(f"{model} has no config.json; {sorted(options)}\nTraceback")

    vllm.LLM = refuse  # type: ignore[attr-defined]
    with pytest.raises(VllmError, match=r"^vLLM cannot load the model m: m has no config.json; \['dtype'\]$"):
        VllmEngine.load("m", options={"dtype": "float32"})
    vllm.LLM = lambda model, **options: StandIn()  # type: ignore[attr-defined]
    assert VllmEngine.load("some/folder").model == "some/folder"
    assert VllmEngine.load("some/folder", model="step-100").model == "step-100"


def test_without_vllm_one_sentence_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(VllmError, match=r"pip install 'memstore\[vllm\]'"):
        VllmEngine.load("m")


def test_vllm_is_imported_by_loading_alone() -> None:
    code = "import sys, memstore_rl.rollout.vllm_engine; sys.exit('vllm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
