"""Shares of ground truth and prediction among verl's training metrics (verl 0.9, v1 trainer).

verl's v1 trainer keeps what a reward says beside its number, and reports none of it while it trains. It lets the
sampler be replaced, though, and reports what that returns. So these are verl's own samplers, which also look at the
extra information of the rollouts that they hand out:

    memstore/ground_truth_share    of the rollouts of the batch
    memstore/predicted_share
    memstore/unscored_share        those that got the mean of their siblings (memstore.unscored=mean)
    memstore/short_share           those whose group was not complete
    memstore/probability           mean over the predicted ones
    memstore/latency_s             mean seconds of a scoring call

Loaded by `trainer.v1.sampler.custom_sampler.{path,name}`. verl gives a custom sampler no group filter
(`algorithm.filter_groups`), so with that switched on leave these out; `memstore verl check` says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import transfer_queue as tq
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer, ReplayBufferAsync


def shares(extras: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """The metrics of the rollouts whose `reward_extra_info` these are; none of ours, no metrics."""
    found = [extra for extra in extras if "from_ground_truth" in extra]
    if not found:
        return {}
    predicted = [float(extra["probability"]) for extra in found if extra["source"] == "predicted"]

    def mean(values: Iterable[float]) -> float:
        return sum(values) / len(found)

    metrics = {
        "memstore/ground_truth_share": mean(extra["from_ground_truth"] for extra in found),
        "memstore/predicted_share": mean(extra["from_model"] for extra in found),
        "memstore/unscored_share": mean(float(extra["source"] == "unscored") for extra in found),
        "memstore/short_share": mean(extra["group_short"] for extra in found),
        "memstore/latency_s": mean(extra["latency_s"] for extra in found),
    }
    return metrics | ({"memstore/probability": sum(predicted) / len(predicted)} if predicted else {})


class _Counting:
    """Adds the metrics to what a sampler returns."""

    def sample(self, *args: Any, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        batch, metrics = super().sample(*args, **kwargs)  # type: ignore[misc]
        if batch.keys and batch.partition_id != "val":
            data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=["extra_fields"])
            extras = [fields.get("reward_extra_info", {}) for fields in list(data["extra_fields"])]
            metrics = {**metrics, **shares(extras)}
        return batch, metrics


class SyncSampler(_Counting, ReplayBuffer):  # type: ignore[misc]
    """For `trainer.v1.trainer_mode=sync`."""


class AsyncSampler(_Counting, ReplayBufferAsync):  # type: ignore[misc]
    """For the asynchronous trainer modes."""
