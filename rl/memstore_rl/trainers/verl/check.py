"""Checks, with verl's own code, that verl started with some overrides would load the hooks.

verl silently ignores overrides that it no longer reads (`custom_reward_function.*`, `reward_model.*` since 0.9) and
then uses its own rewards. So the check composes the configuration as `main_ppo` does, loads what it names with verl's
loaders, and tests everything that could keep the rewards from the trainer. A `Finding` that is not ok has the fix.

A memory folder must exist. The check does not start Ray, load a policy, or connect to a server or the service; that
happens when the training starts.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from memstore.errors import InputError, MemstoreError
from memstore.locations.location import FolderLocation, resolve_location
from memstore.locations.opening import prepare_folder
from memstore.locations.settings import Settings
from memstore_rl.trainers.verl.batches import batches_of
from memstore_rl.trainers.verl.config import parse_version
from memstore_rl.trainers.verl.rows import TRAINING_SPLIT
from memstore_rl.trainers.verl.settings import HookSettings, hook_settings

if TYPE_CHECKING:
    from omegaconf import DictConfig

_IGNORED = ("custom_reward_function.", "reward_model.")
"""Prefixes that verl up to 0.8 used for what is under `reward.` now."""
_COLUMNS = ("data_source", "prompt", "reward_model", "extra_info")


class Finding(NamedTuple):
    """Result of one check."""

    what: str
    ok: bool
    says: str


def check(overrides: Sequence[str], config_name: str = "ppo_trainer") -> list[Finding]:
    """Check overrides, as given to `python -m verl.trainer.main_ppo`; findings that are not ok come first.

    Raises:
        InputError: verl is not installed, its version is not supported, or it rejects the overrides.
    """
    installed = _installed()
    config = compose(overrides, config_name)
    checks: dict[str, Callable[[], str]] = {
        "old keys": lambda: _no_ignored_keys(overrides),
        "settings": lambda: _settings_are_valid(config),
        "memory": lambda: _memory_exists(config),
        "rewards": lambda: _rewards_by_memstore(config),
        "room": lambda: _room(config),
        "metrics": lambda: _metrics(config),
        "training data": lambda: _data(config, "train_files", training=True),
        "batches": lambda: _batches(config),
        "validation data": lambda: _data(config, "val_files", training=False),
        "recipe": lambda: _is_a_recipe(overrides),
        "verl": lambda: _valid_for_verl(config, installed),
    }
    findings = [_run_check(what, run) for what, run in checks.items()]
    return sorted(findings, key=lambda finding: finding.ok)


def _run_check(what: str, run: Callable[[], str]) -> Finding:
    try:
        return Finding(what, True, run())
    except MemstoreError as error:
        return Finding(what, False, str(error))


def _installed() -> str:
    try:
        found = version("verl")
    except PackageNotFoundError:
        raise InputError("verl is not installed here; pip install 'memstore[verl]'") from None
    if parse_version(found) < (0, 9, 0):
        raise InputError(f"verl {found} is installed, but this check supports verl 0.9 only")
    return found


def compose(overrides: Sequence[str], config_name: str = "ppo_trainer") -> DictConfig:
    """Compose verl's configuration with overrides, as `main_ppo` does.

    Raises:
        InputError: verl rejects the overrides.
    """
    import verl
    from hydra import compose as composed
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    folder = Path(inspect.getfile(verl)).parent / "trainer" / "config"
    try:
        with initialize_config_dir(str(folder), version_base=None):
            return composed(config_name, overrides=list(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        message = " ".join(str(error).split())
        raise InputError(f"verl rejects these overrides: {message}") from error


def _no_ignored_keys(overrides: Sequence[str]) -> str:
    ignored = [line for line in overrides if line.lstrip("+~").startswith(_IGNORED)]
    if ignored:
        raise InputError(f"verl 0.9 silently ignores {ignored[0]!r}; remove it")
    return "none"


def _settings_are_valid(config: DictConfig) -> str:
    settings = hook_settings(config)
    where = settings.memory or settings.endpoint or "no memory"
    budget = settings.verifier_budget if settings.mode == "verdict" else None
    if budget is not None:
        where += f", verifier calls: {budget}"
    return f"mode {settings.mode}, {where}" + (f", shaping {settings.shaping}" if settings.memory else "")


def _memory_exists(config: DictConfig) -> str:
    settings = hook_settings(config)
    if settings.memory is None:
        return "that of the service, checked when the training starts" if settings.endpoint else "none is used"
    location = resolve_location(settings.memory, Settings())
    if isinstance(location, FolderLocation):
        prepare_folder(location, create=False)
        return f"in {location.folder}"
    return f"{location}, checked when the training starts"


def _rewards_by_memstore(config: DictConfig) -> str:
    if config.reward.reward_model.enable:
        raise InputError("reward.reward_model.enable=True makes verl use its own reward model; set it to False")
    from memstore_rl.trainers.verl.manager import GroupRewardManager

    named = config.actor_rollout_ref.rollout.agent.get("agent_loop_manager_class")
    if named and config.trainer.use_v1 and _is_group_agent_loop(str(named)):
        return "by the agent loop, inside its workers"
    manager = _reward_manager(config)
    if manager is not GroupRewardManager:
        raise InputError(
            f"verl would use {manager.__module__}.{manager.__name__} for rewards, not memstore; add the overrides that "
            "`memstore verl config` prints"
        )
    if named and config.trainer.use_v1:
        raise InputError(f"the agent loop {named} may compute its own rewards, which memstore cannot check; remove it")
    return "by the reward loop's manager"


def _is_group_agent_loop(name: str) -> bool:
    from verl.utils.import_utils import load_class_from_fqn

    from memstore_rl.trainers.verl.agent_loop import GroupAgentLoopManager

    try:
        loaded = load_class_from_fqn(name, "AgentLoopManager")
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"verl cannot load the agent loop {name}: {error}") from error
    return issubclass(loaded, GroupAgentLoopManager)


def _reward_manager(config: DictConfig) -> Any:
    from verl.trainer.ppo.reward import resolve_reward_manager_cls

    try:
        return resolve_reward_manager_cls(config)
    except (ImportError, AttributeError, AssertionError, ValueError, OSError) as error:
        raise InputError(f"verl cannot load the reward manager: {error}") from error


def _room(config: DictConfig) -> str:
    from verl.experimental.reward_loop import RewardLoopManager

    from memstore_rl.trainers.verl import manager  # noqa: F401  importing it raises the limit of concurrent calls

    if not hasattr(RewardLoopManager._init_reward_loop_workers, "__wrapped__"):
        raise InputError("this verl starts its reward workers in an unknown way; use the agent loop")
    return f"for any number of waiting rollouts, on {config.reward.num_workers} reward workers"


def _metrics(config: DictConfig) -> str:
    sampler = config.trainer.v1.sampler.custom_sampler
    ours = sampler.path == "pkg://memstore_rl.trainers.verl.sampler"
    if not ours:
        return "verl's metrics do not include the shares of ground truth and predictions"
    filtering = config.algorithm.get("filter_groups")
    if filtering is not None and filtering.get("enable"):
        raise InputError(
            "algorithm.filter_groups.enable=True does nothing with a custom sampler; remove it, or trainer.v1.sampler"
        )
    mode = config.trainer.v1.trainer_mode
    expected = "SyncSampler" if mode == "sync" else "AsyncSampler"
    if sampler.name != expected:
        raise InputError(f"trainer.v1.trainer_mode={mode} needs trainer.v1.sampler.custom_sampler.name={expected}")
    return "verl's metrics include the shares of ground truth and predictions"


def _data(config: DictConfig, key: str, *, training: bool) -> str:
    files = _files(config, key)
    if not files:
        raise InputError(f"data.{key} is not set; write data with `memstore verl data` and set it")
    settings = hook_settings(config)
    counts = [_file(file, settings, training=training) for file in files]
    rows, labelled = map(sum, zip(*counts, strict=True))
    return f"{rows:,} rows, {labelled:,} with ground truth"


def _files(config: DictConfig, key: str) -> list[Path]:
    named = config.data.get(key)
    return [Path(file).expanduser() for file in ([named] if isinstance(named, str) else list(named or []))]


def _batches(config: DictConfig) -> str:
    """Check that verl keeps the batches of the training files."""
    found = {file: batches_of(file) for file in _files(config, "train_files") if file.is_file()}
    for file, batches in found.items():
        if batches is None:
            continue
        if config.data.shuffle:
            raise InputError(
                f"data.shuffle=True mixes the batches of {file}, which have {batches.labelled} labelled rows of "
                f"{batches.size}; set data.shuffle=False"
            )
        if config.data.train_batch_size % batches.size:
            raise InputError(
                f"data.train_batch_size={config.data.train_batch_size} is not a multiple of the {batches.size} rows of "
                f"a batch of {file}; write the data with --batch-size {config.data.train_batch_size}"
            )
    shares = {f"{batches.labelled} of {batches.size}" for batches in found.values() if batches}
    if not shares:
        return f"as verl makes them, with data.shuffle={config.data.shuffle}"
    average = "" if config.trainer.v1.trainer_mode == "sync" else " on average, in an asynchronous mode"
    return f"{', '.join(sorted(shares))} rows are labelled{average}, if verl filters no prompt"


def _file(path: Path, settings: HookSettings, *, training: bool) -> tuple[int, int]:
    """Return the number of rows of a file, and how many of them have ground truth."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise InputError(f"the data file {path} does not exist; write it with `memstore verl data`")
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"the data file {path} cannot be read: {str(error).splitlines()[0]}") from error
    missing = [column for column in _COLUMNS if column not in table.column_names]
    if missing:
        raise InputError(f"{path} has no column {missing[0]}; write data with `memstore verl data`")
    golds = [(row or {}).get("ground_truth") for row in table["reward_model"].to_pylist()]
    splits = {str((row or {}).get("split")) for row in table["extra_info"].to_pylist()}
    labelled = sum(1 for gold in golds if str(gold or "").strip())
    if training and splits != {TRAINING_SPLIT}:
        raise InputError(f"{path} is a training file, but its extra_info.split is {', '.join(sorted(splits))}")
    if not training and (TRAINING_SPLIT in splits or "None" in splits):
        raise InputError(f"{path} is a validation file, but its extra_info.split is {', '.join(sorted(splits))}")
    if training and settings.mode == "verdict" and not labelled:
        raise InputError(
            f"no row of {path} has ground truth, so mode verdict cannot buy a verdict; use the training file of mode "
            "oracle"
        )
    if labelled < len(golds) and (not training or settings.mode not in ("memory", "verdict")):
        raise InputError(
            f"{len(golds) - labelled} of {len(golds)} rows of {path} have no ground truth; only training in the modes "
            "memory and verdict can use them"
        )
    return len(golds), labelled


def _is_a_recipe(overrides: Sequence[str]) -> str:
    """Check that the overrides are more than what `memstore verl config` prints."""
    policy = "actor_rollout_ref.model.path"
    if not any(line.lstrip("+~").startswith(f"{policy}=") for line in overrides):
        raise InputError(
            f"no override sets {policy}; what `memstore verl config` prints is only memstore's part: add the overrides "
            "of your recipe (policy, engine, batch sizes, GPUs), as in docs/verl.md"
        )
    return "a policy is set"


def _valid_for_verl(config: DictConfig, installed: str) -> str:
    """Run the checks of `main_ppo` itself."""
    from hydra.errors import HydraException
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import validate_config

    try:
        validate_config(
            config=config, use_reference_policy=need_reference_policy(config), use_critic=need_critic(config)
        )
    except (AssertionError, ValueError, NotImplementedError, HydraException) as error:
        message = " ".join(str(error).split())
        raise InputError(f"verl {installed} rejects this configuration: {message}") from error
    return f"{installed} accepts this configuration"
