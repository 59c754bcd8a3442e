"""Read files of rollouts in blocks, each rollout once.

Files are read as by an ingest (`memstore.records`), and each rollout gets the id that it would have in a memory.
Rollouts that a memory would merge are graded once, so passing a file twice changes nothing. Rows that are not rollouts
are counted and skipped.
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
from memstore.records.readers import RowSource, expand_paths
from memstore.records.record import Record, RecordDefaults, Row, parse_record
from memstore.records.rollouts import open_rollouts
from memstore.text import infer_domain
from memstore.types import Domain, QueryId

BLOCK_ROWS = 4_096
"""Rows of a block."""
_MAX_EXAMPLES = 3


class RolloutSample(NamedTuple):
    """One rollout of a file."""

    record: Record
    query: QueryId
    domain: Domain


@dataclass
class RolloutReader:
    """Reads rollouts and counts the rows."""

    rows: int = 0
    rejected: int = 0
    reject_examples: list[str] = field(default_factory=list)
    """The first few reasons, with file and line."""
    repeated: int = 0
    """Rows that repeat an earlier rollout."""
    _seen: set[tuple[str | None, ...]] = field(default_factory=set, repr=False)

    def blocks(
        self,
        files: Sequence[str | Path],
        defaults: RecordDefaults,
        progress: Progress,
        is_wanted: Callable[[Record], bool],
    ) -> Iterator[list[RolloutSample]]:
        """Yield the wanted rollouts of the files, block by block.

        Raises:
            InputError: a file cannot be read, or has no rows.
        """
        sources = [open_rollouts(file, defaults) for file in expand_paths(files)]
        for number, source in enumerate(sources, start=1):
            shown = f"grade {source.name}" + (f" ({number} of {len(sources)})" if len(sources) > 1 else "")
            seen, rows, position = Occurrences(), iter(source), 0
            while chunk := list(islice(rows, BLOCK_ROWS)):
                progress.stage(shown, source.size)
                yield [sample for row in chunk for sample in self._sample(source, row, defaults, seen, is_wanted)]
                progress.stage(shown, source.size)
                progress.advance(source.position() - position)
                position = source.position()

    def _sample(
        self,
        source: RowSource,
        row: Row,
        defaults: RecordDefaults,
        seen: Occurrences,
        is_wanted: Callable[[Record], bool],
    ) -> Iterator[RolloutSample]:
        """Yield the row's rollout, if it is a new and wanted one."""
        self.rows += 1
        try:
            if row.values is None:
                raise RecordError(row.reason or "the row cannot be read")
            record = parse_record(row.values, defaults)
        except RecordError as error:
            self.rejected += 1
            if len(self.reject_examples) < _MAX_EXAMPLES:
                self.reject_examples.append(f"{source.name}:{row.number}: {error}")
            return
        placed = assign_ids(record, source.stem, seen)
        # A question that a benchmark lists under two keys counts under each of them.
        name = (placed.id, *placed.alias)
        if name in self._seen:
            self.repeated += 1
        elif is_wanted(record):
            self._seen.add(name)
            yield RolloutSample(record, placed.query_id, record.domain or infer_domain(record.query, record.gold))
