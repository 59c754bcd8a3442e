"""Rewards of whole groups for OpenRLHF, as an agent.

    # memstore_agent.py, for --train.agent_func_path memstore_agent.py
    from memstore_rl.trainers.openrlhf import AgentExecutor

OpenRLHF calls a `reward_func` (`--reward.remote_url`) with one rollout at a time, and only logs its errors: the step
goes on with rollouts that have no reward. So there is no `reward_func` here. An agent generates as before
(`SingleTurnAgentExecutor`), and its errors end the step, as those of the engine do.

OpenRLHF starts all rollouts of a prompt in one call of the engine's `generate_responses`, which runs as one task. The
rollouts that one task starts are a group; two prompts with one text are two tasks. They wait for each other, and are
scored together.

A row says by its split whether it is of the training or of an evaluation, so the label of a row has to carry its
columns (`COLUMNS` of `memstore_rl.trainers.rows`) as JSON; docs/trainers/openrlhf.md has the lines that write it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from memstore.errors import InputError
from memstore.text.chat import plain_output
from memstore_rl.rewards.reward import Rollout
from memstore_rl.trainers.hook import GroupRewards, environment_hook
from memstore_rl.trainers.metrics import reward_metrics
from memstore_rl.trainers.rows import Row, labelled_query, row_facts
from memstore_rl.trainers.verl.rows import is_training


def __getattr__(name: str) -> Any:
    """Make `AgentExecutor` when OpenRLHF asks for it: `GroupExecutor` over its single-turn agent."""
    if name == "AgentExecutor":
        from openrlhf.utils.agent import SingleTurnAgentExecutor

        return type("AgentExecutor", (GroupExecutor, SingleTurnAgentExecutor), {})
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class _Group:
    """The rollouts that one task has started."""

    def __init__(self) -> None:
        self.members = 0
        self.started = False
        self.outputs: list[dict[str, Any]] = []
        self.scored: asyncio.Future[GroupRewards] = asyncio.get_running_loop().create_future()


class GroupExecutor:
    """Gives the rollouts of an executor of OpenRLHF their rewards; a base class beside that executor."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._groups: WeakKeyDictionary[asyncio.Task[Any], _Group] = WeakKeyDictionary()

    def execute(self, *arguments: Any, hf_tokenizer: Any, **options: Any) -> Coroutine[Any, Any, dict[str, Any]]:
        """Generate a rollout and score it with its group.

        It is no coroutine function: a call happens in the task of the group, and its coroutine runs in another.
        """
        return self._execute(self._join(), *arguments, hf_tokenizer=hf_tokenizer, **options)

    def _join(self) -> _Group:
        task = asyncio.current_task()
        if task is None:
            raise InputError("a rollout was started outside a task of OpenRLHF's engine, so its group is unknown")
        group = self._groups.get(task)
        if group is None or group.started:
            group = self._groups[task] = _Group()
        group.members += 1
        return group

    async def _execute(self, group: _Group, *arguments: Any, hf_tokenizer: Any, **options: Any) -> dict[str, Any]:
        group.started = True
        try:
            generated = super().execute(*arguments, hf_tokenizer=hf_tokenizer, **options)  # type: ignore[misc]
            output: dict[str, Any] = await generated
            place = len(group.outputs)
            group.outputs.append(output)
            if len(group.outputs) == group.members:
                group.scored.set_result(await _score(group.outputs, hf_tokenizer))
        except asyncio.CancelledError:
            group.scored.cancel()
            raise
        except Exception as error:
            if not group.scored.done():
                group.scored.set_exception(error)
                group.scored.exception()  # it is raised here in any case, also if no other rollout waits
            raise
        scored = await asyncio.shield(group.scored)
        logs = {f"memstore/{name}": value for name, value in reward_metrics(scored.rewards[place]).items()}
        output["reward"] = output["scores"] = scored.values[place]
        output["extra_logs"] = {**(output.get("extra_logs") or {}), **logs}
        return output


async def _score(outputs: Sequence[dict[str, Any]], tokenizer: Any) -> GroupRewards:
    training = is_training(row_facts(outputs[0]["label"]).extra_info)
    rows = [
        Row(0, labelled_query(output["prompt"], output["label"]), Rollout(response=_response(output, tokenizer)))
        for output in outputs
    ]
    hook = environment_hook()
    size = hook.settings.group_size or len(outputs)
    return await hook.score_async(rows, evaluation=not training, group_size=size)


def _response(output: dict[str, Any], tokenizer: Any) -> str:
    """What the policy wrote, without the turns of an environment."""
    tokens = output["observation_tokens"]
    parts = [tokenizer.decode(tokens[start:end], skip_special_tokens=False) for start, end in output["action_ranges"]]
    return plain_output("\n".join(parts))
