"""Rewards of whole groups for AReaL, as a workflow around another.

    trainer.train(
        workflow="memstore_rl.trainers.areal.GroupRewardWorkflow",
        workflow_kwargs={"tokenizer": path, "group_size": 8, "workflow_kwargs": {"gconfig": config.gconfig}},
    )

AReaL runs the workflow of a row `gconfig.n_samples` times, and calls a `reward_fn` for each rollout alone. This
workflow generates with another one, by default AReaL's `RLVRWorkflow`, waits for the group, and replaces the rewards.

AReaL starts the rollouts of a row in one task (`GroupedRolloutWorkflow`). The rollouts that one task starts are a
group; two rows with one prompt are two tasks.

AReaL only logs what a workflow raises, and trains on the other rows. So a failure of the rewards raises
`TrainingStopped` (`memstore_rl.trainers.stopped`): AReaL's rollout thread ends, and its trainer raises because of that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from importlib import import_module
from typing import Any
from weakref import WeakKeyDictionary

from memstore.errors import InputError
from memstore.text.chat import plain_output
from memstore_rl.rewards.reward import Rollout
from memstore_rl.trainers.hook import GroupRewards, environment_hook
from memstore_rl.trainers.metrics import reward_metrics
from memstore_rl.trainers.rows import Row, labelled_query, row_facts
from memstore_rl.trainers.stopped import stop_training
from memstore_rl.trainers.verl.rows import is_training

RLVR = "areal.workflow.rlvr.RLVRWorkflow"


def no_reward(*arguments: Any, **columns: Any) -> float:
    """The `reward_fn` of the workflow that generates."""
    return 0.0


class _Group:
    """The rollouts that one task has started."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.data = data
        self.members = 0
        self.started = False
        self.responses: list[str] = []
        self.scored: asyncio.Future[GroupRewards] = asyncio.get_running_loop().create_future()


class GroupRewarding:
    """The workflow without AReaL's base class; `GroupRewardWorkflow` has it."""

    def __init__(
        self,
        *,
        tokenizer: Any,
        group_size: int,
        workflow: Any = RLVR,
        workflow_kwargs: Mapping[str, Any] | None = None,
        mean_only: bool | None = None,
        group_relative: bool | None = None,
    ) -> None:
        """Create a workflow.

        Args:
            tokenizer: decodes the responses: a tokenizer of transformers, or the path of one.
            group_size: `gconfig.n_samples`, or that of `eval_gconfig`.
            workflow: generates a rollout: a workflow of AReaL, or the path of its class.
            workflow_kwargs: arguments of that class; tokenizer and `reward_fn` are added.
            mean_only, group_relative: of AReaL's advantage (`HookSettings`); None: the settings of the environment.
        """
        self._tokenizer = _tokenizer(tokenizer)
        self._group_size = group_size
        self._workflow = _workflow(
            workflow, {"tokenizer": tokenizer, "reward_fn": no_reward, **(workflow_kwargs or {})}
        )
        self._hook_settings = {"mean_only": mean_only, "group_relative": group_relative}
        self._groups: WeakKeyDictionary[asyncio.Task[Any], _Group] = WeakKeyDictionary()

    def arun_episode(self, engine: Any, data: dict[str, Any]) -> Coroutine[Any, Any, dict[str, Any] | None]:
        """Generate a rollout and score it with its group.

        It is no coroutine function: a call happens in the task of the row, and its coroutine may run in another.
        """
        return self._run(self._join(data), engine, data)

    def _join(self, data: Mapping[str, Any]) -> _Group:
        task = asyncio.current_task()
        if task is None:
            raise InputError("a rollout was started outside a task of AReaL, so its group is unknown")
        group = self._groups.get(task)
        if group is None or group.started:
            group = self._groups[task] = _Group(data)
        group.members += 1
        return group

    async def _run(self, group: _Group, engine: Any, data: dict[str, Any]) -> dict[str, Any] | None:
        group.started = True
        try:
            made: dict[str, Any] | None = await self._workflow.arun_episode(engine, data)
            place = len(group.responses)
            if made is None:
                group.members -= 1  # AReaL leaves the rollout out
            else:
                group.responses.append(self._response(made))
            if len(group.responses) == group.members and group.responses:
                group.scored.set_result(await self._score(group))
        except asyncio.CancelledError:
            group.scored.cancel()
            raise
        except Exception as error:
            if not group.scored.done():
                group.scored.set_exception(error)
                group.scored.exception()  # it is raised here in any case, also if no other rollout waits
            raise
        if made is None:
            return None
        scored = await asyncio.shield(group.scored)
        self._log({"reward": scored.values[place], **reward_metrics(scored.rewards[place])})
        return {**made, "rewards": made["rewards"].new_full(made["rewards"].shape, scored.values[place])}

    async def _score(self, group: _Group) -> GroupRewards:
        with stop_training():
            training = is_training(row_facts(None, group.data).extra_info)
            query = labelled_query(group.data.get("messages", group.data.get("prompt")), None, group.data)
            rows = [Row(0, query, Rollout(response=response)) for response in group.responses]
            hook = environment_hook(**self._hook_settings)
            return await hook.score_async(rows, evaluation=not training, group_size=self._group_size)

    def _response(self, made: Mapping[str, Any]) -> str:
        """What the policy wrote: the tokens with a loss."""
        with stop_training():
            if "loss_mask" not in made or len(made["input_ids"]) != 1:
                raise InputError(
                    "a workflow returned no tensors of one rollout, so its response is unknown; use a workflow such as "
                    f"{RLVR}"
                )
        tokens: Sequence[int] = made["input_ids"][0][made["loss_mask"][0].bool()].tolist()
        return plain_output(self._tokenizer.decode(tokens))

    def _log(self, metrics: Mapping[str, float]) -> None:
        """Add metrics of a rollout to AReaL's, which logs their means."""
        from areal import workflow_context
        from areal.utils import stats_tracker

        names = {f"memstore/{name}": value for name, value in metrics.items()}
        stats_tracker.get(workflow_context.stat_scope()).scalar(**names)


def _tokenizer(tokenizer: Any) -> Any:
    if not isinstance(tokenizer, str):
        return tokenizer
    from areal.utils.hf_utils import load_hf_tokenizer

    return load_hf_tokenizer(tokenizer)


def _workflow(workflow: Any, arguments: Mapping[str, Any]) -> Any:
    if not isinstance(workflow, str):
        return workflow
    module, _, name = workflow.rpartition(".")
    return getattr(import_module(module), name)(**arguments)


def __getattr__(name: str) -> Any:
    """Make `GroupRewardWorkflow` when AReaL asks for it."""
    if name == "GroupRewardWorkflow":
        from areal.api import RolloutWorkflow

        return type(name, (GroupRewarding, RolloutWorkflow), {"__module__": __name__})
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
