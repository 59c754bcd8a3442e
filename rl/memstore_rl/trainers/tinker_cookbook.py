"""Rewards of whole groups for tinker-cookbook, as builders of environment groups.

    config = train.Config(
        dataset_builder=MemoryDatasetBuilder("data/train_memory_20.parquet", "data/test.parquet", ...), ...
    )

tinker-cookbook runs the environments of a group and then calls `compute_group_rewards` of their builder.
`RewardedGroup` is such a builder: it scores the trajectories there. Their environments are those of another builder, or
`PromptEnv`, which samples a prompt once. A trajectory's reward is that of the service alone; rewards that its
environment gave to steps are subtracted, because they would add up.

Builders go to other processes by pickle, so they hold texts and settings, and find their connection when they score.

With `rollout_error_tolerance`, or a strategy that catches errors of a group, tinker-cookbook drops groups whose rewards
raise, and with `stream_minibatch_config` it would wait for them for ever. So the hook ends the process
(`memstore_rl.trainers.stopped`).

The advantage of tinker-cookbook is the reward less the mean of its group, so shaping `residual` fits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from memstore.errors import InputError
from memstore.text.chat import plain_output
from memstore_rl.rewards.reward import Reward, RewardQuery, Rollout
from memstore_rl.trainers.hook import environment_hook
from memstore_rl.trainers.metrics import reward_metrics
from memstore_rl.trainers.rows import Row, labelled_query, row_facts
from memstore_rl.trainers.stopped import stop_training
from memstore_rl.trainers.verl.rows import is_training


@dataclass(frozen=True)
class PromptEnv:
    """Samples a prompt once, without a reward; an `Env`."""

    prompt: Sequence[Mapping[str, Any]]
    renderer: Any

    async def initial_observation(self) -> tuple[Any, Any]:
        """The prompt, and where sampling stops."""
        return self.renderer.build_generation_prompt(list(self.prompt)), self.renderer.get_stop_sequences()

    async def step(self, action: Sequence[int], *, extra: Any = None) -> Any:
        """End the episode."""
        from tinker import ModelInput
        from tinker_cookbook.rl.types import StepResult

        return StepResult(
            reward=0.0,
            episode_done=True,
            next_observation=ModelInput.empty(),
            next_stop_condition=self.renderer.get_stop_sequences(),
        )


@dataclass(frozen=True)
class PromptGroup:
    """Builds `size` environments of one prompt."""

    prompt: Sequence[Mapping[str, Any]]
    renderer: Any
    size: int

    async def make_envs(self) -> list[PromptEnv]:
        """The environments."""
        return [PromptEnv(self.prompt, self.renderer) for _ in range(self.size)]

    async def cleanup(self) -> None:
        """There is nothing to release."""

    def logging_tags(self) -> list[str]:
        """No tags."""
        return []


@dataclass(frozen=True)
class RewardedGroup:
    """Scores the trajectories of another builder's environments; an `EnvGroupBuilder`.

    Example:
        RewardedGroup(ProblemGroupBuilder(...), RewardQuery("what is 2 + 3 ?", gold="5"), renderer, group_size=8)
    """

    builder: Any
    """The builder of the environments."""
    query: RewardQuery
    """What they ask."""
    renderer: Any
    """The renderer of the environments; its tokenizer decodes the responses."""
    group_size: int | None = None
    """Trajectories in a full group; None: the setting `group_size`."""
    evaluation: bool = False
    """Whether the group is scored by ground truth only and not recorded."""
    step: int | None = None
    """Recorded with the trajectories: the number of the batch."""
    tags: tuple[str, ...] = field(default=())
    """Names under which tinker-cookbook logs the group, beside those of the builder."""

    async def make_envs(self) -> Any:
        """The environments of the builder."""
        return await self.builder.make_envs()

    async def compute_group_rewards(
        self, trajectory_group: Sequence[Any], env_group: Sequence[Any]
    ) -> list[tuple[float, dict[str, float]]]:
        """Score a group.

        Raises:
            TrainingStopped: it cannot be scored.
        """
        rows = [Row(0, self.query, Rollout(response=self._response(one), step=self.step)) for one in trajectory_group]
        with stop_training():
            hook = environment_hook(mean_only=True, group_relative=True)
            scored = await hook.score_async(rows, evaluation=self.evaluation, group_size=self.group_size)
        return [
            (value - sum(transition.reward for transition in trajectory.transitions), _metrics(reward))
            for trajectory, value, reward in zip(trajectory_group, scored.values, scored.rewards, strict=True)
        ]

    async def cleanup(self) -> None:
        """That of the builder."""
        await self.builder.cleanup()

    def logging_tags(self) -> list[str]:
        """Those of the builder, and `tags`."""
        return [*self.builder.logging_tags(), *self.tags]

    def _response(self, trajectory: Any) -> str:
        """What the policy wrote, turn by turn."""
        turns = [self.renderer.tokenizer.decode(one.ac.tokens) for one in trajectory.transitions]
        return "\n".join(map(plain_output, turns))


def _metrics(reward: Reward) -> dict[str, float]:
    return {f"memstore/{name}": value for name, value in reward_metrics(reward).items()}


@dataclass(frozen=True)
class RowDataset:
    """Rows of `memstore verl data` as groups; an `RLDataset`. Rows of other splits than `train` are evaluated."""

    rows: Sequence[Mapping[str, Any]]
    renderer: Any
    batch_size: int
    group_size: int

    def get_batch(self, index: int) -> list[RewardedGroup]:
        """The groups of a batch."""
        rows = self.rows[index * self.batch_size : (index + 1) * self.batch_size]
        return [self._group(row, index) for row in rows]

    def __len__(self) -> int:
        return math.ceil(len(self.rows) / self.batch_size)

    def _group(self, row: Mapping[str, Any], step: int) -> RewardedGroup:
        query = labelled_query(row["prompt"], None, row)
        return RewardedGroup(
            PromptGroup(row["prompt"], self.renderer, self.group_size),
            query,
            self.renderer,
            self.group_size,
            evaluation=not is_training(row_facts(None, row).extra_info),
            step=step,
            tags=(query.dataset,) if query.dataset else (),
        )


@dataclass(frozen=True)
class MemoryDatasetBuilder:
    """Makes the data sets of tinker-cookbook from files of `memstore verl data`; an `RLDatasetBuilder`."""

    train_file: str
    test_file: str | None
    model_name: str
    """Name of the model, for its tokenizer."""
    renderer_name: str
    batch_size: int
    """Groups in a batch."""
    group_size: int
    test_group_size: int = 1

    async def __call__(self) -> tuple[RowDataset, RowDataset | None]:
        """The data sets of training and test.

        Raises:
            InputError: a file has no rows.
        """
        train = _rows(self.train_file)
        test = None if self.test_file is None else _rows(self.test_file)
        renderer = self._renderer()
        train_set = RowDataset(train, renderer, self.batch_size, self.group_size)
        if test is None:
            return train_set, None
        return train_set, RowDataset(test, renderer, self.batch_size, self.test_group_size)

    def _renderer(self) -> Any:
        from tinker_cookbook.renderers import get_renderer
        from tinker_cookbook.tokenizer_utils import get_tokenizer

        return get_renderer(self.renderer_name, get_tokenizer(self.model_name), model_name=self.model_name)


def _rows(path: str) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    if not rows:
        raise InputError(f"{path} has no rows; write the data with `memstore verl data`")
    return rows
