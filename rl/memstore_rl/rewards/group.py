"""Scores groups: ground truth for labelled queries that can be verified, remembered verdicts, predictions for the rest.

Every trainer hook and the reward service use `GroupScorer`. Its guarantees:

- Rewards come in the order of the rollouts, one each. `score_groups` gives each group the rewards that `score_group`
  gives it alone; only the latency differs.
- Ground truth is never a fallback, and a failure is never a zero (see `memstore_rl.rewards.reward`). A failure of the
  embedder, the model or the memory raises; no error is turned into a number.
- Any text that a policy wrote is scored. Invalid input from the trainer raises InputError, which names the group: no
  rollouts, a query without text, a rollout without response, a step that is not an integer. If the memory has another
  domain for a query than the trainer sends, the memory's counts and a warning is logged once.
- The memory is only read. `refresh` re-reads it.
- Thread-safe.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np

from memstore.errors import InputError, RecordError
from memstore.locations.location import Location
from memstore.memory import Memory
from memstore.records import ids
from memstore.records.columns import IdentifiedRecord, Occurrences, assign_ids
from memstore.records.record import RecordDefaults, parse_record
from memstore.text import infer_domain
from memstore.types import Domain
from memstore_gnn.data.verdicts import Verdict as Remembered
from memstore_gnn.scoring.declined import declines
from memstore_rl.rewards.memory_model import Embed, MemoryModel
from memstore_rl.rewards.reward import MODES, Group, Mode, Reward, RewardQuery, Rollout, Source, readable, record_values
from memstore_rl.rewards.shaping import DECIMALS, Predicted, Shaping, ShapingSettings, shape
from memstore_rl.verifiers import Verifiers, standard_verifiers
from memstore_rl.verifiers.protocol import Attempt, Verdict
from memstore_rl.verifiers.stored_golds import judge_of

logger = logging.getLogger(__name__)

_UNLABELLED: dict[Mode, str] = {
    "oracle": "the query has no gold answer, and mode oracle rewards by ground truth only",
    "budget": "the query is not labelled, and mode budget rewards labelled queries only",
}
_NO_VERDICT = Verdict(None)
_FLAT = "the group's probabilities are closer together than min_spread, so all its rollouts get the same reward"
_SILENT = "what the model sees beyond the votes is the same up to min_spread, so all rollouts get the same reward"
_DECLINED = (
    "all rollouts of the group decline to answer, so their agreement is no evidence; this is the mean of the labels"
)
_QUOTED_CHARS = 60
"""Characters of a query that an error quotes."""


@dataclass(frozen=True)
class _Task:
    """A group, validated."""

    group: Group
    mode: Mode
    domain: Domain
    records: list[IdentifiedRecord]
    known: bool | None
    short: bool


@dataclass(frozen=True)
class VerifiedGroup:
    """A validated group with its verdicts; see `GroupScorer.verify`."""

    task: _Task
    verdicts: list[Verdict] | None
    """None if the group is not labelled."""
    seconds: float
    """Duration of the call of `verify`."""
    remembered: list[Remembered | None] = field(default_factory=list)
    """Verdicts of the memory, one a rollout."""


class _ShapedGroup(NamedTuple):
    """Predicted rewards of a group, one entry a rollout."""

    values: list[float]
    probability: list[float]
    by_votes: list[float]
    silent: bool
    reason: str | None


class GroupScorer:
    """Scores groups of rollouts; see the module's docstring. Use it as a context manager, or call `close`.

    Example:
        with GroupScorer.open("my-memory", expected=8) as scorer:
            rewards = scorer.score_group(RewardQuery(text, dataset="gsm8k", domain="math", gold=None), rollouts)
    """

    def __init__(
        self,
        model: MemoryModel | None,
        *,
        mode: Mode = "memory",
        expected: int | None = None,
        shaping: Shaping = "probability",
        min_spread: float = 0.0,
        residual_weight: float = 1.0,
        verifiers: Verifiers | None = None,
    ) -> None:
        """Create a scorer over an open model; usually you call `open` instead.

        Args:
            model: the reward model; None for modes that use none.
            mode: where rewards come from; see `memstore_rl.rewards.reward`.
            expected: number of rollouts in a full group; None: a group is short only by its own `expected`.
            shaping: how a probability becomes a reward; ground truth is never shaped.
            min_spread: a group whose probabilities are closer together than this gets one reward, with a reason.
            residual_weight: factor of shaping `residual`.
            verifiers: verifiers by domain; None: maths and multiple choice. The caller closes those it passes.

        Raises:
            InputError: unknown mode or shaping, mode `memory` without a model, `expected` below 1, a
                spread outside 0..1, or an invalid weight.
        """
        self._model = model
        self._mode = self._checked_mode(mode)
        self._shaping = ShapingSettings(shaping, min_spread, residual_weight)
        if expected is not None and expected < 1:
            raise InputError(f"expected is {expected} rollouts per group; pass 1 or more")
        self._expected = expected
        self._warned: set[tuple[Domain | None, Domain]] = set()
        self._declined = 0
        self._resources = ExitStack()
        self._verifiers = verifiers if verifiers is not None else standard_verifiers()
        if verifiers is None:
            self._resources.callback(self._verifiers.close)
        self._judge = judge_of(self._verifiers)

    @classmethod
    def open(
        cls,
        location: str | Path | Location | Memory | None = None,
        *,
        mode: Mode = "memory",
        model: str | None = None,
        device: str | None = None,
        expected: int | None = None,
        shaping: Shaping = "probability",
        min_spread: float = 0.0,
        residual_weight: float = 1.0,
        verifiers: Verifiers | None = None,
        embed: Embed | None = None,
    ) -> Self:
        """Open a memory and one of its reward models, by default the newest.

        Args:
            location: as for `Memory.open`; an open memory is used and stays open. Ignored in the modes `oracle` and
                `budget`, which use no model.
            model: id of the reward model; None: the memory's default.
            device: where the model runs; None: a GPU if there is one.
            embed: embeds texts instead of the memory's embedder and cache.

        Raises:
            LocationError, LockedError, SchemaError, StoreError, EmbedderError: the memory cannot be opened.
            ModelError: the reward model does not exist or does not fit the memory.
            InputError: as in the constructor.
        """
        create = partial(
            cls,
            mode=mode,
            expected=expected,
            shaping=shaping,
            min_spread=min_spread,
            residual_weight=residual_weight,
            verifiers=verifiers,
        )
        if mode in ("oracle", "budget"):
            return create(None)
        with ExitStack() as resources:
            memory = location if isinstance(location, Memory) else resources.enter_context(Memory.open(location))
            opened = MemoryModel.of_memory(memory, model=model, device=device, embed=embed)
            scorer = create(opened)
            scorer._resources.push(resources.pop_all())
            return scorer

    @property
    def mode(self) -> Mode:
        """Default mode of groups without their own."""
        return self._mode

    @property
    def model(self) -> MemoryModel | None:
        """The reward model with its memory; None if the mode uses none."""
        return self._model

    @property
    def shaping(self) -> ShapingSettings:
        """How a probability becomes a reward."""
        return self._shaping

    def score_group(
        self, query: RewardQuery, rollouts: Sequence[Rollout], *, expected: int | None = None
    ) -> list[Reward]:
        """Return the reward of each rollout, in order."""
        return self.score_groups([Group(query, rollouts, expected)])[0]

    def score_groups(self, groups: Sequence[Group]) -> list[list[Reward]]:
        """Return the rewards of several groups, in order, computed in one batch."""
        return self.score_verified(self.verify(groups))

    def verify(self, groups: Sequence[Group]) -> list[VerifiedGroup]:
        """Validate groups and verify the labelled ones: the part of scoring that runs programs and compares formulas.

        The programs of the other groups are interpreted, for `score_verified` to compare. It is separate so that a
        service can score other requests meanwhile.
        """
        started = time.perf_counter()
        tasks = [self._task(number, group) for number, group in enumerate(groups)]
        verdicts = self._verdicts(tasks)
        remembered = self._remembered(tasks, verdicts)
        verified = [
            VerifiedGroup(task, given, 0.0, recalled)
            for task, given, recalled in zip(tasks, verdicts, remembered, strict=True)
        ]
        programs = [one.task.records for one in verified if one.task.domain == "code" and self._needs_model(one)]
        if programs and self._model is not None:
            self._model.run_programs(programs)
        seconds = time.perf_counter() - started
        return [replace(one, seconds=seconds) for one in verified]

    def score_verified(self, groups: Sequence[VerifiedGroup]) -> list[list[Reward]]:
        """Return the rewards of verified groups, in order, computed in one batch."""
        started = time.perf_counter()
        to_predict = [number for number, group in enumerate(groups) if self._needs_model(group)]
        predicted: dict[int, Predicted] = {}
        if to_predict and self._model is not None:
            predictions = self._model.predict([groups[number].task.records for number in to_predict])
            predicted = dict(zip(to_predict, predictions, strict=True))
        seconds = time.perf_counter() - started
        return [
            self._rewards(group, predicted.get(number), group.seconds + seconds) for number, group in enumerate(groups)
        ]

    def refresh(self) -> None:
        """Re-read the memory; calls in progress keep the state they started with."""
        if self._model is not None:
            self._model.refresh()

    def _task(self, number: int, group: Group) -> _Task:
        query, mode = group.query, self._checked_mode(group.mode or self._mode)
        if not group.rollouts:
            raise InputError(f"group {number} ({_quoted_query(query)}) has no rollouts; send at least one")
        known, stored = None, None
        if self._model is not None:
            identity = ids.query_id(readable(query.text))
            known, stored = self._model.contains(identity), self._model.domain_of(identity)
        if stored is not None and query.domain not in (None, stored):
            self._warn_about_domain(query, stored)
        domain = stored or query.domain or infer_domain(query.text, query.gold if query.labelled else None)
        records, seen = [], Occurrences()
        for index, rollout in enumerate(group.rollouts):
            try:
                record = parse_record(record_values(query, rollout, index, domain), RecordDefaults())
                records.append(assign_ids(record, "", seen))
            except RecordError as error:
                raise InputError(f"group {number} ({_quoted_query(query)}), rollout {index}: {error}") from error
        expected = group.expected or self._expected or 0
        return _Task(group, mode, domain, records, known, len(records) < expected)

    def _warn_about_domain(self, query: RewardQuery, stored: Domain) -> None:
        """Log a warning once per pair of domains; a long training should not end because of this."""
        if (query.domain, stored) not in self._warned:
            self._warned.add((query.domain, stored))
            logger.warning(
                "%s was sent with domain %s, but the memory has it with domain %s, which is used here and for similar "
                "queries",
                _quoted_query(query),
                query.domain,
                stored,
            )

    def _verdicts(self, tasks: Sequence[_Task]) -> list[list[Verdict] | None]:
        """Verify all labelled groups, one call per domain; None for a group that is not labelled."""
        labelled = [(task, item.record) for task in tasks if task.group.query.labelled for item in task.records]
        attempts = [Attempt(record.query, task.group.query.gold or "", record.answer) for task, record in labelled]
        verdicts = iter(self._verifiers.check_all([task.domain for task, _ in labelled], attempts))
        return [[next(verdicts) for _ in task.records] if task.group.query.labelled else None for task in tasks]

    def _remembered(
        self, tasks: Sequence[_Task], verdicts: Sequence[list[Verdict] | None]
    ) -> list[list[Remembered | None]]:
        """Recall verdicts of the memory for all rollouts of mode `memory` that have no ground truth."""
        found: list[list[Remembered | None]] = [[None] * len(task.records) for task in tasks]
        if self._model is None:
            return found
        wanted = [
            number
            for number, (task, judged) in enumerate(zip(tasks, verdicts, strict=True))
            if task.mode == "memory" and task.group.query.remember and not _complete(judged)
        ]
        recalled = self._model.recall([tasks[number].records for number in wanted], self._judge)
        for number, of_task in zip(wanted, recalled, strict=True):
            found[number] = of_task
        return found

    def _needs_model(self, group: VerifiedGroup) -> bool:
        if group.task.mode != "memory":
            return False
        verdicts = group.verdicts or [_NO_VERDICT] * len(group.remembered)
        known = zip(verdicts, group.remembered, strict=True)
        return any(verdict.reward is None and remembered is None for verdict, remembered in known)

    def _rewards(self, group: VerifiedGroup, predicted: Predicted | None, latency: float) -> list[Reward]:
        task, size = group.task, len(group.task.records)
        verdicts = group.verdicts or [Verdict(None, _UNLABELLED.get(task.mode))] * size
        shaped = None if predicted is None else self._shaped(group, verdicts, predicted)
        rewards = []
        for index, (value, reason) in enumerate(verdicts):
            source: Source = "ground_truth" if value is not None else "unscored"
            chance, model, by_votes, judged = None, None, None, None if value is not None else group.remembered[index]
            if judged is not None:
                value, source, chance = judged.value, "remembered", judged.value
            elif value is None and shaped is not None:
                value, source, reason = shaped.values[index], "predicted", reason or shaped.reason
                chance, by_votes, model = shaped.probability[index], shaped.by_votes[index], self._model_id
            by, at = (judged.judged_by, judged.judged_at) if judged is not None else (None, None)
            given = (value, source, chance, size, task.short, model, task.known, latency, reason, by, at)
            rewards.append(Reward(*given, by_votes, shaped is not None and shaped.silent))
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
        values, silent = shape(Predicted(chance, predicted.answer, by_votes), self._shaping, judged)
        equal = _SILENT if self._shaping.shaping == "residual" else _FLAT
        reason = _DECLINED if declined else equal if silent else None
        return _ShapedGroup(values.tolist(), chance.tolist(), by_votes.tolist(), silent, reason)

    def _log_declined(self, task: _Task) -> None:
        """Log the first group that declines to answer, and each tenfold number of them."""
        self._declined += 1
        if self._declined in (1, 10, 100) or self._declined % 1000 == 0:
            logger.warning(
                "all %d rollouts of a group decline to answer (%s), so their reward is the mean of the labels; "
                "%d such groups so far",
                len(task.records),
                _quoted_query(task.group.query),
                self._declined,
            )

    @property
    def _model_id(self) -> str | None:
        return self._model.model.card.id if self._model is not None else None

    def _checked_mode(self, mode: Mode) -> Mode:
        if mode not in MODES:
            raise InputError(f"there is no mode {mode!r}; there are {', '.join(MODES)}")
        if mode == "memory" and self._model is None:
            raise InputError("mode memory needs a reward model; open a memory that has one, or use oracle or budget")
        return mode

    def close(self) -> None:
        """Close what this scorer opened; calling it again does nothing."""
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _complete(verdicts: list[Verdict] | None) -> bool:
    """Whether every rollout of a group has ground truth."""
    return verdicts is not None and all(verdict.reward is not None for verdict in verdicts)


def _quoted_query(query: RewardQuery) -> str:
    """Quote the key or text of a query for an error."""
    text = query.key or query.text.strip()
    return repr(text if len(text) <= _QUOTED_CHARS else text[:_QUOTED_CHARS] + "…")
