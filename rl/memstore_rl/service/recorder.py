"""Writes scored rollouts from the journal to the memory, in a background thread.

A round takes the oldest entries, writes them to a file next to the journal, ingests that file, appends the scores, and
then deletes the entries from the journal. If the process is killed at any point, the next round repeats the work and
adds no duplicates. A round that fails (server down, disk full) is logged, counted and retried later; the journal keeps
its entries until then.

Similarity edges are added after a period without new rollouts, because linking competes with scoring for CPU time.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa

from memstore.errors import MemstoreError
from memstore.graph.protocol import ScoreBatch
from memstore.memory import Memory
from memstore.pipeline.ingest import IngestOptions
from memstore.records.columns import Occurrences, assign_ids
from memstore.records.record import RecordDefaults, parse_record
from memstore_rl.service.journal import Entry, Journal
from memstore_schema.columns import NodeLabel

logger = logging.getLogger(__name__)

STEM = "service"
ROUND_ENTRIES = 4096
"""Journal entries that are written to the memory at a time."""
_LONGEST_WAIT_S = 60.0


@dataclass(frozen=True)
class RecorderSchedule:
    """Timing of the recorder, in seconds."""

    interval_s: float = 15.0
    """Pause between two rounds. Each round has a fixed cost (a transaction, a flush) that scoring would pay; entries
    are safe in the journal meanwhile."""
    link_idle_s: float = 60.0
    """Link new rollouts after this long without any."""
    refresh_s: float | None = None
    """Interval at which the scorer re-reads the memory; None: it keeps the state from its start."""


class Recorder:
    """Background thread that writes the journal to the memory."""

    def __init__(
        self,
        memory: Memory,
        journal: Journal,
        *,
        flush: Callable[[], int],
        refresh: Callable[[], None] | None = None,
        schedule: RecorderSchedule | None = None,
        on_recorded: Callable[[int], None] | None = None,
        on_failure: Callable[[], None] | None = None,
    ) -> None:
        """Create a recorder; nothing runs before `start`.

        Args:
            flush: makes the vectors of scored texts durable, so that the ingest does not embed them again.
            refresh: makes the scorer re-read the memory.
            schedule: timing; None: the defaults.
            on_recorded: called with the number of rollouts written by each round.
            on_failure: called after each failed round.
        """
        self._memory = memory
        self._journal = journal
        self._flush = flush
        self._refresh = refresh
        self._schedule = schedule or RecorderSchedule()
        self._on_recorded = on_recorded
        self._on_failure = on_failure
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memstore-record", daemon=True)
        self._last_work = self._last_refresh = time.monotonic()
        self._unlinked = self._unread = False
        self._writing = threading.Lock()
        """Held while the memory is written to, and while it may not be."""

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout_s: float) -> int:
        """Write the remaining entries for at most `timeout_s` seconds; return how many stay in the journal."""
        self._stopping.set()
        self._thread.join(timeout_s)
        return len(self._journal)

    @contextmanager
    def caught_up(self) -> Iterator[None]:
        """Write the journal's entries up to its `hold`; the memory is not written to during the context.

        Raises:
            MemstoreError: the memory cannot be written; the entries stay in the journal.
        """
        with self._writing:
            while self._write_round():
                pass
            yield

    def round(self) -> int:
        """Write the oldest journal entries to the memory; return how many.

        Raises:
            MemstoreError: the memory cannot be written; the entries stay in the journal.
        """
        with self._writing:
            return self._write_round()

    def _write_round(self) -> int:
        entries = self._journal.oldest(ROUND_ENTRIES)
        if not entries:
            return 0
        self._flush()
        file = self._journal.path.with_name(f"{STEM}.jsonl")
        file.touch(mode=0o600)
        entries = [entry._replace(row=own_row(entry.row)) for entry in entries]
        file.write_text("".join(entry.row + "\n" for entry in entries), encoding="utf-8")
        # Named after the entries: a round that is repeated after a kill writes the same file.
        named = hashlib.blake2b("".join(entry.key for entry in entries).encode(), digest_size=8).hexdigest()
        rejects = self._memory.rejects_folder / f"{STEM}-{named}.rejects.jsonl"
        summary = self._memory.ingest([file], IngestOptions(link=False), rejects_file=rejects)
        if summary.rejected:
            logger.warning("%d rollouts contradict the memory and were written to %s", summary.rejected, rejects)
        self._score(entries)
        self._journal.remove(entries)
        file.unlink()
        if summary.added or summary.changed:
            self._unlinked = self._unread = True
        self._last_work = time.monotonic()
        if self._on_recorded is not None:
            self._on_recorded(len(entries))
        return len(entries)

    def _score(self, entries: Sequence[Entry]) -> None:
        """Append the scores of the entries that the memory accepted."""
        ids = [rollout_id(entry.row) for entry in entries]
        accepted = set(self._memory.graph.nodes(NodeLabel.THINKING, ["id"], ids=ids)["id"].to_pylist())
        by_model: defaultdict[tuple[str, str], dict[str, tuple[float, float | None]]] = defaultdict(dict)
        for rollout, entry in zip(ids, entries, strict=True):
            if entry.model is not None and entry.probability is not None and rollout in accepted:
                by_model[entry.model, entry.source or "predicted"][rollout] = (entry.probability, entry.reward)
        for (model, source), scores in by_model.items():
            table = pa.table(
                {
                    "id": pa.array(list(scores), pa.string()),
                    "probability": pa.array([probability for probability, _ in scores.values()], pa.float64()),
                    "reward": pa.array([reward for _, reward in scores.values()], pa.float64()),
                }
            )
            self._memory.record_scores(ScoreBatch({"id": model}, table, {"source": source}))

    def _run(self) -> None:
        failures = 0
        while True:
            stopping = self._stopping.is_set()
            try:
                written = self.round()
                if not stopping:
                    self._link_and_refresh()
            except Exception as error:
                # Also catches bugs: nothing else would report that the thread died, and the journal keeps all entries.
                failures += 1
                if self._on_failure is not None:
                    self._on_failure()
                logger.error(
                    "scored rollouts could not be written to the memory and will be retried: %s",
                    error,
                    exc_info=not isinstance(error, MemstoreError),
                )
                if stopping:
                    return
                self._stopping.wait(min(_LONGEST_WAIT_S, 2.0**failures))
                continue
            failures = 0
            if stopping and not written:
                return
            if written < ROUND_ENTRIES:
                self._stopping.wait(self._schedule.interval_s)

    def _link_and_refresh(self) -> None:
        """Link recorded rollouts and refresh the scorer when due."""
        now, schedule = time.monotonic(), self._schedule
        if self._unlinked and not len(self._journal) and now - self._last_work >= schedule.link_idle_s:
            with self._writing:
                self._memory.link()
            self._unlinked = False
        if (
            self._unread
            and self._refresh
            and schedule.refresh_s is not None
            and now - self._last_refresh >= schedule.refresh_s
        ):
            self._refresh()
            self._unread, self._last_refresh = False, time.monotonic()


def own_row(row: str) -> str:
    """Return a row of the journal in today's format.

    Journals of memstore 0.1.0 hold rows with `response` and `answer` but without `thinking`. An ingest takes the
    `answer` of such a row for the gold answer; in a journal it is the policy's own.
    """
    values = json.loads(row)
    if "response" in values and "answer" in values and "thinking" not in values:
        return json.dumps({**values, "thinking": ""}, ensure_ascii=False, sort_keys=True)
    return row


def rollout_id(row: str) -> str:
    """Return the id that an ingest assigns to a row that has a run and a sample index."""
    return assign_ids(parse_record(json.loads(row), RecordDefaults()), STEM, Occurrences()).id
