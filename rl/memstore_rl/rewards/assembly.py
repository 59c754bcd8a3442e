"""Assembles rewards: ground truth, remembered verdicts and predictions of a group become one `Reward` per rollout."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from memstore_gnn.scoring.declined import declines
from memstore_rl.rewards.gauge import WITHHELD
from memstore_rl.rewards.memory_model import MemoryModel
from memstore_rl.rewards.reward import Mode, Reward, Source
from memstore_rl.rewards.shaping import DECIMALS, Predicted, ShapingSettings, shape
from memstore_rl.rewards.tasks import Task, VerifiedGroup, quoted_query
from memstore_rl.verifiers.protocol import Verdict

logger = logging.getLogger(__name__)

_UNLABELLED: dict[Mode, str] = {
    "oracle": "the query has no gold answer, and mode oracle rewards by ground truth only",
    "budget": "the query is not labelled, and mode budget rewards labelled queries only",
}
_FLAT = "the group's probabilities are closer together than min_spread, so all its rollouts get the same reward"
_SILENT = "what the model sees beyond the votes is the same up to min_spread, so all rollouts get the same reward"
_DECLINED = (
    "all rollouts of the group decline to answer, so their agreement is no evidence; this is the mean of the labels"
)


class _ShapedGroup(NamedTuple):
    """Predicted rewards of a group, one entry a rollout."""

    values: list[float]
    probability: list[float]
    by_votes: list[float]
    silent: bool
    reason: str | None


class Assembler:
    """Assembles the rewards of groups. Thread-safe."""

    def __init__(self, model: MemoryModel | None, shaping: ShapingSettings) -> None:
        self._model = model
        self._shaping = shaping
        self._declined = 0

    def rewards(
        self, group: VerifiedGroup, predicted: Predicted | None, latency: float, *, withheld: bool = False
    ) -> list[Reward]:
        """Return the rewards of a group's rollouts, in order.

        Args:
            predicted: the prediction; None if the group needs none.
            latency: duration of the scoring call, in seconds.
            withheld: whether the gauge withholds predictions, so that there is none.
        """
        task, size = group.task, len(group.task.records)
        verdicts = group.verdicts or [Verdict(None, _UNLABELLED.get(task.mode))] * size
        shaped = None if predicted is None else self._shaped(group, verdicts, predicted)
        rewards = []
        for index, (value, reason) in enumerate(verdicts):
            source: Source = "ground_truth" if value is not None else "unscored"
            chance, model, by_votes, judged = None, None, None, None if value is not None else group.remembered[index]
            if judged is not None:
                value, source, chance = judged.value, "remembered", judged.value
            elif value is None and predicted is not None and shaped is not None:
                value, source, reason = shaped.values[index], "predicted", reason or shaped.reason
                chance, by_votes, model = shaped.probability[index], shaped.by_votes[index], predicted.model
            elif value is None and withheld:
                reason = WITHHELD
            by, at = (judged.judged_by, judged.judged_at) if judged is not None else (None, None)
            given = (value, source, chance, size, task.short, model, task.known, latency, reason, by, at)
            stopped = withheld and source == "unscored"
            rewards.append(Reward(*given, by_votes, shaped is not None and shaped.silent, withheld=stopped))
        return rewards

    def _shaped(self, group: VerifiedGroup, verdicts: Sequence[Verdict], predicted: Predicted) -> _ShapedGroup:
        """Round and shape the prediction for a group. A group that declines to answer gets the mean of the labels."""
        probability, by_votes = (np.round(one, DECIMALS) for one in (predicted.probability, predicted.by_votes))
        declined = all(declines(one.record.answer or one.record.thinking) for one in group.task.records)
        if declined and self._model is not None:
            self._log_declined(group.task)
            probability = by_votes = np.full(len(probability), round(self._model.prior, DECIMALS))
        remembered = [None if verdict is None else verdict.value for verdict in group.remembered]
        known = np.array([value is not None for value in remembered])
        chance = np.where(known, np.array(remembered, np.float64), probability)
        judged = known | np.array([verdict.reward is not None for verdict in verdicts])
        values, silent = shape(Predicted(chance, predicted.answer, by_votes, predicted.vote), self._shaping, judged)
        equal = _SILENT if self._shaping.shaping == "residual" else _FLAT
        reason = _DECLINED if declined else equal if silent else None
        return _ShapedGroup(values.tolist(), chance.tolist(), by_votes.tolist(), silent, reason)

    def _log_declined(self, task: Task) -> None:
        """Log the first group that declines to answer, and each tenfold number of them."""
        self._declined += 1
        if self._declined in (1, 10, 100) or self._declined % 1000 == 0:
            logger.warning(
                "all %d rollouts of a group decline to answer (%s), so their reward is the mean of the labels; "
                "%d such groups so far",
                len(task.records),
                quoted_query(task.group.query),
                self._declined,
            )
