"""Scores groups: ground truth for labelled queries that can be verified, the reward model for the rest.

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
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from memstore.errors import InputError, RecordError
from memstore.locations.location import Location
from memstore.memory import Memory
from memstore.records import ids
from memstore.records.record import Record, RecordDefaults, parse_record
from memstore.text import infer_domain
from memstore.types import Domain
from memstore_rl.rewards.abstention import all_abstain
from memstore_rl.rewards.memory_model import Embed, MemoryModel, Predicted
from memstore_rl.rewards.reward import MODES, Group, Mode, Reward, RewardQuery, Rollout, Source, readable, record_values
from memstore_rl.rewards.shaping import DECIMALS, SHAPINGS, Shaping, is_flat, shape
from memstore_rl.verifiers import Verifiers, standard_verifiers
from memstore_rl.verifiers.protocol import Attempt, Verdict

logger = logging.getLogger(__name__)

_UNLABELLED: dict[Mode, str] = {
    "oracle": "the query has no gold answer, and mode oracle rewards by ground truth only",
    "budget": "the query is not labelled, and mode budget rewards labelled queries only",
}
_FLAT = "the group's probabilities are closer together than min_spread, so all its rollouts get the same reward"
_ABSTAINED = (
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
    records: list[Record]
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
        verifiers: Verifiers | None = None,
    ) -> None:
        """Create a scorer over an open model; usually you call `open` instead.

        Args:
            model: the reward model; None for modes that use none.
            mode: where rewards come from; see `memstore_rl.rewards.reward`.
            expected: number of rollouts in a full group; None: a group is short only by its own `expected`.
            shaping: how a probability becomes a reward; ground truth is never shaped.
            min_spread: a group whose probabilities are closer together than this gets one reward, with a reason.
            verifiers: verifiers by domain; None: maths and multiple choice. The caller closes those it passes.

        Raises:
            InputError: unknown mode or shaping, mode `memory` without a model, `expected` below 1, or a spread
                outside 0..1.
        """
        self._model = model
        self._mode = self._checked_mode(mode)
        if shaping not in SHAPINGS:
            raise InputError(f"there is no shaping {shaping!r}; use one of {', '.join(SHAPINGS)}")
        if expected is not None and expected < 1:
            raise InputError(f"expected is {expected} rollouts per group; pass 1 or more")
        if not 0.0 <= min_spread <= 1.0:
            raise InputError(f"min_spread is {min_spread:g}; it must be between 0 and 1")
        self._expected = expected
        self._warned: set[tuple[Domain | None, Domain]] = set()
        self._min_spread = min_spread
        self._abstained = 0
        self._shaping: Shaping = shaping
        self._resources = ExitStack()
        self._verifiers = verifiers if verifiers is not None else self._own_verifiers()

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
        if mode in ("oracle", "budget"):
            return cls(None, mode=mode, expected=expected, shaping=shaping, min_spread=min_spread, verifiers=verifiers)
        with ExitStack() as resources:
            memory = location if isinstance(location, Memory) else resources.enter_context(Memory.open(location))
            opened = MemoryModel.of_memory(memory, model=model, device=device, embed=embed)
            scorer = cls(
                opened, mode=mode, expected=expected, shaping=shaping, min_spread=min_spread, verifiers=verifiers
            )
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

        It is separate from `score_verified` so that a service can score other requests meanwhile.
        """
        started = time.perf_counter()
        tasks = [self._task(number, group) for number, group in enumerate(groups)]
        verdicts = self._verdicts(tasks)
        seconds = time.perf_counter() - started
        return [VerifiedGroup(task, of_task, seconds) for task, of_task in zip(tasks, verdicts, strict=True)]

    def score_verified(self, groups: Sequence[VerifiedGroup]) -> list[list[Reward]]:
        """Return the rewards of verified groups, in order, computed in one batch."""
        started = time.perf_counter()
        to_predict = [number for number, group in enumerate(groups) if self._needs_model(group.task, group.verdicts)]
        predicted: dict[int, Predicted] = {}
        if to_predict and self._model is not None:
            predictions = self._model.predict([groups[number].task.records for number in to_predict])
            predicted = dict(zip(to_predict, predictions, strict=True))
        seconds = time.perf_counter() - started
        return [
            self._rewards(group.task, group.verdicts, predicted.get(number), group.seconds + seconds)
            for number, group in enumerate(groups)
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
            identity = ids.query_id(
                _none_if_blank(query.dataset) or "default", _none_if_blank(query.key), readable(query.text)
            )
            known, stored = self._model.contains(identity), self._model.domain_of(identity)
        if stored is not None and query.domain not in (None, stored):
            self._warn_about_domain(query, stored)
        domain = stored or query.domain or infer_domain(query.text, query.gold if query.labelled else None)
        records = []
        for index, rollout in enumerate(group.rollouts):
            try:
                records.append(parse_record(record_values(query, rollout, index, domain), RecordDefaults()))
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
        labelled = [(task, record) for task in tasks if task.group.query.labelled for record in task.records]
        attempts = [Attempt(record.query, task.group.query.gold or "", record.answer) for task, record in labelled]
        verdicts = iter(self._verifiers.check_all([task.domain for task, _ in labelled], attempts))
        return [[next(verdicts) for _ in task.records] if task.group.query.labelled else None for task in tasks]

    def _needs_model(self, task: _Task, verdicts: list[Verdict] | None) -> bool:
        return task.mode == "memory" and (verdicts is None or any(verdict.reward is None for verdict in verdicts))

    def _rewards(
        self, task: _Task, verdicts: list[Verdict] | None, predicted: Predicted | None, latency: float
    ) -> list[Reward]:
        size = len(task.records)
        verdicts = verdicts or [Verdict(None, None if predicted is not None else _UNLABELLED[task.mode])] * size
        abstained = predicted is not None and self._model is not None and all_abstain(task.records)
        if predicted is not None:
            probability = np.round(predicted.probability, DECIMALS)
            if abstained and self._model is not None:
                self._log_abstention(task)
                probability = np.full(size, round(self._model.prior, DECIMALS))
            values = shape(probability, predicted.answer, self._shaping, self._min_spread).tolist()
            flat = _FLAT if is_flat(probability, self._min_spread) else None
            chances, flat = probability.tolist(), _ABSTAINED if abstained else flat
        rewards = []
        for index, (value, reason) in enumerate(verdicts):
            source: Source = "ground_truth" if value is not None else "unscored"
            chance, model = None, None
            if value is None and predicted is not None:
                value, source, reason = values[index], "predicted", reason or flat
                chance, model = chances[index], self._model_id
            rewards.append(Reward(value, source, chance, size, task.short, model, task.known, latency, reason))
        return rewards

    def _log_abstention(self, task: _Task) -> None:
        """Log the first group that declines to answer, and each tenfold number of them."""
        self._abstained += 1
        if self._abstained in (1, 10, 100) or self._abstained % 1000 == 0:
            logger.warning(
                "all %d rollouts of a group decline to answer (%s), so their reward is the mean of the labels; "
                "%d such groups so far",
                len(task.records),
                _quoted_query(task.group.query),
                self._abstained,
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

    def _own_verifiers(self) -> Verifiers:
        verifiers = standard_verifiers()
        self._resources.callback(verifiers.close)
        return verifiers

    def close(self) -> None:
        """Close what this scorer opened; calling it again does nothing."""
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _none_if_blank(text: str | None) -> str | None:
    """Return the text, or None if it is blank."""
    return text if text and not text.isspace() else None


def _quoted_query(query: RewardQuery) -> str:
    """Quote the key or text of a query for an error."""
    text = query.key or query.text.strip()
    return repr(text if len(text) <= _QUOTED_CHARS else text[:_QUOTED_CHARS] + "…")
