"""Rewards of whole groups for NeMo-RL, as an environment.

    # run_memstore.py, in the place of examples/run_grpo.py
    import runpy
    from memstore_rl.trainers.nemo_rl import register

    register()
    runpy.run_path("examples/run_grpo.py", run_name="__main__")

NeMo-RL gives an environment the rollouts of a batch with the metadata of their rows, and no group. Two rows of a batch
may have one prompt, and a batch may have rollouts of several tasks, so neither text nor position says what a group is.
`row_processor` gives a row an id each time that NeMo-RL reads it. The id is in the metadata, which NeMo-RL copies to
the rollouts of the row, and the environment groups by it.

The environment needs whole groups in a call. NeMo-RL's asynchronous engine steps each rollout by itself, in at most 32
threads that wait for the reward, so that rollouts could not wait for their group. Such a call is refused.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from memstore.errors import InputError
from memstore.text.chat import plain_output
from memstore_rl.rewards.reward import Rollout
from memstore_rl.trainers.hook import environment_hook
from memstore_rl.trainers.rows import COLUMNS, Row, labelled_query, row_facts
from memstore_rl.trainers.verl.rows import is_training

NAME = "memstore"
"""Name of the environment and of the processor in NeMo-RL's registries, and key of the metadata."""
ACTOR = f"{__name__}.RewardActor"
_OBSERVATION = "Environment: scored"
"""What a rollout reads after its answer, without a loss. NeMo-RL cannot join an empty text."""


class EnvironmentSettings(BaseModel):
    """The environment's section of NeMo-RL's configuration, `env.memstore`."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    group_size: int = Field(ge=1)
    """Rollouts of a prompt: `${grpo.num_generations_per_prompt}`."""
    mean_only: bool = False
    """True if `grpo.normalize_rewards` is false: the advantage is not divided by the standard deviation."""


class EnvironmentReturn(NamedTuple):
    """What a step returns, one entry a rollout; the fields of NeMo-RL's `EnvironmentReturn`."""

    observations: list[dict[str, str]]
    metadata: list[Any]
    next_stop_strings: list[None]
    rewards: Any
    terminateds: Any
    answers: list[str | None] | None


class RewardEnvironment:
    """An `EnvironmentInterface` with one turn whose rewards come from the reward service."""

    def __init__(self, cfg: Mapping[str, Any]) -> None:
        """Create the environment.

        Raises:
            InputError: a setting is invalid.
        """
        try:
            self._settings = EnvironmentSettings.model_validate(dict(cfg))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            name = ".".join(map(str, first["loc"]))
            raise InputError(f"env.{NAME}.{name} of the configuration is wrong: {first['msg']}") from error
        self._hook = environment_hook(mean_only=self._settings.mean_only)
        self._metrics: dict[str, float] = {}

    def step(
        self, message_log_batch: Sequence[Sequence[Mapping[str, Any]]], metadata: Sequence[Any]
    ) -> EnvironmentReturn:
        """Score the rollouts of a batch; each of them ends.

        Raises:
            InputError: a rollout has no id of its group, or a training group is not whole.
            MemstoreError: the batch cannot be scored.
        """
        import torch

        rows = [_row(log, given) for log, given in zip(message_log_batch, metadata, strict=True)]
        values = self._score(rows, [_is_training(given) for given in metadata])
        return EnvironmentReturn(
            observations=[{"role": "environment", "content": _OBSERVATION} for _ in rows],
            metadata=list(metadata),
            next_stop_strings=[None] * len(rows),
            rewards=torch.tensor(values, dtype=torch.float32),
            terminateds=torch.ones(len(rows), dtype=torch.bool),
            answers=None,
        )

    def _score(self, rows: Sequence[Row], training: Sequence[bool]) -> list[float]:
        """The rewards of a batch, which may hold rows of the training and of an evaluation."""
        values = [0.0] * len(rows)
        for evaluation in (False, True):
            places = [place for place, trains in enumerate(training) if trains is not evaluation]
            if not places:
                continue
            part = [rows[place] for place in places]
            if not evaluation:
                _check_whole(part, self._settings.group_size)
            size = None if evaluation else self._settings.group_size
            scored = self._hook.score(part, evaluation=evaluation, group_size=size)
            for place, value in zip(places, scored.values, strict=True):
                values[place] = value
            if not evaluation:
                self._metrics = scored.metrics
                shown = " ".join(f"{name}={value:.4g}" for name, value in sorted(scored.metrics.items()))
                print(f"{NAME}: rollouts={len(part)} {shown}", flush=True)
        return values

    def global_post_process_and_metrics(self, batch: Any) -> tuple[Any, dict[str, float]]:
        """The batch as it is, and the metrics of the last training step."""
        return batch, {f"{NAME}/{name}": value for name, value in self._metrics.items()}

    def shutdown(self) -> None:
        """There is nothing to release."""


def _row(log: Sequence[Mapping[str, Any]], metadata: Any) -> Row:
    given = _own(metadata)
    written = [str(message["content"]) for message in log if message["role"] == "assistant"]
    query = labelled_query(given["prompt"], None, given)
    return Row(given["group"], query, Rollout(response="\n".join(map(plain_output, written))))


def _is_training(metadata: Any) -> bool:
    return is_training(row_facts(None, _own(metadata)).extra_info)


def _own(metadata: Any) -> Mapping[str, Any]:
    own = metadata.get(NAME) if isinstance(metadata, Mapping) else None
    if not isinstance(own, Mapping):
        raise InputError(f"a row has no id of its group; set data.train.processor={NAME} and data.validation.processor")
    return own


def _check_whole(rows: Sequence[Row], size: int) -> None:
    for group, count in Counter(row.group for row in rows).items():
        if count != size:
            raise InputError(
                f"NeMo-RL passed {count} of {size} rollouts of the group {group}; set "
                "policy.generation.vllm_cfg.async_engine=false, and env.memstore.group_size to "
                "grpo.num_generations_per_prompt"
            )


def row_metadata(row: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata of a row for the environment, with a new id: `extra_env_info`."""
    columns = {name: row[name] for name in COLUMNS if name in row}
    return {NAME: {"group": uuid.uuid4().hex, "prompt": row["messages"], **columns}}


def row_processor(
    datum_dict: dict[str, Any], task_data_spec: Any, tokenizer: Any, max_seq_length: int, idx: int
) -> Any:
    """Make a `DatumSpec` of a row, as NeMo-RL's `math_hf_data_processor` does, with the metadata of the environment.

    Args:
        datum_dict: a row of `memstore verl data` whose column `prompt` is called `messages`.

    Raises:
        InputError: the prompt is not one message of a user.
    """
    from nemo_rl.data.processors import math_hf_data_processor

    messages = datum_dict["messages"]
    if [message["role"] for message in messages] != ["user"]:
        raise InputError(
            "a prompt is not one message of a user; NeMo-RL takes a system prompt from data.default.system_prompt_file"
        )
    answer = {"role": "assistant", "content": ""}
    datum = math_hf_data_processor(
        {**datum_dict, "messages": [*messages, answer]}, task_data_spec, tokenizer, max_seq_length, idx
    )
    return {**datum, "extra_env_info": row_metadata(datum_dict)}


def register() -> None:
    """Register the environment and the processor under the name `memstore`; call it before NeMo-RL reads its data."""
    from nemo_rl.data.processors import register_processor
    from nemo_rl.distributed.ray_actor_environment_registry import ACTOR_ENVIRONMENT_REGISTRY
    from nemo_rl.distributed.virtual_cluster import PY_EXECUTABLES
    from nemo_rl.environments.utils import register_env

    ACTOR_ENVIRONMENT_REGISTRY[ACTOR] = PY_EXECUTABLES.SYSTEM
    register_env(NAME, ACTOR)
    register_processor(NAME, row_processor)


def __getattr__(name: str) -> Any:
    """Make the Ray actor of the environment when NeMo-RL asks for it."""
    if name == "RewardActor":
        import ray

        return ray.remote(RewardEnvironment)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
