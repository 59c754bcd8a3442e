"""The desk where several people label: gives each the next query, writes verdicts, undoes them, and says what changed.

A person is a session of the pages. Verdicts are written one at a time, each as a batch of the labels' journal. What is
kept here is only who works on what; a restart loses no label.
"""

from __future__ import annotations

import dataclasses
import shlex
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from memstore.errors import InputError, LabelConflict
from memstore.graph.verdicts import PERSON
from memstore.labels.agreement import Agreement, agreement
from memstore.labels.answer_index import AnswerIndex
from memstore.labels.answers import AnswerVerdict, LabelledAnswers, label_answers
from memstore.labels.batches import undo_labels
from memstore.labels.journal import Change, Journal
from memstore.labels.questions import (
    LabelledQuery,
    Shown,
    ShownAnswer,
    read_query,
    state_of_answers,
    verdict_in_words,
    verdicts_on_shown,
)
from memstore.locations.location import FolderLocation
from memstore_rl.inspector.label_effects import Calibration, Effect, calibration_of, effect_of
from memstore_rl.inspector.label_queue import LabelQueue, QueueEntry, QueueState
from memstore_rl.inspector.leases import Leases
from memstore_rl.inspector.recurring import Computed, Recurring
from memstore_rl.inspector.rescoring import Rescorer
from memstore_rl.inspector.source import MemorySource, Source
from memstore_schema.columns import EdgeType, NodeLabel

FORGET_S = 12 * 3600
"""Seconds without action after which a person's skipped queries and undoable verdicts are forgotten."""
NUMBERED = 50
"""Answers of a query that a page shows at once, with a number; the group sheet has all."""
Verdicts: TypeAlias = list[AnswerVerdict]
"""What a key says."""
CONTRADICTS = "this contradicts a label of the query, which stays as it is; overwrite it, or leave it as a disagreement"
BUSY = "another person is labelling this query now; wait for the verdict, or go on with the queue"


@dataclass(frozen=True)
class Turn:
    """A query that a person is to label."""

    query: LabelledQuery
    entry: QueueEntry | None
    """None for a query that is not of the queue."""
    position: int
    """In the queue, from 1."""

    @property
    def shown(self) -> Shown:
        """What each number of the page stands for."""
        return shown_of(self.query)


class Conflict(NamedTuple):
    """A verdict that contradicts a label, as it was pressed."""

    query: str
    key: str
    shown: Shown


@dataclass(frozen=True)
class Outcome:
    """What came of a key."""

    sentence: str
    failed: bool = False
    conflict: Conflict | None = None
    query: str = ""
    """The query of a key that has failed."""
    reason: str = ""
    """The reason that was typed for it, which the next page still has."""
    effect: Effect | None = None
    before: Calibration | None = None
    after: Calibration | None = None


class Remark(NamedTuple):
    """What the journal keeps of a verdict."""

    by: str
    reason: str | None = None
    seconds: float | None = None


@dataclass
class _Person:
    seen_at: float
    skipped: set[str] = field(default_factory=set)
    done: list[tuple[str, str, list[str]]] = field(default_factory=list)
    """Batch, query and labelled rollouts of the verdicts that can be undone."""
    outcome: Outcome | None = None
    latest: tuple[Verdicts, Outcome] | None = None
    """The verdict that was written last, and what came of it."""
    contradiction: tuple[Verdicts, str] | None = None
    """The latest verdict that contradicted a label, and its line in the journal."""


class Desk:
    """Labelling by several people at once. Thread-safe."""

    def __init__(
        self, source: MemorySource, entries: Iterable[QueueEntry] = (), rescorer: Rescorer | None = None
    ) -> None:
        self._rescorer = rescorer
        self._source, self._stores = source, source.memory.stores
        self.queue = LabelQueue(source.memory, entries)
        self.leases = Leases()
        self._agreement: Recurring[list[Agreement]] = Recurring(
            lambda: agreement(Journal(source.memory.folder).verdicts()), "agreement"
        )
        self._lock, self._writing = threading.Lock(), threading.Lock()
        self._people: dict[str, _Person] = {}
        self._closed: set[str] = set()
        self._pairs: dict[str, tuple[float, float]] = {}
        """Probability and label of the rollouts that were labelled here."""

    def close(self) -> None:
        """Wait for what is computed in the background."""
        self.queue.close()
        self._agreement.close()

    def agreement(self, wait_s: float) -> Computed[list[Agreement]]:
        """How often people agree, from the journal."""
        return self._agreement.get(wait_s)

    def rescoring(self) -> tuple[bool, str] | None:
        """Whether other rollouts are scored again now, and what came of it; None if they are not, see `Rescorer`."""
        return None if self._rescorer is None else self._rescorer.in_words()

    def take_outcome(self, person: str) -> Outcome | None:
        """What came of the last key of a person; it is told once."""
        with self._lock:
            found = self._person(person)
            outcome, found.outcome = found.outcome, None
            return outcome

    def next(self, person: str, state: QueueState) -> Turn | None:
        """The next query of a person, who holds it from now on; None if none is left."""
        with self._lock:
            skipped = set(self._person(person).skipped)
        held = self.leases.query_of(person)
        ordered = sorted(enumerate(state.entries, start=1), key=lambda one: one[1].query != held)
        for position, entry in ordered:
            if entry.query in self._closed or entry.query in skipped or not self.leases.take(person, entry.query):
                continue
            query = self._read(entry.query)
            if query is not None and query.is_open:
                return Turn(query, entry, position)
            self._closed.add(entry.query)
        self.leases.release(person)
        return None

    def one(self, person: str, query: str, state: QueueState) -> Turn | None:
        """A query of a person's choice, whether it is settled or not; None if it does not exist.

        Raises:
            InputError: another person holds it.
        """
        found = self._read(query)
        if found is None:
            return None
        if not self.leases.take(person, query):
            raise InputError(BUSY)
        entries = enumerate(state.entries, start=1)
        position, entry = next(((at, one) for at, one in entries if one.query == query), (0, None))
        return Turn(found, entry, position)

    def press(
        self,
        person: str,
        key: str,
        query: str,
        shown: Shown | None = None,
        *,
        by: str,
        reason: str | None = None,
        replace: bool = False,
    ) -> Outcome:
        """Do what a key says; the outcome is kept for the person's next page.

        Args:
            shown: the answers that the person saw, which a verdict needs.
            by: name of the person.
            replace: overwrite a label that differs.
        """
        key = key.strip().lower()
        try:
            with self._writing:
                outcome = self._do(person, key, query, shown or Shown((), ""), Remark(by, reason or None), replace)
        except InputError as error:
            outcome = Outcome(str(error), failed=True)
        if outcome.failed:
            outcome = dataclasses.replace(outcome, query=query, reason=reason or "")
        with self._lock:
            self._person(person).outcome = outcome
        return outcome

    def _do(self, person: str, key: str, query: str, shown: Shown, about: Remark, replace: bool) -> Outcome:
        if key == "u":
            return self._undo(person, about.by)
        if key in ("s", "again"):
            with self._lock:
                skipped = self._person(person).skipped
                skipped.add(query) if key == "s" else skipped.clear()
            self.leases.release(person)
            return Outcome("skipped" if key == "s" else "the skipped queries are shown again")
        return self._label(person, Conflict(query, key, shown), about, replace)

    def _label(self, person: str, pressed: Conflict, about: Remark, replace: bool) -> Outcome:
        query = pressed.query
        if not about.by:
            raise InputError("say who you are first; labels are kept with a name")
        index = AnswerIndex(self._stores.graph, [query])
        if not index.query_ids:
            raise InputError(f"there is no query {query}; go on with the queue")
        if not self.leases.take(person, query):
            raise InputError(BUSY)
        before = read_query(self._stores, index, 0)
        said, seconds = verdicts_on_shown(before, pressed.key, pressed.shown), self.leases.take_seconds(person, query)
        about = about._replace(seconds=None if seconds is None else round(seconds, 1))
        try:
            done = label_answers(self._stores, said, **about._asdict(), replace=replace, index=index)
        except LabelConflict:
            self._record_contradiction(person, said, before, about)
            return Outcome(CONTRADICTS, failed=True, conflict=pressed)
        self._withdraw_contradiction(person, query, about.by)
        after = read_query(self._stores, index, 0)
        with self._lock:
            (self._closed.discard if after.is_open else self._closed.add)(query)
        if not after.is_open:
            self.leases.release(person)
        latest = self._person_now(person).latest
        if done.batch is None and latest is not None and latest[0] == said:
            return latest[1]  # pressed twice
        return self._outcome(person, said, done, before, after)

    def _outcome(
        self, person: str, said: Verdicts, done: LabelledAnswers, before: LabelledQuery, after: LabelledQuery
    ) -> Outcome:
        """What came of a verdict; it can be undone from now on."""
        query = after.query_id
        changed = [rollout for rollout, label in after.labels.items() if label != before.labels[rollout]]
        found = self._person_now(person)
        if done.batch is not None:
            with self._lock:
                found.done.append((done.batch, query, changed))
        confirmed = "" if done.changed or done.batch is None else "; it confirms the label of another person"
        outcome = self._with_effect(verdict_in_words(before, said, done.changed) + confirmed, before, after)
        if done.batch is not None:
            found.latest = said, outcome
        if changed:
            self._rescore(query)
        return outcome

    def _record_contradiction(self, person: str, said: Verdicts, before: LabelledQuery, about: Remark) -> None:
        """Note in the journal what a person has said, once."""
        found = self._person_now(person)
        if found.contradiction is not None and found.contradiction[0] == said:
            return
        rewards = {verdict.answer: verdict.reward for verdict in said}
        changes = [
            Change(name, before.labels[name], None, rewards.get(answer.answer_id, rewards.get(None)))
            for answer in before.answers
            if {None, answer.answer_id} & rewards.keys()
            for name in answer.rollout_ids
        ]
        line = Journal(self._source.memory.folder).record(changes, PERSON, *about, written=False)
        found.contradiction = said, line.id

    def _withdraw_contradiction(self, person: str, query: str, by: str) -> None:
        """A verdict that is written takes the place of the contradiction that was noted before."""
        found = self._person_now(person)
        if found.contradiction is not None and found.contradiction[0][0].query == query:
            Journal(self._source.memory.folder).record_undo(found.contradiction[1], by)
            found.contradiction = None

    def _with_effect(self, sentence: str, before: LabelledQuery, after: LabelledQuery) -> Outcome:
        probability = self.probabilities(after.query_id)
        with self._lock:
            calibration = calibration_of(self._pairs)
            for rollout, label in after.labels.items():
                if label != before.labels[rollout]:
                    self._pairs.pop(rollout, None)
                    if label is not None and rollout in probability:
                        self._pairs[rollout] = (probability[rollout], label)
            effect = effect_of(probability, before.labels, after.labels)
            return Outcome(sentence, effect=effect, before=calibration, after=calibration_of(self._pairs))

    def _undo(self, person: str, by: str) -> Outcome:
        with self._lock:
            done = self._person(person).done
        if not done:
            location = self._source.memory.location
            stop = "stop these pages, then " if isinstance(location, FolderLocation) else ""
            raise InputError(
                f"there is no verdict of yours to undo here; to take back older ones, {stop}run: "
                f"memstore label --undo --memory {shlex.quote(str(location))}"
            )
        batch, query, rollouts = done[-1]
        try:
            undone = undo_labels(self._stores, batch, by=by or None)
        except InputError as error:
            with self._lock:
                done.pop()
            older = "your next undo takes back the verdict before it" if done else "you have no older verdict here"
            raise InputError(f"{error}; this verdict is left as it is, and {older}") from error
        with self._lock:
            done.pop()
            self._closed.discard(query)
            self._person(person).skipped.discard(query)
            self._person(person).latest = None
            for rollout in rollouts:
                self._pairs.pop(rollout, None)
            calibration = calibration_of(self._pairs)
        self.leases.take(person, query)
        self._rescore(query)
        rollouts_undone = f"{undone.changed:,} rollout{'' if undone.changed == 1 else 's'}"
        return Outcome(f"undone: {rollouts_undone}", after=calibration)

    def _rescore(self, query: str) -> None:
        """Score other rollouts again in the background."""
        if self._rescorer is not None:
            self._rescorer.note(query, self._labelled_here)

    def _labelled_here(self) -> dict[str, tuple[float, float]]:
        with self._lock:
            return dict(self._pairs)

    def probabilities(self, query: str) -> Mapping[str, float]:
        """The stored probability of each rollout of a query by the model in use."""
        model = self._source.model_in_use()
        ends = EdgeType.SCORED_BY, NodeLabel.THINKING, NodeLabel.REWARD_MODEL
        if model is None:
            return {}
        edges = self._source.edges_of(*ends, [query], by="query", columns=["probability"]).to_pylist()
        return {edge["source_id"]: edge["probability"] for edge in edges if edge["target_id"] == model}

    def _read(self, query: str) -> LabelledQuery | None:
        index = AnswerIndex(self._stores.graph, [query])
        return read_query(self._stores, index, 0) if index.query_ids else None

    def _person_now(self, name: str) -> _Person:
        with self._lock:
            return self._person(name)

    def _person(self, name: str) -> _Person:
        """The state of a person; hold the lock."""
        now = time.monotonic()
        if name not in self._people:
            self._people = {key: one for key, one in self._people.items() if now - one.seen_at < FORGET_S}
            self._people[name] = _Person(now)
        found = self._people[name]
        found.seen_at = now
        return found


def numbered(query: LabelledQuery) -> list[ShownAnswer]:
    """The answers that a page shows: the most frequent ones, of very many those without a label first."""
    answers = query.answers
    if query.is_open and len(answers) > NUMBERED:
        answers = sorted(answers, key=lambda one: one.label is not None)
    return answers[:NUMBERED]


def shown_of(query: LabelledQuery) -> Shown:
    """The answers of a query as a page shows them now."""
    return Shown(tuple(answer.answer_id for answer in numbered(query)), state_of_answers(query))


def desk_of(source: Source, entries: Iterable[QueueEntry] = (), rescorer: Rescorer | None = None) -> Desk | None:
    """The desk of a memory; None for a source that cannot be written to."""
    return Desk(source, entries, rescorer) if isinstance(source, MemorySource) and not source.read_only else None
