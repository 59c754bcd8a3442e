"""Ingest a growing file of rollouts into a memory, block by block.

The file is the journal. A run first ingests what the file already holds, and an ingest adds only what the memory lacks,
so a kill between writing a line and ingesting its block loses nothing. Each block is ingested under the file's own
name, so that a later `memstore ingest` of the file finds every rollout unchanged. Links are created at the end.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from memstore.memory import Memory
from memstore.pipeline.ingest import IngestOptions
from memstore.progress import Progress
from memstore.records.readers.source import stem_of

_CHUNK_BYTES = 1 << 20


@dataclass
class IngestCounts:
    """Rollouts by what the memory did with them."""

    added: int = 0
    unchanged: int = 0
    rejected: int = 0
    """Rows that contradict the memory: the same rollout with another reward or gold answer."""
    rejects: Path | None = None
    """Folder of the files with the rejected rows."""

    def as_json(self) -> dict[str, Any]:
        """The entry of the summary's JSON document."""
        rejects = str(self.rejects) if self.rejects else None
        return {"added": self.added, "unchanged": self.unchanged, "rejected": self.rejected, "rejects": rejects}


class IngestSink:
    """Ingests a growing file. Its methods may be called from any thread, one call at a time."""

    def __init__(self, memory: Memory, file: Path) -> None:
        self._memory = memory
        self._file = file
        self._end = 0
        self._blocks = 0
        self.counts = IngestCounts()

    def ingest_up_to(self, end: int) -> None:
        """Ingest the bytes of the file between the last call's `end` and this one."""
        if end == self._end:
            return
        with tempfile.TemporaryDirectory(prefix="memstore-rollout-") as folder:
            block = Path(folder) / self._file.name
            with self._file.open("rb") as source, block.open("wb") as target:
                source.seek(self._end)
                _copy(source, target, end - self._end)
            rejects = self._memory.rejects_folder / f"{stem_of(self._file)}-{self._blocks}.rejects.jsonl"
            summary = self._memory.ingest([block], IngestOptions(link=False), rejects_file=rejects)
        self._end = end
        self.counts.added += summary.added
        self.counts.unchanged += summary.unchanged
        if summary.rejected:
            self.counts.rejected += summary.rejected
            self.counts.rejects = rejects.parent
            self._blocks += 1

    def link(self, progress: Progress) -> None:
        """Link the new queries and thinkings."""
        self._memory.link(progress=progress)


def _copy(source: BinaryIO, target: BinaryIO, size: int) -> None:
    while size:
        chunk = source.read(min(size, _CHUNK_BYTES))
        target.write(chunk)
        size -= len(chunk)
