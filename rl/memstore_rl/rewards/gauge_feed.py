"""Feeds the gauge from a scorer: predicts groups with known truth as if it were unknown, and reports scored groups.

Only complete ground truth counts: groups of labelled queries in mode `memory`, and audit groups. Remembered verdicts do
not, since the memory knows the answers that policies give often. The prediction of such a group reads no label of its
own query and no remembered verdict. It is made for the gauge alone: neither rewards nor `vote_drift` see it. Groups of
mode `oracle` are for validation: the gauge sees none of them but those of audit queries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from memstore.records.columns import IdentifiedRecord, KnownQuery, read_answer
from memstore_gnn.monitoring.residual_gap import GroupGap, group_gap
from memstore_rl.rewards.gauge import Gauge
from memstore_rl.rewards.gauge_window import ScoredGroup, StepKey
from memstore_rl.rewards.reward import Reward
from memstore_rl.rewards.shaping import Predicted
from memstore_rl.rewards.tasks import VerifiedGroup, complete

Predict: TypeAlias = Callable[[Sequence[Sequence[IdentifiedRecord]]], list[Predicted]]
"""Predicts groups, each of one query."""


class FedBatch(NamedTuple):
    """A batch of groups that is being scored."""

    steps: dict[int, StepKey]
    """The step of each group that the gauge sees, by the group's position."""
    stopped: bool
    """Whether predictions are withheld."""


class GaugeFeed:
    """Connects a scorer with its gauge. Thread-safe."""

    def __init__(self, predict: Predict, gauge: Gauge) -> None:
        self._predict = predict
        self._gauge = gauge

    def may_judge(self, group: VerifiedGroup) -> bool:
        """Whether the gauge may predict a group: it can judge it, and the share does not leave it out."""
        record = group.task.records[0].record
        if not _can_judge(group) or group.task.group.query.audit:
            return _can_judge(group)
        if record.step is None:  # the number of its batch is not known yet
            return self._gauge.settings.share > 0
        return self._samples(group, (record.run, record.step))

    def start(self, groups: Sequence[VerifiedGroup]) -> FedBatch:
        """Begin a batch; the answer says whether its predictions are withheld."""
        seen = [number for number, group in enumerate(groups) if _is_seen(group)]
        first = [groups[number].task.records[0].record for number in seen]
        started = self._gauge.start([(record.run, record.step) for record in first])
        return FedBatch(dict(zip(seen, started.steps, strict=True)), started.stopped)

    def finish(self, batch: FedBatch, groups: Sequence[VerifiedGroup], rewards: Sequence[Sequence[Reward]]) -> None:
        """Predict the sampled groups with known truth, and report all groups that the gauge sees.

        Raises:
            ModelError, EmbedderError: the model cannot predict; nothing is reported.
        """
        gaps = self._gaps(batch, groups)
        self._gauge.observe(
            [
                ScoredGroup(
                    groups[number].task.records[0].query_id,
                    step,
                    _answers(groups[number]),
                    rewards[number],
                    gaps.get(number),
                    groups[number].task.group.query.audit,
                )
                for number, step in batch.steps.items()
            ]
        )

    def _gaps(self, batch: FedBatch, groups: Sequence[VerifiedGroup]) -> dict[int, GroupGap]:
        chosen = [
            number
            for number, step in batch.steps.items()
            if _can_judge(groups[number])
            and (groups[number].task.group.query.audit or self._samples(groups[number], step))
        ]
        predicted = self._predict([groups[number].task.records for number in chosen])
        return {
            number: group_gap(one.probability, one.by_votes, one.vote, _truth(groups[number]))
            for number, one in zip(chosen, predicted, strict=True)
        }

    def _samples(self, group: VerifiedGroup, step: StepKey) -> bool:
        return self._gauge.samples(group.task.records[0].query_id, step)


def _is_seen(group: VerifiedGroup) -> bool:
    return group.task.group.query.audit or group.task.mode != "oracle"


def _can_judge(group: VerifiedGroup) -> bool:
    """Whether the gauge can use a group: its truth is known, and the model could predict it."""
    wanted = group.task.group.query.audit or group.task.mode == "memory"
    return wanted and len(group.task.records) > 1 and complete(group.verdicts)


def _truth(group: VerifiedGroup) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([verdict.reward for verdict in group.verdicts or ()], np.float64)


def _answers(group: VerifiedGroup) -> list[str | None]:
    """Canonical answers, by id; None for programs, of which hardly any two are equal."""
    if group.task.domain == "code":
        return [None] * len(group.task.records)
    found = []
    for item in group.task.records:
        query = KnownQuery(group.task.domain, None, item.record.query)
        answer = read_answer(item.query_id, item.record.answer, query)
        found.append(None if answer is None else str(answer.id))
    return found
