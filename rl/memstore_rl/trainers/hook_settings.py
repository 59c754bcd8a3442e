"""Settings of the hooks that score with the reward service.

A hook that a trainer loads by its name gets no arguments of ours, so its settings are environment variables
`MEMSTORE_REWARD_...`. Unknown ones are rejected, because a misspelt setting would have no effect. The token of the
service is in `MEMSTORE_SERVICE_TOKEN`, as for `memstore serve`, or in a file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from memstore.errors import InputError
from memstore_rl.rewards.reward import Mode
from memstore_rl.service.client import DEADLINE_S
from memstore_rl.trainers.rows import WhenShort
from memstore_rl.trainers.unscored import WhenUnscored
from memstore_rl.trainers.verl.token import read_token

PREFIX = "MEMSTORE_REWARD_"
TOKEN_VARIABLE = "MEMSTORE_SERVICE_TOKEN"


class HookSettings(BaseModel):
    """The settings; each is also an environment variable, such as `MEMSTORE_REWARD_ENDPOINT`."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    endpoint: str
    """Address of the reward service, such as `http://127.0.0.1:8731`."""
    token: SecretStr | None = None
    """Token of the service; as a variable, `MEMSTORE_SERVICE_TOKEN`."""
    token_file: str | None = None
    """File that contains the token and nothing else."""
    deadline_s: float = Field(default=DEADLINE_S, gt=0)
    """Seconds to score a batch before the service counts as gone."""
    mode: Mode | None = None
    """Where the rewards of training groups come from. Default: the service's mode."""
    group_size: int | None = Field(default=None, ge=1)
    """Rollouts in a full group, where the trainer does not tell the hook. Default: no group is short."""
    short: WhenShort = "allow"
    """`allow` scores a group with fewer rollouts and counts it as short; `refuse` ends the training."""
    unscored: WhenUnscored = "fail"
    """A rollout without a reward ends the training (`fail`), or gets the mean of its group (`mean`)."""
    group_relative: bool = True
    """Whether the trainer's advantage of a group whose rollouts have one reward is 0, as in GRPO."""
    mean_only: bool = False
    """Whether the trainer's advantage is the reward less the mean of its group, without a division by the standard
    deviation. A service with shaping `residual` needs such a trainer."""
    policy: str | None = None
    """Name of the policy that wrote the rollouts, for the record."""
    run: str | None = None
    """Name of the run, for the record."""

    def secret(self) -> str | None:
        """The token of the service.

        Raises:
            InputError: its file cannot be read.
        """
        return read_token(self.token_file) if self.token is None else self.token.get_secret_value()


def hook_settings(
    values: Mapping[str, Any] | None = None, environment: Mapping[str, str] | None = None
) -> HookSettings:
    """Read the settings.

    Args:
        values: settings by name; they override the environment, None values do not.
        environment: the variables; None: those of this process.

    Raises:
        InputError: a setting is unknown or invalid, or the address is missing.
    """
    variables = os.environ if environment is None else environment
    found: dict[str, Any] = {
        name.removeprefix(PREFIX).lower(): value
        for name, value in variables.items()
        if name.startswith(PREFIX) and value
    }
    if variables.get(TOKEN_VARIABLE):
        found["token"] = variables[TOKEN_VARIABLE]
    found |= {name: value for name, value in (values or {}).items() if value is not None}
    try:
        return HookSettings.model_validate(found)
    except ValidationError as error:
        raise InputError(_sentence(error)) from error


def _sentence(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    name = ".".join(map(str, first["loc"]))
    variable = f"{PREFIX}{name.upper()}"
    match first["type"]:
        case "missing":
            return f"the hook has no reward service; set {variable}=http://127.0.0.1:8731, or pass {name}"
        case "extra_forbidden":
            known = ", ".join(HookSettings.model_fields)
            return f"{variable} is not a setting of the hooks; the settings are {known}"
        case _:
            return f"{variable} cannot be {first['input']!r}: {first['msg']}"
