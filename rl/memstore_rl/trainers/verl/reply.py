"""Converts a `Reward` to verl's format: a number, and the same keys for every rollout.

verl uses the keys of a batch's first rollout for all of them, averages numbers and skips texts. It cannot represent a
rollout without a reward, so `memstore_rl.trainers.unscored` fills it in or ends the training.

The `verdict_` keys count the pairs of query and answer of mode `verdict`. Each pair counts on one rollout, so the sum
over a batch is the number of its pairs.
"""

from __future__ import annotations

import math

from memstore_rl.rewards.gauge_reading import GaugeReading
from memstore_rl.rewards.reward import Group, PairCounts, Reward, pair_counts
from memstore_rl.trainers.unscored import WhenUnscored, complete_rewards
from memstore_rl.trainers.verl.group_barrier import Scorer

GAUGE_KEYS = ("gap", "gap_low", "gap_high", "gap_groups", "mixed_gap", "flip_share", "silent_share", "stopped")
"""Figures of the gauge in `reward_extra_info`."""
EXTRA_KEYS = (
    "score",
    "source",
    "from_ground_truth",
    "from_memory",
    "from_model",
    "probability",
    "group_size",
    "group_short",
    "group_silent",
    "verdict_call",
    "verdict_right",
    "verdict_wrong",
    "verdict_remembered",
    "verdict_open",
    "latency_s",
    "withheld",
    *(f"gauge_{name}" for name in GAUGE_KEYS),
)
"""Keys of `reward_extra_info`, in order."""

UNSCORED_SETTING = "memstore.unscored=mean"
"""verl's override for rollouts without a reward, for an error."""

Extra = dict[str, float | str]


def reply(reward: Reward, gauge: GaugeReading | None = None) -> Extra:
    """Return the `reward_extra_info` of a reward that has a value.

    Args:
        gauge: figures to add to it; NaN without one, or without data.
    """
    figures = {} if gauge is None else gauge.metrics()
    assert reward.value is not None
    pairs = pair_counts([reward]) or PairCounts(0, 0, 0, 0, 0)
    return {
        "score": reward.value,
        "source": reward.source,
        "from_ground_truth": float(reward.source == "ground_truth"),
        "from_memory": float(reward.source == "remembered"),
        "from_model": float(reward.source == "predicted"),
        "probability": math.nan if reward.probability is None else reward.probability,
        "group_size": float(reward.group_size),
        "group_short": float(reward.short),
        "group_silent": float(reward.silent),
        "verdict_call": float(pairs.calls),
        "verdict_right": float(pairs.right),
        "verdict_wrong": float(pairs.wrong),
        "verdict_remembered": float(pairs.remembered),
        "verdict_open": float(pairs.open),
        "latency_s": reward.latency_s,
        "withheld": float(reward.withheld),
        **{f"gauge_{name}": figures.get(name, math.nan) for name in GAUGE_KEYS},
    }


class CompleteScorer:
    """Wraps a scorer so that every reward has a value, or `Unscored` is raised."""

    def __init__(self, scorer: Scorer, unscored: WhenUnscored, *, group_relative: bool = True) -> None:
        self._scorer = scorer
        self._unscored = unscored
        self._group_relative = group_relative

    async def score_group(self, group: Group, *, record: bool = True) -> list[Reward]:
        """Return the rewards of the group's rollouts, in order."""
        rewards = await self._scorer.score_group(group, record=record)
        return complete_rewards(rewards, self._unscored, group_relative=self._group_relative, setting=UNSCORED_SETTING)

    async def gauge(self) -> GaugeReading | None:
        """Return the figures of the gauge; None if there is none."""
        return await self._scorer.gauge()
