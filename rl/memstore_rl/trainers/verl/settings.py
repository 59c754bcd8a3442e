"""What the block `memstore` of a verl configuration says, validated once.

verl's configuration does not know this block: it is added with a plus (`+memstore.memory=...`), and every part of the
hook reads it from the whole configuration that verl hands around. An unknown key is refused: verl itself ignores what
it does not know, and a misspelt setting would be one that is not set.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from memstore.errors import InputError
from memstore_rl.rewards.reward import Mode
from memstore_rl.rewards.shaping import Shaping
from memstore_rl.trainers.verl.config import RAY_CALLS

if TYPE_CHECKING:
    from omegaconf import DictConfig


class HookSettings(BaseModel):
    """Settings of the hook; those of the memory itself come from its own environment (`MEMSTORE_*`)."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, protected_namespaces=())

    memory: str | None = None
    """Score in a Ray actor that opens this memory: a folder, or a profile. Mode `memory` needs this, or `endpoint`."""
    endpoint: str | None = None
    """Score by the reward service (`memstore serve`) at this address."""
    token_file: str | None = None
    """A file that holds the token of the service and nothing else; only with `endpoint`."""
    mode: Mode = "memory"
    """`oracle`: ground truth for every row; `budget`: for the labelled ones, the rest must not be in the data;
    `memory`: ground truth for the labelled ones, the reward model for the rest."""
    model: str | None = None
    """Id of the reward model; unset: the newest of the memory. Only with `memory`: a service has its own."""
    shaping: Shaping = "probability"
    """How a predicted probability becomes a reward. Only with `memory`: a service has its own."""
    min_spread: float = Field(default=0.0, ge=0.0, le=1.0)
    """A group whose probabilities lie closer together gets one reward, which is no advantage; 0.2 where the trainer
    divides by the group's deviation (docs/rewards.md). Only with `memory`: a service has its own."""
    run_code: bool = False
    """Verify programs by running their tests in the sandbox. Only with `memory`: a service has its own switch."""
    device: str | None = None
    """Where the actor computes. A GPU must be left to it by Ray: `gpus`."""
    gpus: float = Field(default=0.0, ge=0.0)
    """Share of a GPU that the actor asks Ray for."""
    run: str | None = None
    """Name of the run that rollouts are kept under; unset: verl's project and experiment."""
    group_wait_s: float = Field(default=1800.0, gt=0.0)
    """A group that waits this long for its next rollout is scored short."""
    when_gone: Literal["fail", "wait"] = "fail"
    """When the service does not answer: end the training with one sentence, or wait until it is back."""
    deadline_s: float = Field(default=300.0, gt=0.0)
    """How long one group may take to be scored before the service counts as gone."""
    unscored: Literal["fail", "mean"] = "fail"
    """A rollout that nobody can score ends the training, or gets the mean of its scored siblings, which is no
    advantage. One without such siblings always ends it."""
    reward_worker_calls: int = Field(default=RAY_CALLS, ge=1)
    """Calls that one of verl's reward workers takes at a time; written by the manager where it could raise it."""

    @model_validator(mode="after")
    def _one_source(self) -> HookSettings:
        if self.memory is not None and self.endpoint is not None:
            raise ValueError("give memstore.memory or memstore.endpoint, not both")
        if self.mode == "memory" and self.memory is None and self.endpoint is None:
            raise ValueError("memstore.mode=memory needs memstore.memory or memstore.endpoint")
        if self.endpoint is None and self.token_file is not None:
            raise ValueError("memstore.token_file belongs to memstore.endpoint")
        own = {"model", "shaping", "min_spread", "run_code", "device", "gpus"} & self.model_fields_set
        if self.endpoint is not None and own:
            raise ValueError(f"memstore.{min(own)} is set where the service is started, not beside memstore.endpoint")
        if self.endpoint is not None and not self.endpoint.startswith(("http://", "https://")):
            raise ValueError(f"memstore.endpoint={self.endpoint} is no address; it looks like http://127.0.0.1:8731")
        return self


def hook_settings(config: DictConfig) -> HookSettings:
    """The hook's settings out of a whole verl configuration.

    Raises:
        InputError: there are none, or one of them cannot be used.
    """
    from omegaconf import OmegaConf

    block = config.get("memstore")
    if block is None:
        raise InputError(
            "this verl configuration has no block `memstore`; add the overrides that `memstore verl config` prints"
        )
    values = OmegaConf.to_container(block, resolve=True)
    return parse_settings(values if isinstance(values, Mapping) else {})


def parse_settings(values: Mapping[Any, Any]) -> HookSettings:
    """Settings from plain values.

    Raises:
        InputError: one of them cannot be used.
    """
    try:
        return HookSettings.model_validate(dict(values))
    except ValidationError as error:
        raise InputError(_sentence(error)) from error


def _sentence(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    name = ".".join(("memstore", *map(str, first["loc"])))
    match first["type"]:
        case "extra_forbidden":
            return f"{name} is no setting of memstore; it has: {', '.join(HookSettings.model_fields)}"
        case "value_error":
            return str(first["ctx"]["error"])
        case _:
            return f"{name} cannot be {first['input']!r}: {first['msg']}"


def run_name(config: DictConfig, settings: HookSettings) -> str:
    """The name that this training's rollouts are kept under."""
    return settings.run or f"{config.trainer.project_name}/{config.trainer.experiment_name}"


def rollouts_in_flight(config: DictConfig) -> int:
    """The most rollouts that wait for a reward at one time: a training batch with what async trainers fetch ahead,
    or the largest validation batch."""
    rollout = config.actor_rollout_ref.rollout
    batch = int(config.data.get("gen_batch_size") or config.data.train_batch_size)
    v1 = config.trainer.get("v1")
    ahead = float(v1.get(v1.trainer_mode, {}).get("num_warmup_batches", 0)) if v1 is not None else 0.0
    training = int(batch * (1 + ahead)) * int(rollout.n)
    validation = int(config.data.get("val_batch_size") or 0) * int(rollout.val_kwargs.n)
    return max(training, validation)
