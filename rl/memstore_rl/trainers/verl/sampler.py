"""Adds the shares of ground truth and predictions to verl's training metrics (verl 0.9, v1 trainer).

verl's v1 trainer stores the extra information of a reward but does not report it during training. It does report the
metrics that its sampler returns, and the sampler is configurable. These samplers are verl's own with metrics from the
extra information of the sampled rollouts:

    memstore/ground_truth_share    share of the batch's rollouts with ground truth
    memstore/remembered_share      share of those with a verdict that the memory remembers
    memstore/predicted_share       share of predicted ones
    memstore/unscored_share        share of those with the mean of their group (memstore.unscored=mean)
    memstore/short_share           share of those in incomplete groups
    memstore/silent_share          share of those in predicted groups with one reward for all
    memstore/probability           mean over the predicted ones
    memstore/latency_s             mean seconds of a scoring call
    memstore/withheld_share        share of those whose prediction the gauge withholds
    memstore/gauge_gap             the gauge; also _gap_low, _gap_high, ... (reply.GAUGE_KEYS), of the batch before
    memstore/verdict_calls         verifier calls for the batch; also _right, _wrong, _remembered, _open (mode verdict)

Load them with `trainer.v1.sampler.custom_sampler.{path,name}`. verl does not pass a group filter
(`algorithm.filter_groups`) to a custom sampler, so do not combine the two; `memstore verl check` reports it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import transfer_queue as tq
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer, ReplayBufferAsync

from memstore_rl.trainers.verl.reply import GAUGE_KEYS

_COUNTS = {
    "memstore/verdict_calls": "verdict_call",
    "memstore/verdict_right": "verdict_right",
    "memstore/verdict_wrong": "verdict_wrong",
    "memstore/verdict_remembered": "verdict_remembered",
    "memstore/verdict_open": "verdict_open",
}
"""Key of `reward_extra_info` that a metric sums up."""


def shares(extras: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Compute the metrics from `reward_extra_info` of rollouts; {} if none comes from memstore."""
    found = [extra for extra in extras if "from_ground_truth" in extra]
    if not found:
        return {}
    predicted = [float(extra["probability"]) for extra in found if extra["source"] == "predicted"]

    def mean(values: Iterable[float]) -> float:
        return sum(values) / len(found)

    metrics = {
        "memstore/ground_truth_share": mean(extra["from_ground_truth"] for extra in found),
        "memstore/remembered_share": mean(extra["from_memory"] for extra in found),
        "memstore/predicted_share": mean(extra["from_model"] for extra in found),
        "memstore/unscored_share": mean(float(extra["source"] == "unscored") for extra in found),
        "memstore/short_share": mean(extra["group_short"] for extra in found),
        "memstore/silent_share": mean(extra["group_silent"] for extra in found),
        "memstore/withheld_share": mean(extra["withheld"] for extra in found),
        "memstore/latency_s": mean(extra["latency_s"] for extra in found),
    }
    gauge = {f"memstore/gauge_{name}": float(found[-1][f"gauge_{name}"]) for name in GAUGE_KEYS}
    metrics |= {name: value for name, value in gauge.items() if not math.isnan(value)}
    counts = {name: sum(extra[key] for extra in found) for name, key in _COUNTS.items()}
    if any(counts.values()):
        metrics |= counts
    return metrics | ({"memstore/probability": sum(predicted) / len(predicted)} if predicted else {})


class _WithShares:
    """Adds the metrics to those of a sampler."""

    def sample(self, *args: Any, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        batch, metrics = super().sample(*args, **kwargs)  # type: ignore[misc]
        if batch.keys and batch.partition_id != "val":
            data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=["extra_fields"])
            extras = [fields.get("reward_extra_info", {}) for fields in list(data["extra_fields"])]
            metrics = {**metrics, **shares(extras)}
        return batch, metrics


class SyncSampler(_WithShares, ReplayBuffer):  # type: ignore[misc]
    """For `trainer.v1.trainer_mode=sync`."""


class AsyncSampler(_WithShares, ReplayBufferAsync):  # type: ignore[misc]
    """For the asynchronous trainer modes."""
