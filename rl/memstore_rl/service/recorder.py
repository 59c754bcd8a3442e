"""From the journal into the memory, in a thread of its own: what was scored becomes part of it, with its score.

A round takes the oldest entries, writes them to a file beside the journal, ingests that file, appends the scores, and
only then lets the journal forget them. Killed anywhere, the next round does the same again and adds nothing twice. A
round that fails (the server is away, the disk is full) is logged, counted and tried again later: the journal keeps
everything until then.

The similarity edges follow when nothing has come for a while: linking costs what scoring would rather have.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from memstore.errors import MemstoreError
from memstore.graph.protocol import ScoreBatch
from memstore.memory import Memory
from memstore.pipeline.ingest import IngestOptions
from memstore.records.columns import Occurrences, place
from memstore.records.record import RecordDefaults, parse_record
from memstore_rl.service.journal import Entry, Journal
from memstore_schema.columns import NodeLabel

logger = logging.getLogger(__name__)

STEM = "service"
ROUND_ENTRIES = 4096
_LONGEST_WAIT_S = 60.0


@dataclass(frozen=True)
class Pace:
    """When the recorder works, in seconds."""

    gather_s: float = 15.0
    """Wait so long between two rounds: a round has a price of its own (a transaction, a flush), which scoring would
    otherwise pay again and again, and what waits is safe in the journal."""
    link_idle_s: float = 60.0
    """Link what is new when nothing has come for so long."""
    refresh_s: float | None = None
    """Have the scorer read what was recorded when it read the memory so long ago; None: it keeps to its start."""


class Recorder:
    """The thread that writes a memory from its journal."""

    def __init__(
        self,
        memory: Memory,
        journal: Journal,
        *,
        settle: Callable[[], int],
        refresh: Callable[[], None] | None = None,
        pace: Pace | None = None,
        on_recorded: Callable[[int], None] | None = None,
        on_failure: Callable[[], None] | None = None,
    ) -> None:
        """Nothing runs before `start`.

        Args:
            settle: makes the vectors of what was scored durable, so that the ingest need not embed.
            refresh: has the scorer read the memory anew.
        """
        self._memory = memory
        self._journal = journal
        self._settle = settle
        self._refresh = refresh
        self._pace = pace or Pace()
        self._on_recorded = on_recorded
        self._on_failure = on_failure
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memstore-record", daemon=True)
        self._last_work = self._last_refresh = time.monotonic()
        self._unlinked = self._unread = False

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, patience_s: float) -> int:
        """Write what waits, for at most so long; return how many entries stay in the journal for the next start."""
        self._stopping.set()
        self._thread.join(patience_s)
        return len(self._journal)

    def round(self) -> int:
        """Write the oldest entries of the journal; return how many.

        Raises:
            MemstoreError: the memory cannot be written to; the entries stay.
        """
        entries = self._journal.oldest(ROUND_ENTRIES)
        if not entries:
            return 0
        self._settle()
        file = self._journal.path.with_name(f"{STEM}.jsonl")
        file.write_text("".join(entry.row + "\n" for entry in entries), encoding="utf-8")
        rejects = self._memory.rejects_folder / f"{STEM}-{time.time_ns()}.rejects.jsonl"
        summary = self._memory.ingest([file], IngestOptions(link=False), rejects_file=rejects)
        if summary.rejected:
            logger.warning("%d rollouts contradict the memory and are in %s", summary.rejected, rejects)
        self._score(entries)
        self._journal.remove(entries)
        file.unlink()
        if summary.added or summary.changed:
            self._unlinked = self._unread = True
        return len(entries)

    def _score(self, entries: Sequence[Entry]) -> None:
        """Append the scores of the entries that the memory took."""
        ids = [rollout_id(entry.row) for entry in entries]
        taken = set(self._memory.graph.nodes(NodeLabel.THINKING, ["id"], ids=ids)["id"].to_pylist())
        by_model: defaultdict[str, dict[str, tuple[float, float | None]]] = defaultdict(dict)
        for rollout, entry in zip(ids, entries, strict=True):
            if entry.model is not None and entry.probability is not None and rollout in taken:
                by_model[entry.model][rollout] = (entry.probability, entry.reward)
        for model, scores in by_model.items():
            table = pa.table(
                {
                    "id": pa.array(list(scores), pa.string()),
                    "probability": pa.array([probability for probability, _ in scores.values()], pa.float64()),
                    "reward": pa.array([reward for _, reward in scores.values()], pa.float64()),
                }
            )
            self._memory.record_scores(ScoreBatch(model={"id": model}, scores=table))

    def _run(self) -> None:
        failures = 0
        while True:
            stopping = self._stopping.is_set()
            try:
                written = self.round()
                if not stopping:
                    self._keep_up()
            except Exception as error:
                # A bug ends here too: the journal holds everything, and nobody would notice a recorder that died.
                failures += 1
                if self._on_failure is not None:
                    self._on_failure()
                logger.error(
                    "what was scored could not be written to the memory yet: %s",
                    error,
                    exc_info=not isinstance(error, MemstoreError),
                )
                if stopping:
                    return
                self._stopping.wait(min(_LONGEST_WAIT_S, 2.0**failures))
                continue
            failures = 0
            if written:
                self._last_work = time.monotonic()
                if self._on_recorded is not None:
                    self._on_recorded(written)
            elif stopping:
                return
            if written < ROUND_ENTRIES:
                self._stopping.wait(self._pace.gather_s)

    def _keep_up(self) -> None:
        """Link, and have the scorer read, what was recorded, when it is time to."""
        now, pace = time.monotonic(), self._pace
        if self._unlinked and not len(self._journal) and now - self._last_work >= pace.link_idle_s:
            self._memory.link()
            self._unlinked = False
        if self._unread and self._refresh and pace.refresh_s is not None and now - self._last_refresh >= pace.refresh_s:
            self._refresh()
            self._unread, self._last_refresh = False, time.monotonic()


def rollout_id(row: str) -> str:
    """The id that an ingest gives a row which names its run and sample."""
    return place(parse_record(json.loads(row), RecordDefaults()), STEM, Occurrences()).id
