"""The overrides with which a version of verl loads us: one list of `key=value`, as its command line takes them.

    verl           way in          scores by              how sure
    0.9.1          agent_loop      a memory, or service   tested
                   manager         a memory, or service   tested
    0.9.0          the same        a memory, or service   by contract: what they rely on is the same code
    0.8.0, 0.7.1   manager         service                by contract: read, not run
    0.5 - 0.7.0    batch           service                by contract: read, not run

verl before 0.9 pins numpy below 2 and a memory needs numpy 2, so there only the service can score: memstore goes into
verl's environment without its dependencies (`pip install --no-deps memstore`, and httpx).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from memstore.errors import InputError
from memstore_rl.rewards.reward import MODES, Mode

Design = Literal["agent_loop", "manager", "batch"]
Sureness = Literal["tested", "by contract"]

TESTED = ("0.9.1",)
OLDEST, NEWEST = (0, 5, 0), (0, 9)
RAY_CALLS = 1000
"""Calls that one of verl's reward workers takes at a time, where the manager cannot raise it."""
SAFE_SHARE = 0.8
"""Of these that may wait on average: rollouts go to workers at random, and this is six deviations below the limit."""


class Overrides(NamedTuple):
    """What to append to verl's command line."""

    version: str
    design: Design
    sureness: Sureness
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class VerlTarget:
    """What verl is to be configured for. Paths and numbers that are None are left to the recipe."""

    version: str
    mode: Mode = "memory"
    memory: str | None = None
    endpoint: str | None = None
    token_file: str | None = None
    model: str | None = None
    n: int | None = None
    """Rollouts of a group."""
    batch_size: int | None = None
    """Prompts of a training batch."""
    train: str | None = None
    validation: str | None = None
    """Parquet files of `memstore verl data`."""
    design: Design | None = None
    """None: the best that the version has."""
    asynchronous: bool = False
    """The v1 trainer runs in one of its asynchronous modes."""


def overrides_for(wanted: VerlTarget) -> Overrides:
    """The overrides for a version of verl.

    Raises:
        InputError: a version, design or combination that there is not, or something that it needs is missing.
    """
    version = parse_version(wanted.version)
    if wanted.mode not in MODES:
        raise InputError(f"there is no mode {wanted.mode!r}; there are {', '.join(MODES)}")
    design = _design(version, wanted)
    _check_source(version, wanted)
    parts = {"agent_loop": _agent_loop, "manager": _manager, "batch": _batch}
    lines = [*_data(wanted), *parts[design](version, wanted)]
    if design != "batch":
        lines += _settings(wanted)
    return Overrides(wanted.version, design, "tested" if wanted.version in TESTED else "by contract", tuple(lines))


def parse_version(text: str) -> tuple[int, int, int]:
    """Numbers of a version.

    Raises:
        InputError: it is none, or none that memstore knows how to get into.
    """
    found = re.fullmatch(r"v?(\d+)\.(\d+)(?:\.(\d+))?.*", text.strip())
    if found is None:
        raise InputError(f"{text!r} is no version of verl; it looks like 0.9.1")
    version = (int(found[1]), int(found[2]), int(found[3] or 0))
    if version < OLDEST or version[:2] > NEWEST:
        raise InputError(f"memstore has no way into verl {text}; it knows 0.5.0 to 0.9")
    return version


def workers_needed(in_flight: int, calls: int = RAY_CALLS) -> int:
    """Reward workers that hold so many rollouts which wait for their groups."""
    return max(1, math.ceil(in_flight / (SAFE_SHARE * calls)))


def _design(version: tuple[int, int, int], wanted: VerlTarget) -> Design:
    if version >= (0, 9, 0):
        possible: tuple[Design, ...] = ("agent_loop", "manager")
    else:
        possible = ("manager",) if version >= (0, 7, 1) else ("batch",)
    if wanted.design is not None and wanted.design not in possible:
        raise InputError(f"verl {wanted.version} has no way in for {wanted.design}; it has {' and '.join(possible)}")
    return wanted.design or possible[0]


def _check_source(version: tuple[int, int, int], wanted: VerlTarget) -> None:
    if wanted.memory and wanted.endpoint:
        raise InputError("a memory and a service are both named; give --memory or --endpoint")
    if version < (0, 9, 0) and not wanted.endpoint:
        raise InputError(
            f"verl {wanted.version} pins numpy below 2, with which no memory can be opened; start `memstore serve` in "
            "an environment of its own, and name it with --endpoint"
        )
    if wanted.mode == "memory" and not wanted.memory and not wanted.endpoint:
        raise InputError("mode memory needs a memory or a service; give --memory or --endpoint")
    if wanted.model and wanted.endpoint:
        raise InputError("a service has its own reward model; name it where the service is started")
    if wanted.token_file and not wanted.endpoint:
        raise InputError("a token is for a service; give --endpoint with --token-file")


def _data(wanted: VerlTarget) -> list[str]:
    given = {
        "data.train_files": wanted.train,
        "data.val_files": wanted.validation,
        "data.train_batch_size": wanted.batch_size,
        "actor_rollout_ref.rollout.n": wanted.n,
    }
    return ["algorithm.adv_estimator=grpo", *_lines(given)]


def _settings(wanted: VerlTarget) -> list[str]:
    given = {
        "memory": wanted.memory,
        "endpoint": wanted.endpoint,
        "token_file": wanted.token_file,
        "mode": wanted.mode,
        "model": wanted.model,
    }
    return _lines({f"+memstore.{name}": value for name, value in given.items()})


def _lines(values: dict[str, str | int | None]) -> list[str]:
    return [f"{key}={value}" for key, value in values.items() if value is not None]


def _agent_loop(version: tuple[int, int, int], wanted: VerlTarget) -> list[str]:
    return [
        "trainer.use_v1=True",
        "+actor_rollout_ref.rollout.agent.agent_loop_manager_class=memstore_rl.trainers.verl.agent_loop.GroupAgentLoopManager",
        *_sampler(wanted),
        "reward.num_workers=1",
    ]


def _sampler(wanted: VerlTarget) -> list[str]:
    return [
        "trainer.v1.sampler.custom_sampler.path=pkg://memstore_rl.trainers.verl.sampler",
        f"trainer.v1.sampler.custom_sampler.name={'AsyncSampler' if wanted.asynchronous else 'SyncSampler'}",
    ]


def _manager(version: tuple[int, int, int], wanted: VerlTarget) -> list[str]:
    lines = [
        "reward.reward_manager.source=importlib",
        "reward.reward_manager.module.path=pkg://memstore_rl.trainers.verl.manager",
        "reward.reward_manager.name=GroupRewardManager",
    ]
    if version >= (0, 9, 0):
        return lines + _sampler(wanted)
    if version >= (0, 8, 0):
        return lines
    if wanted.n is None or wanted.batch_size is None:
        raise InputError(
            f"verl {wanted.version} needs as many reward workers as its batch is large; give --n and --batch-size"
        )
    return [*lines, f"reward.num_workers={workers_needed(wanted.n * wanted.batch_size)}"]


def _batch(version: tuple[int, int, int], wanted: VerlTarget) -> list[str]:
    if wanted.n is None or wanted.train is None or wanted.validation is None:
        raise InputError(
            f"verl {wanted.version} tells a reward function no prompts and no groups; give --n, --train, --validation"
        )
    if version >= (0, 7, 0):
        path, extra = "pkg://memstore_rl.trainers.verl.batch", ["reward_model.use_reward_loop=False"]
    else:
        path, extra = str(Path(__file__).with_name("batch.py")), ["actor_rollout_ref.rollout.mode=sync"]
    kwargs: dict[str, str | int | None] = {
        "files": f"[{wanted.train},{wanted.validation}]",
        "n": wanted.n,
        "endpoint": wanted.endpoint,
        "token_file": wanted.token_file,
        "mode": wanted.mode,
    }
    return [
        "reward_model.reward_manager=batch",
        *extra,
        f"custom_reward_function.path={path}",
        "custom_reward_function.name=compute_score_batch",
        *_lines({f"+custom_reward_function.reward_kwargs.{name}": value for name, value in kwargs.items()}),
    ]
