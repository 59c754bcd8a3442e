"""Validates groups: a `Group` of a trainer becomes a `Task`, whose rollouts are identified records.

Invalid input raises InputError, which names the group. If the memory has another domain for a query than the trainer
sends, the memory's counts and a warning is logged once.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable
from dataclasses import dataclass, field

from memstore.errors import InputError, RecordError
from memstore.records import ids
from memstore.records.columns import IdentifiedRecord, Occurrences, assign_ids
from memstore.records.record import RecordDefaults, parse_record
from memstore.text import infer_domain
from memstore.types import Domain
from memstore_gnn.data.verdicts import Verdict as Remembered
from memstore_gnn.scoring.remembered import Given
from memstore_rl.rewards.known import Knowledge
from memstore_rl.rewards.memory_model import MemoryModel
from memstore_rl.rewards.reward import MODES, Group, Mode, RewardQuery, readable, record_values
from memstore_rl.rewards.verifier_budget import NEEDS_BUDGET
from memstore_rl.verifiers.protocol import Verdict

logger = logging.getLogger(__name__)

_NO_VERDICT = Verdict(None)
_QUOTED_CHARS = 60
"""Characters of a query that an error quotes."""


@dataclass(frozen=True)
class Task:
    """A group, validated."""

    group: Group
    mode: Mode
    domain: Domain
    records: list[IdentifiedRecord]
    known: bool | None
    """Whether the memory holds the query; None without a memory."""
    short: bool

    @property
    def is_verified(self) -> bool:
        """Whether its rollouts are compared with its gold answer, without a budget of calls."""
        return self.group.query.labelled and self.mode != "verdict"


@dataclass(frozen=True)
class VerifiedGroup:
    """A validated group with its verdicts; see `memstore_rl.rewards.group.GroupScorer.verify`."""

    task: Task
    verdicts: list[Verdict] | None
    """None if the group is not labelled."""
    seconds: float
    """Duration of the call of `verify`."""
    remembered: list[Remembered | None] = field(default_factory=list)
    """Verdicts of the memory, one a rollout."""
    given: list[Given] = field(default_factory=list)
    """Query and answer of each rollout, by their ids; only in mode `verdict`."""
    step: Hashable = None
    """Training step of the group, whose budget of verifier calls it shares."""

    @property
    def needs_model(self) -> bool:
        """Whether a rollout is to be predicted, if there is a reward model."""
        if self.task.mode not in ("memory", "verdict"):
            return False
        verdicts = self.verdicts or [_NO_VERDICT] * len(self.remembered)
        known = zip(verdicts, self.remembered, strict=True)
        return any(verdict.reward is None and remembered is None for verdict, remembered in known)


class TaskReader:
    """Validates groups for a scorer. Thread-safe."""

    def __init__(self, memory: Knowledge | None, mode: Mode, expected: int | None, *, has_budget: bool) -> None:
        """Create a reader.

        Args:
            memory: the memory or the reward model over it; None for modes that use none.
            mode: mode of groups without their own.
            expected: number of rollouts in a full group; None: a group is short only by its own `expected`.
            has_budget: whether there is a budget of verifier calls.

        Raises:
            InputError: unknown mode, mode `memory` without a model, mode `verdict` without a budget, or `expected`
                below 1.
        """
        self.memory = memory
        self._has_budget = has_budget
        self.mode = self._checked_mode(mode)
        if expected is not None and expected < 1:
            raise InputError(f"expected is {expected} rollouts per group; pass 1 or more")
        self._expected = expected
        self._warned: set[tuple[Domain | None, Domain]] = set()

    def read(self, number: int, group: Group) -> Task:
        """Validate a group.

        Args:
            number: position of the group in the call, for errors.

        Raises:
            InputError: it cannot be scored.
        """
        query = group.query
        mode = "oracle" if query.audit else self._checked_mode(group.mode or self.mode)
        if not group.rollouts:
            raise InputError(f"group {number} ({quoted_query(query)}) has no rollouts; send at least one")
        if query.audit and not query.labelled:
            raise InputError(
                f"group {number} ({quoted_query(query)}) is of an audit query without a gold answer, so it measures "
                "nothing; send the gold answer"
            )
        known, stored = None, None
        if self.memory is not None:
            stored = self.memory.known.domain_of(ids.query_id(readable(query.text)))
            known = stored is not None
        if stored is not None and query.domain not in (None, stored):
            self._warn_about_domain(query, stored)
        domain = stored or query.domain or infer_domain(query.text, query.gold if query.labelled else None)
        records, seen = [], Occurrences()
        for index, rollout in enumerate(group.rollouts):
            try:
                record = parse_record(record_values(query, rollout, index, domain), RecordDefaults())
                records.append(assign_ids(record, "", seen))
            except RecordError as error:
                raise InputError(f"group {number} ({quoted_query(query)}), rollout {index}: {error}") from error
        expected = group.expected or self._expected or 0
        return Task(group, mode, domain, records, known, len(records) < expected)

    def _warn_about_domain(self, query: RewardQuery, stored: Domain) -> None:
        """Log a warning once per pair of domains; a long training should not end because of this."""
        if (query.domain, stored) not in self._warned:
            self._warned.add((query.domain, stored))
            logger.warning(
                "%s was sent with domain %s, but the memory has it with domain %s, which is used here and for similar "
                "queries",
                quoted_query(query),
                query.domain,
                stored,
            )

    def _checked_mode(self, mode: Mode) -> Mode:
        check_mode(mode)
        if mode == "verdict" and not self._has_budget:
            raise InputError(NEEDS_BUDGET)
        if mode == "memory" and not isinstance(self.memory, MemoryModel):
            raise InputError("mode memory needs a reward model; open a memory that has one, or use oracle or budget")
        return mode


def check_mode(mode: str) -> None:
    """Check that there is such a mode.

    Raises:
        InputError: there is not.
    """
    if mode not in MODES:
        raise InputError(f"there is no mode {mode!r}; use one of {', '.join(MODES)}")


def quoted_query(query: RewardQuery) -> str:
    """Quote the key or text of a query for an error."""
    text = query.key or query.text.strip()
    return repr(text if len(text) <= _QUOTED_CHARS else text[:_QUOTED_CHARS] + "…")


def step_of(group: Group, call: object) -> Hashable:
    """The training step of a group: run and step of its first rollout, or else the call that it belongs to."""
    first = group.rollouts[0]
    return call if first.step is None else (first.run, first.step)


def complete(verdicts: list[Verdict] | None) -> bool:
    """Whether every rollout of a group has ground truth."""
    return verdicts is not None and all(verdict.reward is not None for verdict in verdicts)
