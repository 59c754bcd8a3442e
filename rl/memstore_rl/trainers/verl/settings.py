"""Settings of the verl hooks: the `memstore` block of a verl configuration, validated once.

verl's configuration has no such block, so overrides add it with a plus (`+memstore.memory=...`), and every part of the
hook reads it from verl's whole configuration. Unknown keys are rejected, because verl ignores unknown keys and a
misspelt setting would have no effect.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from memstore.errors import InputError
from memstore_rl.rewards.gauge_reading import WhenHarmful
from memstore_rl.rewards.reward import Mode, Shaping
from memstore_rl.rewards.verifier_budget import NEEDS_BUDGET, WAIT_S, VerifierBudget
from memstore_rl.trainers.verl.config import RAY_CALLS

if TYPE_CHECKING:
    from omegaconf import DictConfig


_GRPO = ("grpo", "grpo_vectorized")
"""Estimators of verl that read `algorithm.norm_adv_by_std_in_grpo` and subtract the mean of a group."""


_GROUP_RELATIVE = (*_GRPO, "grpo_passk", "rloo", "rloo_vectorized", "opo", "reinforce_plus_plus_baseline", "gpg")
"""Estimators of verl that give a group with one reward no advantage."""
NEEDS_GROUPS = (
    "needs an advantage that is relative to the group, because a group without predictions gets one reward; set "
    "algorithm.adv_estimator=grpo"
)
"""What `when_harmful=stop` needs, for an error."""
NEEDS_MEAN_ONLY = (
    "needs a trainer that subtracts the mean of a group and does not divide by its standard deviation; set "
    "algorithm.adv_estimator=grpo and algorithm.norm_adv_by_std_in_grpo=False"
)
"""What shaping `residual` needs, for an error."""
_OF_MEMORY = {"model", "shaping", "min_spread", "residual_weight", "run_code", "device", "gpus"}
_OF_MEMORY |= {"verifier_calls", "verifier_total", "verifier_wait"}
_OF_MEMORY |= {"when_harmful", "gauge_share"}
"""Settings that cannot be combined with a service."""


class HookSettings(BaseModel):
    """Settings of the hooks. The settings of the memory come from the environment (`MEMSTORE_*`)."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, protected_namespaces=())

    memory: str | None = None
    """Score in a Ray actor that opens this memory, a folder or a profile. Mode `memory` needs this or `endpoint`."""
    endpoint: str | None = None
    """Score with the reward service (`memstore serve`) at this address."""
    token_file: str | None = None
    """File that contains only the token of the service; only with `endpoint`."""
    mode: Mode = "memory"
    """`oracle`: ground truth for every row. `budget`: ground truth for labelled rows; the data must not have others.
    `memory`: ground truth for labelled rows, the reward model for the rest. `verdict`: verdicts on answers, bought
    within a budget of verifier calls and remembered."""
    model: str | None = None
    """Id of the reward model; unset: the memory's default. Only with `memory`: a service has its own."""
    shaping: Shaping | None = None
    """How a predicted probability becomes a reward; unset: `residual` if verl subtracts only the group's mean
    (`subtracts_only_mean`), else `probability`. Only with `memory`: a service has its own."""
    min_spread: float = Field(default=0.0, ge=0.0, le=1.0)
    """A group whose probabilities are closer together gets one reward, hence no advantage. Use 0.2 if the trainer
    divides by the group's standard deviation (docs/rewards.md). Only with `memory`: a service has its own."""
    residual_weight: float = Field(default=1.0, gt=0.0, allow_inf_nan=False)
    """Factor of shaping `residual`. Only with `memory`: a service has its own."""
    verifier_calls: int | None = None
    """Mode `verdict`: verifier calls a training step. Only with `memory`: a service has its own budget."""
    verifier_total: int | None = None
    """Mode `verdict`: verifier calls of the whole training. Only with `memory`."""
    verifier_wait: float = WAIT_S
    """Mode `verdict`: seconds that a step waits for verdicts; later ones count from the next step on. Only with
    `memory`."""
    when_harmful: WhenHarmful | None = None
    """If the gauge finds the memory harmful (docs/gauge.md): `stop` its predictions, or `warn`. Unset: `stop` if
    verl's advantage is relative to the group (`is_group_relative`), else `warn`. Only with `memory`: a service has its
    own."""
    gauge_share: float = Field(default=1.0, ge=0.0, le=1.0)
    """Share of the labelled groups that the gauge predicts. Only with `memory`: a service has its own."""
    run_code: bool = False
    """Verify programs by running their tests in the sandbox. Only with `memory`: a service has its own setting."""
    device: str | None = None
    """Device of the actor. For a GPU, reserve one with `gpus`."""
    gpus: float = Field(default=0.0, ge=0.0)
    """Share of a GPU that the actor requests from Ray."""
    run: str | None = None
    """Run name of recorded rollouts; unset: verl's project and experiment."""
    group_wait_s: float = Field(default=1800.0, gt=0.0)
    """Seconds that a group waits for its next rollout before it is scored short."""
    when_gone: Literal["fail", "wait"] = "fail"
    """If the service does not respond: end the training with an error, or wait until it is back."""
    deadline_s: float = Field(default=300.0, gt=0.0)
    """Seconds to score one group before the service counts as gone."""
    unscored: Literal["fail", "mean"] = "fail"
    """An unscored rollout ends the training (`fail`), or gets the mean of the scored rollouts of its group, hence no
    advantage (`mean`). A group without scored rollouts always ends the training."""
    reward_worker_calls: int = Field(default=RAY_CALLS, ge=1)
    """Maximum concurrent calls of one of verl's reward workers; set by the manager where it can raise it."""
    group_relative: bool = True
    """Whether verl gives no advantage to a group with one reward; set from verl's configuration."""
    mean_only: bool = False
    """Whether verl only subtracts the mean of a group; set from verl's configuration."""

    @model_validator(mode="after")
    def _one_source(self) -> HookSettings:
        if self.memory is not None and self.endpoint is not None:
            raise ValueError("set memstore.memory or memstore.endpoint, not both")
        if self.mode in ("memory", "verdict") and self.memory is None and self.endpoint is None:
            raise ValueError(f"memstore.mode={self.mode} needs memstore.memory or memstore.endpoint")
        if self.memory is not None:
            self._check_budget()
        if self.endpoint is None and self.token_file is not None:
            raise ValueError("memstore.token_file needs memstore.endpoint")
        own = _OF_MEMORY & self.model_fields_set
        if self.endpoint is not None and own:
            raise ValueError(
                f"memstore.{min(own)} cannot be combined with memstore.endpoint; set it where the service is started"
            )
        if self.endpoint is not None and not self.endpoint.startswith(("http://", "https://")):
            raise ValueError(f"memstore.endpoint={self.endpoint} is not an address; use one like http://127.0.0.1:8731")
        return self

    def _check_budget(self) -> None:
        try:
            budget = self.verifier_budget
        except InputError as error:
            raise ValueError(f"memstore: {error}") from error
        if self.mode == "verdict" and budget is None:
            raise ValueError(f"memstore: {NEEDS_BUDGET}")

    @property
    def verifier_budget(self) -> VerifierBudget | None:
        """The budget of verifier calls; None if there is none."""
        return VerifierBudget.of(self.verifier_calls, self.verifier_total, self.verifier_wait)


def hook_settings(config: DictConfig) -> HookSettings:
    """Read the hook's settings from a whole verl configuration.

    Raises:
        InputError: there are none, one of them is invalid, or verl's advantage does not fit: shaping `residual` needs
            the reward less the mean of its group, and `when_harmful` stop one that is relative to the group.
    """
    from omegaconf import OmegaConf

    block = config.get("memstore")
    if block is None:
        raise InputError(
            "this verl configuration has no block `memstore`; add the overrides that `memstore verl config` prints"
        )
    values = OmegaConf.to_container(block, resolve=True)
    settings = parse_settings(values if isinstance(values, Mapping) else {})
    fits = subtracts_only_mean(config)
    if settings.shaping == "residual" and not fits:
        raise InputError(f"memstore.shaping=residual {NEEDS_MEAN_ONLY}, or memstore.shaping=probability")
    relative = is_group_relative(config)
    if settings.when_harmful == "stop" and not relative:
        raise InputError(f"memstore.when_harmful=stop {NEEDS_GROUPS}, or memstore.when_harmful=warn")
    chosen: dict[str, Any] = {"mean_only": fits, "group_relative": relative}
    if settings.when_harmful is None and settings.memory is not None:
        chosen["when_harmful"] = "stop" if relative else "warn"
    if settings.shaping is None and settings.memory is not None:
        chosen["shaping"] = "residual" if fits else "probability"
    return parse_settings({**settings.model_dump(exclude_unset=True), **chosen})


def subtracts_only_mean(config: DictConfig) -> bool:
    """Whether verl's advantage is the reward less the mean of its group, without a division by its deviation."""
    algorithm = config.algorithm
    return is_mean_only(str(algorithm.adv_estimator), bool(algorithm.get("norm_adv_by_std_in_grpo", True)))


def is_mean_only(adv_estimator: str, norm_adv_by_std: bool) -> bool:
    """As `subtracts_only_mean`, from two settings of verl's `algorithm`."""
    return adv_estimator in _GRPO and not norm_adv_by_std


def check_service_shaping(info: Mapping[str, Any]) -> None:
    """Refuse a service that verl's advantage does not fit, for a trainer that divides by the deviation.

    Args:
        info: the service's response of `/v1/info`.

    Raises:
        InputError: its shaping is `residual`.
    """
    if info.get("shaping") == "residual":
        raise InputError(f"shaping residual of the service {NEEDS_MEAN_ONLY}, or start it with another --shaping")


def is_group_relative(config: DictConfig) -> bool:
    """Whether verl's advantage of a group whose rollouts have one reward is 0."""
    return is_relative(str(config.algorithm.adv_estimator))


def is_relative(adv_estimator: str) -> bool:
    """As `is_group_relative`, from verl's `algorithm.adv_estimator`."""
    return adv_estimator in _GROUP_RELATIVE


def parse_settings(values: Mapping[Any, Any]) -> HookSettings:
    """Parse settings from plain values.

    Raises:
        InputError: one of them is invalid.
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
            return f"{name} is not a setting of memstore; its settings are {', '.join(HookSettings.model_fields)}"
        case "value_error":
            return str(first["ctx"]["error"])
        case _:
            return f"{name} cannot be {first['input']!r}: {first['msg']}"


def run_name(config: DictConfig, settings: HookSettings) -> str:
    """Return the run name of this training's rollouts."""
    return settings.run or f"{config.trainer.project_name}/{config.trainer.experiment_name}"


def rollouts_in_flight(config: DictConfig) -> int:
    """Return the maximum number of rollouts waiting for a reward: a training batch with the prefetch of asynchronous
    trainers, or the largest validation batch."""
    rollout = config.actor_rollout_ref.rollout
    batch = int(config.data.get("gen_batch_size") or config.data.train_batch_size)
    v1 = config.trainer.get("v1")
    ahead = float(v1.get(v1.trainer_mode, {}).get("num_warmup_batches", 0)) if v1 is not None else 0.0
    training = int(batch * (1 + ahead)) * int(rollout.n)
    validation = int(config.data.get("val_batch_size") or 0) * int(rollout.val_kwargs.n)
    return max(training, validation)
