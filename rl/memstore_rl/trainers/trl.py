"""A reward function for TRL's `GRPOTrainer`: ground truth for labelled rows, the reward model for the rest.

    from datasets import Dataset
    from memstore_rl.rewards.group import GroupScorer
    from memstore_rl.trainers.trl import reward_function

    with GroupScorer.open("my-memory", shaping="residual") as scorer:
        GRPOTrainer(
            model=...,
            args=GRPOConfig(num_generations=8, shuffle_dataset=False, scale_rewards="none", ...),
            reward_funcs=reward_function(scorer, num_generations=8, scale_rewards="none"),
            train_dataset=Dataset.from_parquet("data/train_memory_20.parquet"),
        ).train()

Use the data of `memstore verl data`; TRL passes its columns to the function. TRL passes no groups, and a batch may
contain a query twice, so rows are grouped by `extra_info.query_id`, at most `num_generations` at a time. Sample indices
continue across the groups of a query, so that a service does not mistake the second group for the first.

Set `shuffle_dataset=False`: the order of the file gives each batch its share of labelled rows, and TRL shuffles by
default.

Set `scale_rewards="none"`: dividing by the group's standard deviation gives a prediction that hardly separates two
rollouts the same weight as a confident one (docs/rewards.md has the cost). Rewards by shaping `residual` need it, and
TRL does not tell the function, so pass it to `reward_function` too.

An unscored rollout gets None: TRL leaves it out of the group's mean and gives it no advantage. Rows of other splits
than `train` (evaluation) are scored by ground truth only and are not recorded. Those of the split `audit` feed the
gauge (`memstore_rl.rewards.gauge`), whose figures are logged as `memstore/gauge_...`. If the service does not respond,
the function raises or waits; it never makes up a number.

With several processes TRL calls the function in each process with its own completions. Make
`per_device_train_batch_size` a multiple of `num_generations`, or groups are short; short groups are counted.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, TypeGuard

from memstore.errors import InputError
from memstore.text.chat import read_completion
from memstore_rl.rewards.gauge_reading import GaugeReading, reading_of
from memstore_rl.rewards.reward import MODES, Group, Mode, Reward, Rollout
from memstore_rl.service.client import RewardClient, ServiceGone
from memstore_rl.trainers.metrics import batch_metrics
from memstore_rl.trainers.verl.rows import is_training, query_of

if TYPE_CHECKING:  # with a service this module runs without torch and stores
    from memstore_rl.rewards.group import GroupScorer

Messages: TypeAlias = Sequence[Mapping[str, Any]]
RewardFunction: TypeAlias = Callable[..., list[float | None]]

NAME = "memstore"
"""Name of the function in TRL's metrics: `rewards/memstore/mean`."""

logger = logging.getLogger(__name__)


def reward_function(
    scorer: GroupScorer | RewardClient,
    *,
    num_generations: int | None = None,
    mode: Mode | None = None,
    policy: str | None = None,
    run: str | None = None,
    when_gone: Literal["fail", "wait"] = "fail",
    scale_rewards: str | bool | None = None,
) -> RewardFunction:
    """Create a function for the `reward_funcs` of `GRPOTrainer`.

    Args:
        scorer: a scorer over a memory in this process, or a client of the reward service.
        num_generations: as in `GRPOConfig`; smaller groups count as short. None: no group is short.
        mode: overrides the scorer's mode for training rows. Mode `verdict` needs the scorer's budget of verifier calls.
        policy, run: names under which the service records the rollouts.
        when_gone: if the service does not respond, `fail` ends the training and `wait` waits for it.
        scale_rewards: as in `GRPOConfig`; a scorer with shaping `residual` needs "none" (or False) here and there.

    Raises:
        InputError: an argument is invalid, or TRL may divide residual rewards by a standard deviation. For a service,
            the function raises this when it is called.
    """
    _check(scorer, num_generations, mode, when_gone)
    if _is_group_scorer(scorer):
        _check_scale(scorer.shaping.shaping, scale_rewards)
    return _RewardFunction(scorer, num_generations, mode, policy, run, when_gone, scale_rewards)


@dataclass
class _RewardFunction:
    """The function that `reward_function` returns; its settings are the arguments."""

    scorer: GroupScorer | RewardClient
    num_generations: int | None
    mode: Mode | None
    policy: str | None
    run: str | None
    when_gone: Literal["fail", "wait"]
    scale_rewards: str | bool | None
    total_calls: int = 0
    """Verifier calls of mode `verdict` so far."""

    __name__ = NAME

    def __call__(
        self,
        prompts: Sequence[str | Messages],
        completions: Sequence[str | Messages],
        trainer_state: Any = None,
        log_extra: Callable[[str, list[Any]], None] | None = None,
        log_metric: Callable[[str, float], None] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        batch = _Batch.of(prompts, completions, columns)
        names = _Names(self.policy, self.run, None if trainer_state is None else int(trainer_state.global_step))
        grouped_rows = _group_rows(batch.extra_info, self.num_generations)
        groups = [batch.group(positions, names, self.num_generations, self.mode) for positions in grouped_rows]
        training = all(map(is_training, batch.extra_info))
        scored, gauge = _score(self.scorer, groups, training, self.when_gone, self.scale_rewards)
        rewards = _in_order(grouped_rows, scored)
        self.total_calls = _log_rewards(rewards, gauge, self.total_calls, log_extra, log_metric)
        return [reward.value for reward in rewards]


def _is_group_scorer(scorer: object) -> TypeGuard[GroupScorer]:
    """Whether this is a `GroupScorer`; if it is, its module has been imported."""
    module = sys.modules.get("memstore_rl.rewards.group")
    return module is not None and isinstance(scorer, module.GroupScorer)


def _check(scorer: object, num_generations: int | None, mode: str | None, when_gone: str) -> None:
    if not (isinstance(scorer, RewardClient) or _is_group_scorer(scorer)):
        raise InputError(f"scorer is a {type(scorer).__name__}; pass a GroupScorer or a RewardClient")
    if num_generations is not None and num_generations < 1:
        raise InputError(f"num_generations is {num_generations}; pass that of GRPOConfig, 1 or more")
    if mode is not None and mode not in MODES:
        raise InputError(f"there is no mode {mode!r}; use one of {', '.join(MODES)}")
    if when_gone not in ("fail", "wait"):
        raise InputError(f"when_gone is {when_gone!r}; use fail or wait")


def _check_scale(shaping: str | None, scale_rewards: str | bool | None) -> None:
    """Refuse residual rewards unless the caller states that TRL divides by no standard deviation."""
    if shaping == "residual" and scale_rewards not in ("none", False):
        raise InputError(
            "shaping residual needs a trainer that does not divide by the standard deviation; set "
            'scale_rewards="none" in GRPOConfig and pass the same to reward_function, or use shaping probability'
        )


class _Position(NamedTuple):
    """Row of a rollout in the call, and its index among the query's rollouts."""

    row: int
    sample: int


class _Names(NamedTuple):
    """What the service records with each rollout of a batch."""

    policy: str | None
    run: str | None
    step: int | None


class _Batch(NamedTuple):
    """What TRL passes, one entry a rollout."""

    prompts: Sequence[str | Messages]
    completions: Sequence[str | Messages]
    data_source: Sequence[str]
    reward_model: Sequence[Mapping[str, Any]]
    extra_info: Sequence[Mapping[str, Any]]

    @classmethod
    def of(
        cls, prompts: Sequence[str | Messages], completions: Sequence[str | Messages], columns: Mapping[str, Any]
    ) -> _Batch:
        """Take the columns that `memstore verl data` writes.

        Raises:
            InputError: one of them is missing.
        """
        own = [columns.get(name) for name in ("data_source", "reward_model", "extra_info")]
        if any(column is None for column in own):
            raise InputError(
                "the data set lacks one of the columns data_source, reward_model and extra_info, or TRL removed it "
                "(remove_unused_columns); write the data with `memstore verl data`"
            )
        return cls(prompts, completions, *own)  # type: ignore[arg-type]  # none is None

    def group(self, positions: Sequence[_Position], names: _Names, expected: int | None, mode: Mode | None) -> Group:
        """The rollouts at these positions as a group; a row that is not of the training is for validation."""
        first = positions[0].row
        query = query_of(self.prompts[first], self.data_source[first], self.reward_model[first], self.extra_info[first])
        rollouts = [
            Rollout(read_completion(self.completions[row]) or "", sample_index=sample, **names._asdict())
            for row, sample in positions
        ]
        training = is_training(self.extra_info[first])
        return Group(query, rollouts, expected if training else None, mode if training else "oracle")


def _in_order(grouped_rows: Sequence[Sequence[_Position]], scored: Sequence[Sequence[Reward]]) -> list[Reward]:
    """The rewards of grouped rows in the order of the rows."""
    rewards = {
        position.row: reward
        for positions, of_group in zip(grouped_rows, scored, strict=True)
        for position, reward in zip(positions, of_group, strict=True)
    }
    return [rewards[row] for row in range(len(rewards))]


def _group_rows(extra_info: Sequence[Mapping[str, Any]], size: int | None) -> list[list[_Position]]:
    """Group rows by query, at most `size` rows per group."""
    by_query: dict[str, list[_Position]] = {}
    for row, extra in enumerate(extra_info):
        if not extra.get("query_id"):
            raise InputError(
                "a row has no extra_info.query_id, so its group is unknown; write the data with `memstore verl data`"
            )
        positions = by_query.setdefault(str(extra["query_id"]), [])
        positions.append(_Position(row, len(positions)))
    groups = []
    for positions in by_query.values():
        step = size or len(positions)
        groups += [positions[start : start + step] for start in range(0, len(positions), step)]
    return groups


def _score(
    scorer: GroupScorer | RewardClient,
    groups: Sequence[Group],
    record: bool,
    when_gone: Literal["fail", "wait"],
    scale_rewards: str | bool | None,
) -> tuple[list[list[Reward]], GaugeReading | None]:
    """Score groups; the gauge of a service is read before, that of a scorer after."""
    if not isinstance(scorer, RewardClient):
        return scorer.score_groups(groups), scorer.gauge.reading()
    while True:
        try:
            info = scorer.info()
            _check_scale(info.get("shaping"), scale_rewards)  # a restart can change it
            return scorer.score_groups(groups, record=record), reading_of(info)
        except ServiceGone as gone:
            if when_gone == "fail":
                raise
            logger.warning("%s; the training waits for it (when_gone='wait')", gone)


def _log_rewards(
    rewards: Sequence[Reward],
    gauge: GaugeReading | None,
    calls_before: int,
    log_extra: Callable[[str, list[Any]], None] | None,
    log_metric: Callable[[str, float], None] | None,
) -> int:
    """Log metrics with TRL; return the number of verifier calls so far."""
    metrics = batch_metrics(rewards, gauge)
    calls = calls_before + int(metrics.get("verdict_calls", 0))
    if "verdict_calls" in metrics:
        metrics["verdict_calls_total"] = float(calls)
    if log_extra is not None:
        log_extra("source", [reward.source for reward in rewards])
        log_extra("probability", [reward.probability for reward in rewards])
    if log_metric is not None:
        for name, value in metrics.items():
            log_metric(f"memstore/{name}", value)
    return calls
