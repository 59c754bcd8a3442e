"""What a hook tells its trainer about a batch of rewards: numbers by name.

{source}_share     share of the rollouts by source: ground_truth, remembered, predicted, unscored
short_share        share of the rollouts in groups with fewer rollouts than expected
silent_share       share of the rollouts in groups that get one reward
withheld_share     share of the rollouts whose prediction the gauge withheld
probability        mean probability of the predicted rollouts; absent without one
latency_s          mean duration of scoring, in seconds
verdict_...        mode verdict: verifier calls and verdicts of the batch
gauge_...          figures of the gauge that have data
"""

from __future__ import annotations

from collections.abc import Sequence

from memstore_rl.rewards.gauge_reading import GaugeReading
from memstore_rl.rewards.reward import SOURCES, Reward, pair_counts


def batch_metrics(rewards: Sequence[Reward], gauge: GaugeReading | None = None) -> dict[str, float]:
    """Return the metrics of a batch that is not empty."""
    count = len(rewards)
    metrics = {f"{source}_share": sum(reward.source == source for reward in rewards) / count for source in SOURCES}
    metrics["short_share"] = sum(reward.short for reward in rewards) / count
    metrics["silent_share"] = sum(reward.silent for reward in rewards) / count
    metrics["withheld_share"] = sum(reward.withheld for reward in rewards) / count
    predicted = [reward.probability or 0.0 for reward in rewards if reward.source == "predicted"]
    if predicted:
        metrics["probability"] = sum(predicted) / len(predicted)
    metrics["latency_s"] = sum(reward.latency_s for reward in rewards) / count
    pairs = pair_counts(rewards)
    if pairs is not None:
        metrics |= {f"verdict_{name}": float(number) for name, number in pairs._asdict().items()}
    if gauge is not None and gauge.steps:
        metrics |= {f"gauge_{name}": value for name, value in gauge.trainer_metrics().items()}
    return metrics


def reward_metrics(reward: Reward) -> dict[str, float]:
    """Return the metrics of one rollout, for trainers that average numbers by rollout.

    Their means over a batch are the shares of `batch_metrics`, under the same names.
    """
    metrics = {f"{source}_share": float(reward.source == source) for source in SOURCES}
    flags = {"short": reward.short, "silent": reward.silent, "withheld": reward.withheld}
    return metrics | {f"{name}_share": float(flag) for name, flag in flags.items()} | {"latency_s": reward.latency_s}
