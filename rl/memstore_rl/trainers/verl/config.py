"""Overrides with which each version of verl loads the hooks: `key=value` lines for its command.

    verl           design          scores by              support
    0.9.1          agent_loop      a memory, or service   tested
                   manager         a memory, or service   tested
    0.9.0          the same        a memory, or service   by contract: the code they depend on is the same
    0.8.0, 0.7.1   manager         service                by contract: from reading the code
    0.5 - 0.7.0    batch           service                by contract: from reading the code

verl before 0.9 pins numpy below 2 and a memory needs numpy 2, so only the service can score there: install memstore
in verl's environment without its dependencies (`pip install --no-deps memstore`), and httpx, pydantic and tenacity.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from memstore.errors import InputError
from memstore_rl.rewards.reward import MODES, Mode
from memstore_rl.rewards.verifier_budget import VerifierBudget

Design = Literal["agent_loop", "manager", "batch"]
Support = Literal["tested", "by contract"]

TESTED = ("0.9.1",)
OLDEST, NEWEST = (0, 5, 0), (0, 9)
RAY_CALLS = 1000
"""Maximum concurrent calls of one of verl's reward workers, where the manager cannot raise it."""
SAFE_SHARE = 0.8
"""Share of these calls to use on average: rollouts go to workers at random, and this is six standard deviations below
the limit."""


class Overrides(NamedTuple):
    """Overrides to append to verl's command line."""

    version: str
    design: Design
    sureness: Support
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class VerlTarget:
    """The training to configure. Paths and numbers that are None are left to the recipe."""

    version: str
    mode: Mode = "memory"
    memory: str | None = None
    endpoint: str | None = None
    token_file: str | None = None
    model: str | None = None
    verifier_calls: int | None = None
    verifier_total: int | None = None
    """Verifier calls a step and in all, of mode `verdict`; a service has its own."""
    n: int | None = None
    """Number of rollouts in a group."""
    batch_size: int | None = None
    """Number of prompts in a training batch."""
    train: str | None = None
    validation: str | None = None
    """Parquet files of `memstore verl data`."""
    design: Design | None = None
    """None: the best design for the version."""
    asynchronous: bool = False
    """Whether the v1 trainer runs in one of its asynchronous modes."""


def overrides_for(target: VerlTarget) -> Overrides:
    """Return the overrides for a version of verl.

    Raises:
        InputError: the version, design or combination is not supported, or a required value is missing.
    """
    version = parse_version(target.version)
    if target.mode not in MODES:
        raise InputError(f"there is no mode {target.mode!r}; use one of {', '.join(MODES)}")
    design = _design(version, target)
    _check_source(version, target)
    parts = {"agent_loop": _agent_loop, "manager": _manager, "batch": _batch}
    lines = [*_data(target), *parts[design](version, target)]
    if design != "batch":
        lines += _settings(target)
    return Overrides(target.version, design, "tested" if target.version in TESTED else "by contract", tuple(lines))


def parse_version(text: str) -> tuple[int, int, int]:
    """Parse a version into its numbers.

    Raises:
        InputError: the version is malformed or not supported.
    """
    found = re.fullmatch(r"v?(\d+)\.(\d+)(?:\.(\d+))?.*", text.strip())
    if found is None:
        raise InputError(f"{text!r} is not a version of verl; use one like 0.9.1")
    version = (int(found[1]), int(found[2]), int(found[3] or 0))
    if version < OLDEST or version[:2] > NEWEST:
        raise InputError(f"memstore does not support verl {text}; use 0.5.0 to 0.9")
    return version


def workers_needed(in_flight: int, calls: int = RAY_CALLS) -> int:
    """Return the number of reward workers needed for this many rollouts that wait for their groups."""
    return max(1, math.ceil(in_flight / (SAFE_SHARE * calls)))


def _design(version: tuple[int, int, int], target: VerlTarget) -> Design:
    if version >= (0, 9, 0):
        possible: tuple[Design, ...] = ("agent_loop", "manager")
    else:
        possible = ("manager",) if version >= (0, 7, 1) else ("batch",)
    if target.design is not None and target.design not in possible:
        raise InputError(f"verl {target.version} does not support design {target.design}; use {' or '.join(possible)}")
    return target.design or possible[0]


def _check_source(version: tuple[int, int, int], target: VerlTarget) -> None:
    if target.memory and target.endpoint:
        raise InputError("both a memory and a service are given; use --memory or --endpoint")
    if version < (0, 9, 0) and not target.endpoint:
        raise InputError(
            f"verl {target.version} pins numpy below 2, and a memory needs numpy 2; start `memstore serve` in another "
            "environment and pass its address with --endpoint"
        )
    if target.mode in ("memory", "verdict") and not target.memory and not target.endpoint:
        raise InputError(f"mode {target.mode} needs a memory or a service; use --memory or --endpoint")
    _check_budget(target)
    if target.model and target.endpoint:
        raise InputError("a service has its own reward model; pass --model to `memstore serve` instead")
    if target.token_file and not target.endpoint:
        raise InputError("--token-file needs a service; add --endpoint")


def _check_budget(target: VerlTarget) -> None:
    budget = VerifierBudget.of(target.verifier_calls, target.verifier_total)
    if target.mode == "verdict" and target.memory and budget is None:
        raise InputError("mode verdict needs a budget of verifier calls; add --verifier-calls or --verifier-total")
    if budget is not None and target.endpoint:
        raise InputError("a service has its own budget of verifier calls; pass it to `memstore serve` instead")
    if budget is not None and target.mode != "verdict":
        raise InputError(f"a budget of verifier calls is for mode verdict, but the mode is {target.mode}; remove one")


def _data(target: VerlTarget) -> list[str]:
    given = {
        "data.train_files": target.train,
        "data.val_files": target.validation,
        "data.train_batch_size": target.batch_size,
        "actor_rollout_ref.rollout.n": target.n,
    }
    fixed = ["algorithm.adv_estimator=grpo"]
    if target.mode in ("memory", "verdict"):
        # The best setting for predicted rewards in docs/rewards.md: dividing by the standard deviation of a group gives
        # a prediction that hardly separates two rollouts the weight of a confident one.
        fixed.append("algorithm.norm_adv_by_std_in_grpo=False")
    if target.mode == "memory":
        # The order of the training file gives each batch its share of labelled rows.
        fixed.append("data.shuffle=False")
    return [*fixed, *_lines(given)]


def _settings(target: VerlTarget) -> list[str]:
    given = {
        "memory": target.memory,
        "endpoint": target.endpoint,
        "token_file": target.token_file,
        "mode": target.mode,
        "model": target.model,
        "verifier_calls": target.verifier_calls,
        "verifier_total": target.verifier_total,
    }
    return _lines({f"+memstore.{name}": value for name, value in given.items()})


def _lines(values: dict[str, str | int | None]) -> list[str]:
    return [f"{key}={value}" for key, value in values.items() if value is not None]


def _agent_loop(version: tuple[int, int, int], target: VerlTarget) -> list[str]:
    return [
        "trainer.use_v1=True",
        "+actor_rollout_ref.rollout.agent.agent_loop_manager_class=memstore_rl.trainers.verl.agent_loop.GroupAgentLoopManager",
        *_sampler(target),
        "reward.num_workers=1",
    ]


def _sampler(target: VerlTarget) -> list[str]:
    return [
        "trainer.v1.sampler.custom_sampler.path=pkg://memstore_rl.trainers.verl.sampler",
        f"trainer.v1.sampler.custom_sampler.name={'AsyncSampler' if target.asynchronous else 'SyncSampler'}",
    ]


def _manager(version: tuple[int, int, int], target: VerlTarget) -> list[str]:
    lines = [
        "reward.reward_manager.source=importlib",
        "reward.reward_manager.module.path=pkg://memstore_rl.trainers.verl.manager",
        "reward.reward_manager.name=GroupRewardManager",
    ]
    if version >= (0, 9, 0):
        return lines + _sampler(target)
    if version >= (0, 8, 0):
        return lines
    if target.n is None or target.batch_size is None:
        raise InputError(
            f"verl {target.version} needs reward workers in proportion to its batch; add --n and --batch-size"
        )
    return [*lines, f"reward.num_workers={workers_needed(target.n * target.batch_size)}"]


def _batch(version: tuple[int, int, int], target: VerlTarget) -> list[str]:
    if target.n is None or target.train is None or target.validation is None:
        raise InputError(
            f"verl {target.version} passes no prompts and groups to a reward function; add --n, --train, --validation"
        )
    if version >= (0, 7, 0):
        path, extra = "pkg://memstore_rl.trainers.verl.batch", ["reward_model.use_reward_loop=False"]
    else:
        path, extra = str(Path(__file__).with_name("batch.py")), ["actor_rollout_ref.rollout.mode=sync"]
    kwargs: dict[str, str | int | None] = {
        "files": f"[{target.train},{target.validation}]",
        "n": target.n,
        "endpoint": target.endpoint,
        "token_file": target.token_file,
        "mode": target.mode,
    }
    if target.mode == "memory":
        kwargs["adv_estimator"] = "${algorithm.adv_estimator}"
        kwargs["norm_adv_by_std"] = "${algorithm.norm_adv_by_std_in_grpo}"
    return [
        "reward_model.reward_manager=batch",
        *extra,
        f"custom_reward_function.path={path}",
        "custom_reward_function.name=compute_score_batch",
        *_lines({f"+custom_reward_function.reward_kwargs.{name}": value for name, value in kwargs.items()}),
    ]
