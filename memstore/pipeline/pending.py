"""What a block of an ingest knows of the memory, and what it will write."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

from memstore.records.columns import IdentifiedRecord, KnownQuery
from memstore.records.record import Row
from memstore.types import QueryId


@dataclass
class Pending:
    """What a block knows of the memory, and what it will write."""

    known: dict[QueryId, KnownQuery]
    rewards: dict[str, float | None]
    """Rewards of the rollouts that are stored or will be."""
    aliases: set[tuple[str | None, ...]]
    """Names of the block's queries that are stored or will be."""
    persons: set[str]
    """Stored rollouts that a person has labelled."""
    confirmed: dict[str, float] = field(default_factory=dict)
    """Rewards of persons that rows bring as ground truth, too."""
    write: dict[str, IdentifiedRecord] = field(default_factory=dict)
    """New and changed rollouts by id."""
    names: list[tuple[str | None, ...]] = field(default_factory=list)
    """New names of queries, also from rows that bring nothing else."""
    features: dict[str, array[float]] = field(default_factory=dict)
    """Features of rollouts by id, also of stored ones."""


@dataclass(frozen=True, slots=True)
class ParsedRow:
    """A valid row of an input, with its ids."""

    record: IdentifiedRecord
    source: Row

    @property
    def id(self) -> str:
        """Id of the rollout."""
        return self.record.id
