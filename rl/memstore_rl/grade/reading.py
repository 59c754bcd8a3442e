"""Files of rollouts as samples to be judged, a block at a time; each rollout once.

Files are read as an ingest reads them (`memstore.records.readers`, `memstore.records.record`), and a rollout has the
id that it would
have in a memory: what a memory would hold once is graded once, so a file that is named twice changes nothing. A row
that is no rollout is counted and left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from memstore.errors import RecordError
from memstore.progress import Progress
from memstore.records.columns import Occurrences, assign_ids
from memstore.records.readers import RowSource, open_source
from memstore.records.record import Record, RecordDefaults, Row, parse_record
from memstore.text import infer_domain
from memstore.types import Domain, QueryId

BLOCK_ROWS = 4_096
_EXAMPLES = 3


class Sample(NamedTuple):
    """One rollout."""

    record: Record
    query: QueryId
    domain: Domain


@dataclass
class Reading:
    """What was read so far."""

    rows: int = 0
    rejected: int = 0
    reject_examples: list[str] = field(default_factory=list)
    """The first few reasons, with file and line."""
    repeated: int = 0
    """Rows that say what an earlier one said already."""
    _seen: set[str] = field(default_factory=set, repr=False)

    def blocks(
        self,
        files: Sequence[str | Path],
        defaults: RecordDefaults,
        progress: Progress,
        wanted: Callable[[Record], bool],
    ) -> Iterator[list[Sample]]:
        """The rollouts of the files that are wanted.

        Raises:
            InputError: a file cannot be read, or holds no row.
        """
        for source in [open_source(file) for file in files]:
            seen, rows, position = Occurrences(), iter(source), 0
            while chunk := list(islice(rows, BLOCK_ROWS)):
                progress.stage(f"grade {source.name}", source.size)
                yield [sample for row in chunk for sample in self._sample(source, row, defaults, seen, wanted)]
                progress.stage(f"grade {source.name}", source.size)
                progress.advance(source.position() - position)
                position = source.position()

    def _sample(
        self,
        source: RowSource,
        row: Row,
        defaults: RecordDefaults,
        seen: Occurrences,
        wanted: Callable[[Record], bool],
    ) -> Iterator[Sample]:
        """The row's rollout, or none."""
        self.rows += 1
        try:
            if row.values is None:
                raise RecordError(row.reason or "it cannot be read")
            record = parse_record(row.values, defaults)
        except RecordError as error:
            self.rejected += 1
            if len(self.reject_examples) < _EXAMPLES:
                self.reject_examples.append(f"{source.name}:{row.number}: {error}")
            return
        placed = assign_ids(record, source.stem, seen)
        if placed.id in self._seen:
            self.repeated += 1
        elif wanted(record):
            self._seen.add(placed.id)
            yield Sample(record, placed.query_id, record.domain or infer_domain(record.query, record.gold))
