"""`score_group`: ground truth where a query is labelled and its verifier can say, the reward model elsewhere.

The one core that every trainer's hook and the reward service call. What is promised:

- Rewards come back in the order of the rollouts, one each. `score_groups` gives each group what `score_group` gives it
  alone, but for latency: it is one batch, no more.
- Ground truth is never a fallback, a failure never a zero: see `memstore_rl.rewards.reward`. Whatever breaks (embedder,
  model, memory) raises; nothing is caught and turned into a number.
- What a policy wrote breaks nothing: any text is scored. What a trainer sent wrong raises InputError, in one sentence
  that names the group: no rollouts, a query without text, a rollout without response, a step that is no
  integer. A domain that is not the memory's for that query does not count, and is told once.
- The memory is only read. `refresh` makes it read what was written since.
- May be called from several threads at once.
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
from memstore_rl.rewards.memory_model import Embed, MemoryModel, Predicted
from memstore_rl.rewards.reward import MODES, Group, Mode, Reward, RewardQuery, Rollout, Source, readable, record_values
from memstore_rl.rewards.shaping import DECIMALS, SHAPINGS, Shaping, is_flat, shape
from memstore_rl.verifiers import Verifiers, standard_verifiers
from memstore_rl.verifiers.protocol import Attempt, Verdict

logger = logging.getLogger(__name__)

_UNLABELLED: dict[Mode, str] = {
    "oracle": "the query carries no gold answer, and mode oracle rewards by ground truth alone",
    "budget": "the query is not labelled, and mode budget rewards labelled ones only",
}
_FLAT = "the group's probabilities lie closer together than min_spread, so its rollouts are not told apart"
_QUOTED = 60
"""Characters of a query that an error repeats."""


@dataclass(frozen=True)
class _Task:
    """A group, validated."""

    group: Group
    mode: Mode
    domain: Domain
    records: list[Record]
    known: bool | None
    short: bool


class GroupScorer:
    """See the module's docstring. Use it as a context manager, or call `close`.

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
        """Over a model that is open already; `open` is the usual way in.

        Args:
            model: None for modes that ask none.
            expected: rollouts in a full group; None: a group is never short unless it says itself how many it needs.
            shaping: how a probability becomes a reward; ground truth is never shaped.
            min_spread: a group whose probabilities lie closer together gets one reward, and the reason says so.
            verifiers: by domain; absent: maths and multiple choice. Whoever hands them over closes them.

        Raises:
            InputError: a mode or shaping that there is not, mode `memory` without a model, `expected` below 1, a
                spread outside 0..1.
        """
        self._model = model
        self._mode = self._checked_mode(mode)
        if shaping not in SHAPINGS:
            raise InputError(f"there is no shaping {shaping!r}; there are {', '.join(SHAPINGS)}")
        if expected is not None and expected < 1:
            raise InputError(f"a group of {expected} rollouts cannot be expected; pass 1 or more")
        if not 0.0 <= min_spread <= 1.0:
            raise InputError(f"a spread of probabilities lies between 0 and 1; this one is {min_spread:g}")
        self._expected = expected
        self._told: set[tuple[Domain | None, Domain]] = set()
        self._min_spread = min_spread
        self._shaping: Shaping = shaping
        self._held = ExitStack()
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
        """Open a memory and one of its reward models, the newest if none is named.

        Args:
            location: as `Memory.open` takes it; an open memory is used and left open. Not looked at in the modes
                `oracle` and `budget`, which ask no model.
            embed: makes vectors of texts instead of the memory's embedder and cache.

        Raises:
            LocationError, LockedError, SchemaError, StoreError, EmbedderError: the memory cannot be opened.
            ModelError: it has no such model, or the model does not fit it.
            InputError: as in the constructor.
        """
        if mode in ("oracle", "budget"):
            return cls(None, mode=mode, expected=expected, shaping=shaping, min_spread=min_spread, verifiers=verifiers)
        with ExitStack() as held:
            memory = location if isinstance(location, Memory) else held.enter_context(Memory.open(location))
            opened = MemoryModel.of_memory(memory, model=model, device=device, embed=embed)
            scorer = cls(
                opened, mode=mode, expected=expected, shaping=shaping, min_spread=min_spread, verifiers=verifiers
            )
            scorer._held.push(held.pop_all())
            return scorer

    @property
    def mode(self) -> Mode:
        """The mode of groups that do not say theirs."""
        return self._mode

    @property
    def model(self) -> MemoryModel | None:
        """The reward model over its memory; None where the mode asks none."""
        return self._model

    def score_group(
        self, query: RewardQuery, rollouts: Sequence[Rollout], *, expected: int | None = None
    ) -> list[Reward]:
        """The reward of each rollout, in their order; see the module."""
        return self.score_groups([Group(query, rollouts, expected)])[0]

    def score_groups(self, groups: Sequence[Group]) -> list[list[Reward]]:
        """The rewards of many groups in one batch, in their order; see the module."""
        started = time.perf_counter()
        tasks = [self._task(number, group) for number, group in enumerate(groups)]
        verdicts = self._verdicts(tasks)
        wanted = [number for number, task in enumerate(tasks) if self._asks_model(task, verdicts[number])]
        predicted: dict[int, Predicted] = {}
        if wanted and self._model is not None:
            made = self._model.predict([tasks[number].records for number in wanted])
            predicted = dict(zip(wanted, made, strict=True))
        latency = time.perf_counter() - started
        return [
            self._rewards(task, verdicts[number], predicted.get(number), latency) for number, task in enumerate(tasks)
        ]

    def refresh(self) -> None:
        """Read what the memory holds by now; calls that are under way are not disturbed."""
        if self._model is not None:
            self._model.refresh()

    def _task(self, number: int, group: Group) -> _Task:
        query, mode = group.query, self._checked_mode(group.mode or self._mode)
        if not group.rollouts:
            raise InputError(f"group {number} ({_named(query)}) has no rollouts; send at least one")
        known, stored = None, None
        if self._model is not None:
            identity = ids.query_id(_said(query.dataset) or "default", _said(query.key), readable(query.text))
            known, stored = self._model.contains(identity), self._model.domain_of(identity)
        if stored is not None and query.domain not in (None, stored):
            self._tell_of(query, stored)
        domain = stored or query.domain or infer_domain(query.text, query.gold if query.labelled else None)
        records = []
        for index, rollout in enumerate(group.rollouts):
            try:
                records.append(parse_record(record_values(query, rollout, index, domain), RecordDefaults()))
            except RecordError as error:
                raise InputError(f"group {number} ({_named(query)}), rollout {index}: {error}") from error
        expected = group.expected or self._expected or 0
        return _Task(group, mode, domain, records, known, len(records) < expected)

    def _tell_of(self, query: RewardQuery, stored: Domain) -> None:
        """A training that may be hours old does not end for this, and it is said, once for each pair of domains."""
        if (query.domain, stored) not in self._told:
            self._told.add((query.domain, stored))
            logger.warning(
                "%s is sent as %s, and the memory contains it as %s, which counts: for this query and others like it",
                _named(query),
                query.domain,
                stored,
            )

    def _verdicts(self, tasks: Sequence[_Task]) -> list[list[Verdict] | None]:
        """What the verifiers say of each group that is labelled, None for one that is not; a call for each domain."""
        labelled = [(task, record) for task in tasks if task.group.query.labelled for record in task.records]
        attempts = [Attempt(record.query, task.group.query.gold or "", record.answer) for task, record in labelled]
        said = iter(self._verifiers.check_all([task.domain for task, _ in labelled], attempts))
        return [[next(said) for _ in task.records] if task.group.query.labelled else None for task in tasks]

    def _asks_model(self, task: _Task, verdicts: list[Verdict] | None) -> bool:
        return task.mode == "memory" and (verdicts is None or any(verdict.reward is None for verdict in verdicts))

    def _rewards(
        self, task: _Task, verdicts: list[Verdict] | None, predicted: Predicted | None, latency: float
    ) -> list[Reward]:
        size = len(task.records)
        verdicts = verdicts or [Verdict(None, None if predicted is not None else _UNLABELLED[task.mode])] * size
        if predicted is not None:
            probability = np.round(predicted.probability, DECIMALS)
            values = shape(probability, predicted.answer, self._shaping, self._min_spread).tolist()
            chances, flat = probability.tolist(), _FLAT if is_flat(probability, self._min_spread) else None
        rewards = []
        for index, (value, reason) in enumerate(verdicts):
            source: Source = "ground_truth" if value is not None else "unscored"
            chance, model = None, None
            if value is None and predicted is not None:
                value, source, reason = values[index], "predicted", reason or flat
                chance, model = chances[index], self._model_id
            rewards.append(Reward(value, source, chance, size, task.short, model, task.known, latency, reason))
        return rewards

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
        self._held.callback(verifiers.close)
        return verifiers

    def close(self) -> None:
        """Release what this opened; calling it again does nothing."""
        self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _said(text: str | None) -> str | None:
    """A text, None where it is blank, as a record takes it."""
    return text if text and not text.isspace() else None


def _named(query: RewardQuery) -> str:
    """A query as an error names it."""
    text = query.key or query.text.strip()
    return repr(text if len(text) <= _QUOTED else text[:_QUOTED] + "…")
