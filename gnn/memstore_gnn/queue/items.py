"""The rows of a queue: a query, why it is worth labelling, and its answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

from memstore.snapshots.aliases import first_datasets, first_keys
from memstore.snapshots.snapshot import Snapshot
from memstore.types import AUDIT_SPLIT
from memstore_gnn.queue.candidates import Candidates

Purpose: TypeAlias = Literal["label", "audit"]
"""What the labels of a query are for: training and remembering, or measuring alone."""


class QueuedAnswer(NamedTuple):
    """An answer of a query."""

    answer_id: str
    answer: str
    rollouts: int
    share: float
    """Share of the query's rollouts, 0..1."""
    p: float
    """Probability that it is right, 0..1."""
    judged: bool
    """It has a label."""


@dataclass(frozen=True)
class QueueItem:
    """A query to label."""

    query_id: str
    query: str
    """Its text."""
    dataset: str
    key: str | None
    domain: str
    purpose: Purpose
    rollouts: int
    answers: list[QueuedAnswer]
    """The most frequent first."""
    why: Mapping[str, float]
    """The numbers that it was chosen by."""
    reason: str
    """The same as a sentence."""

    def as_json(self) -> dict[str, Any]:
        """The item as a row of a file; `split` is `audit` for an audit query, which every reader of queries knows."""
        values = asdict(self) | {"answers": [answer._asdict() for answer in self.answers]}
        return values | {"split": AUDIT_SPLIT if self.purpose == "audit" else None}


class ItemMaker:
    """Makes items from positions of queries."""

    def __init__(self, snapshot: Snapshot, found: Candidates) -> None:
        self._found = found
        self._queries, self._answers = snapshot.queries, snapshot.answers
        self._datasets, self._keys = first_datasets(snapshot), first_keys(snapshot)

    def item(self, query: int, purpose: Purpose, why: Mapping[str, float], reason: str) -> QueueItem:
        """The item of a query."""
        found, cells = self._found, self._found.cells_of(query)
        share = found.share[cells]
        columns = found.answer[cells].tolist(), found.rollouts[cells].tolist(), share.tolist()
        rows = zip(*columns, found.p[cells].tolist(), found.judged[cells].tolist(), strict=True)
        return QueueItem(
            query_id=self._queries["id"][query].as_py(),
            query=self._queries["text"][query].as_py() or "",
            dataset=self._datasets[query],
            key=self._keys[query],
            domain=self._queries["domain"][query].as_py(),
            purpose=purpose,
            rollouts=int(found.size[query]),
            answers=[
                QueuedAnswer(self._answers["id"][row].as_py(), self._answers["text"][row].as_py() or "", *rest)
                for row, *rest in rows
            ],
            why=why,
            reason=reason,
        )

    def votes(self, query: int) -> str:
        """The votes of a query in words: `votes 4:3:1`."""
        counts = self._found.rollouts[self._found.cells_of(query)].tolist()
        return f"votes {':'.join(map(str, counts[:5]))}{':...' if len(counts) > 5 else ''}"
