"""What only the hook of OpenRLHF does: groups by task, and errors of one rollout."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest

from memstore.errors import InputError
from memstore_rl.trainers.conformance.service import NotingService
from memstore_rl.trainers.openrlhf import GroupExecutor

LABEL = json.dumps(
    {"data_source": "sums", "reward_model": {"ground_truth": "5"}, "extra_info": {"split": "train", "domain": "math"}}
)
TOKENIZER = SimpleNamespace(decode=lambda tokens, skip_special_tokens: "".join(map(chr, tokens)))


class Agent:
    """An executor whose rollout is its prompt's second half; `fails` raises."""

    async def execute(self, prompt: str, label: Any, hf_tokenizer: Any) -> dict[str, Any]:
        await asyncio.sleep(0)
        query, _, response = prompt.partition("|")
        if response == "fails":
            raise ValueError("the engine failed")
        tokens = list(map(ord, query + response + "ENV" + response))
        ranges = [(len(query), len(query + response)), (len(tokens) - len(response), len(tokens))]
        return {"prompt": query, "label": label, "observation_tokens": tokens, "action_ranges": ranges}


class Executor(GroupExecutor, Agent):  # type: ignore[misc]  # called by name
    """The hook over it."""


async def start(executor: Any, prompts: list[str], label: Any = LABEL) -> list[Any]:
    """As the engine: all rollouts of a call are started in its task, then gathered."""
    calls = [executor.execute(prompt=prompt, label=label, hf_tokenizer=TOKENIZER) for prompt in prompts]
    return await asyncio.gather(*calls)


def test_what_the_policy_wrote_is_scored_and_logged(service: NotingService) -> None:
    outputs = asyncio.run(start(Executor(), ["2 + 3 ?|\\boxed{5}", "2 + 3 ?|\\boxed{6}"]))
    assert [(output["reward"], output["scores"]) for output in outputs] == [(1.0, 1.0), (0.0, 0.0)]
    assert outputs[0]["extra_logs"]["memstore/ground_truth_share"] == 1.0
    [one] = service.noted
    assert one.group.rollouts[0].response == "\\boxed{5}\n\\boxed{5}"
    assert (one.group.query.dataset, one.group.expected) == ("sums", 2)


def test_two_batches_of_one_task_are_two_groups(service: NotingService) -> None:
    async def twice() -> None:
        executor = Executor()
        await start(executor, ["2 + 3 ?|a", "2 + 3 ?|b"])
        await start(executor, ["2 + 3 ?|c", "2 + 3 ?|d"])

    asyncio.run(twice())
    assert [len(one.group.rollouts) for one in service.noted] == [2, 2]


def test_error_of_one_rollout_ends_its_group_and_no_other(service: NotingService) -> None:
    async def both() -> list[Any]:
        executor = Executor()
        groups = [start(executor, ["2 + 3 ?|a", "2 + 3 ?|fails"]), start(executor, ["2 + 3 ?|b", "2 + 3 ?|c"])]
        return await asyncio.gather(*map(asyncio.ensure_future, groups), return_exceptions=True)

    failed, scored = asyncio.run(both())
    assert isinstance(failed, ValueError)
    assert [output["reward"] for output in scored] == [0.0, 0.0]
    assert len(service.noted) == 1


def test_every_rollout_of_a_failed_group_gets_the_error(service: NotingService) -> None:
    async def all_of_them() -> list[Any]:
        executor, prompts = Executor(), ["2 + 3 ?|a", "2 + 3 ?|fails", "2 + 3 ?|b"]
        calls = [executor.execute(prompt=prompt, label=LABEL, hf_tokenizer=TOKENIZER) for prompt in prompts]
        return await asyncio.gather(*calls, return_exceptions=True)

    assert [str(error) for error in asyncio.run(all_of_them())] == ["the engine failed"] * 3


def test_label_without_a_split_is_refused(service: NotingService) -> None:
    with pytest.raises(InputError, match=r"a row has no extra_info.split"):
        asyncio.run(start(Executor(), ["2 + 3 ?|a"], label="5"))


def test_rollout_outside_a_task_is_refused() -> None:
    async def from_a_callback() -> BaseException:
        loop = asyncio.get_running_loop()
        error: asyncio.Future[BaseException] = loop.create_future()
        loop.set_exception_handler(lambda _, context: error.set_result(context["exception"]))
        loop.call_soon(lambda: Executor().execute(prompt="2 + 3 ?|a", label=LABEL, hf_tokenizer=TOKENIZER))
        return await error

    with pytest.raises(InputError, match="a rollout was started outside a task of OpenRLHF's engine"):
        raise asyncio.run(from_a_callback())


def test_agent_is_made_when_openrlhf_asks_for_it() -> None:
    from memstore_rl.trainers import openrlhf

    with pytest.raises(AttributeError, match="no attribute 'reward_func'"):
        _ = openrlhf.reward_func
    try:
        from openrlhf.utils.agent import AgentExecutorBase
    except ImportError:
        with pytest.raises(ImportError, match="openrlhf"):
            _ = openrlhf.AgentExecutor
    else:
        assert issubclass(openrlhf.AgentExecutor, AgentExecutorBase)
