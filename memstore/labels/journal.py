"""The journal of labels: a file of JSON lines in the memory's folder, with what every batch of labels changed.

A line is written and synced before the labels are, so that a batch that reached the graph can be undone, whenever the
process dies. A line that a crash cut off belongs to a batch that changed nothing, and is not read. A verdict that
contradicts a label and is left so is a line as well, which changes nothing and is only counted. The journal of a memory
on servers is on the machine that labels. Snapshots do not contain it.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import secrets
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from memstore.errors import InputError

NAME = "labels.jsonl"
"""Name of the file."""


class Change(NamedTuple):
    """The change of a rollout's label."""

    rollout: str
    before: float | None
    before_source: str | None
    after: float | None
    """None: the label was removed."""


@dataclass(frozen=True)
class LabelBatch:
    """Labels that were set together, and are undone together."""

    id: str
    at: str
    """ISO 8601, UTC."""
    by: str | None
    """Who labelled; None if no name was given."""
    source: str
    """`reward_source` of the labels."""
    changes: tuple[Change, ...]
    reason: str | None = None
    seconds: float | None = None
    """How long a person took."""
    implied: frozenset[str] = frozenset()
    """Rollouts that are labelled because another answer is right."""
    written: bool = True
    """False for a verdict that contradicts the labels, which stay as they are."""

    @property
    def changed(self) -> int:
        """Rollouts whose label changed. A change to the same reward records a verdict on an implied label."""
        return sum(change.before != change.after for change in self.changes)


class Journal:
    """Reads and appends to the journal of the memory in `folder`.

    The file is read once, and again after this object has appended to it: use a new one for each call.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self._read: list[LabelBatch] | None = None

    def record(
        self,
        changes: Sequence[Change],
        source: str,
        by: str | None,
        reason: str | None = None,
        seconds: float | None = None,
        implied: Collection[str] = (),
        *,
        written: bool = True,
    ) -> LabelBatch:
        """Append a batch; it is on the disk when this returns.

        Args:
            written: False for a verdict that contradicts the labels, which stay as they are.
        """
        follow = frozenset(change.rollout for change in changes if change.rollout in implied)
        name, what = f"l-{secrets.token_hex(6)}", tuple(changes)
        batch = LabelBatch(name, _now(), by, source, what, reason, seconds, follow, written)
        values: dict[str, Any] = {"batch": batch.id, "at": batch.at, "by": by, "source": source}
        values |= {key: value for key, value in (("reason", reason), ("seconds", seconds)) if value is not None}
        values |= {"implied": sorted(follow)} if follow else {}
        values |= {} if written else {"written": False}
        self._append(values | {"rollouts": batch.changes})
        return batch

    def record_undo(self, batch: str, by: str | None) -> None:
        """Append that a batch was undone."""
        self._append({"undone": batch, "at": _now(), "by": by})

    def batches(self) -> list[LabelBatch]:
        """The batches that were not undone, oldest first.

        What an undone batch found is what the next batch of the same rollouts has found.
        """
        return [batch for batch in self.verdicts() if batch.written]

    def verdicts(self) -> list[LabelBatch]:
        """The batches and the contradictions that were left, oldest first."""
        if self._read is None:
            self._read = self._verdicts()
        return self._read

    def _verdicts(self) -> list[LabelBatch]:
        found: dict[str, LabelBatch] = {}
        for line in self._lines():
            if "undone" in line:
                _take_out(found, line["undone"])
            else:
                changes = tuple(Change(*change) for change in line["rollouts"])
                implied, written = frozenset(line.get("implied", ())), line.get("written", True)
                details = line.get("reason"), line.get("seconds"), implied, written
                batch = LabelBatch(line["batch"], line["at"], line["by"], line["source"], changes, *details)
                found[batch.id] = batch
        return list(found.values())

    def implied(self) -> set[str]:
        """Rollouts whose label only follows from a right answer: no later batch that was not undone labelled them."""
        found: set[str] = set()
        for batch in self.batches():
            found -= {change.rollout for change in batch.changes}
            found |= batch.implied
        return found

    def to_confirm(self, by: str | None) -> set[str]:
        """Rollouts whose label a verdict of this person would confirm: it was implied, or only others have given it."""
        implied: set[str] = set()
        given: dict[str, set[str]] = {}
        for batch in self.batches():
            for change in batch.changes:
                people = given.setdefault(change.rollout, set())
                if change.before != change.after:
                    people.clear()
                if batch.by is not None and change.after is not None and change.rollout not in batch.implied:
                    people.add(batch.by)
            implied -= {change.rollout for change in batch.changes}
            implied |= batch.implied
        return implied | {
            rollout for rollout, people in given.items() if by is not None and people and by not in people
        }

    def later(self, batch: LabelBatch) -> list[LabelBatch]:
        """The batches after this one that were not undone, oldest first."""
        batches = self.batches()
        return batches[[other.id for other in batches].index(batch.id) + 1 :]

    def batch(self, name: str | None = None) -> LabelBatch:
        """The batch whose id begins with `name`, by default the last one.

        Raises:
            InputError: there is no such batch, it was undone, or several ids begin so.
        """
        batches = self.batches()
        if not batches:
            why = "all are undone already" if any(self._lines()) else "this memory's journal has none"
            raise InputError(f"no batch of labels can be undone: {why}; label answers with `memstore label` first")
        if name is None:
            return batches[-1]
        matching = [batch for batch in batches if name and batch.id.startswith(name)]
        if len(matching) != 1:
            problem = f"{len(matching)} batches have an id that begins with" if matching else "there is no batch"
            raise InputError(f"{problem} {name!r} that can be undone; the last one is {batches[-1].id}")
        return matching[0]

    def _append(self, values: dict[str, Any]) -> None:
        self._read = None
        data = json.dumps(values, ensure_ascii=False) + "\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)  # a memory on servers may have no local folder yet
        with self.path.open("a+b") as file:
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                data = data if file.read(1) == b"\n" else "\n" + data
            file.write(data.encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())

    def _lines(self) -> Iterator[dict[str, Any]]:
        if not self.path.exists():
            return
        with self.path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                try:
                    values = json.loads(line)
                except ValueError:
                    continue  # cut off by a crash, before its labels were written
                if isinstance(values, dict):
                    yield values


def _take_out(batches: dict[str, LabelBatch], undone: str) -> None:
    """Remove a batch; the later batches that labelled its rollouts were then made on the labels before it."""
    if undone not in batches:
        return
    names = list(batches)
    later = names[names.index(undone) + 1 :]
    taken = batches.pop(undone)
    if not taken.written:
        return
    before = {change.rollout: change[1:3] for change in taken.changes}
    for name in (name for name in later if batches[name].written):
        changes = [
            Change(change.rollout, *before.pop(change.rollout, change[1:3]), change.after)
            for change in batches[name].changes
        ]
        batches[name] = replace(batches[name], changes=tuple(changes))


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
