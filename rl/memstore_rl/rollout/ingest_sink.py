"""From the file of rollouts into a memory while the file grows, in blocks, through memstore's own ingest.

The file is the journal. A run begins with what the file holds already, of which an ingest adds what the memory lacks;
so a kill between a line and its block costs nothing. A block is handed over under the file's own name, so that a later
`memstore ingest` of the file finds every rollout there and adds none. Links are made at the end.
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

_CHUNK = 1 << 20


@dataclass
class Fed:
    """What the memory took."""

    added: int = 0
    unchanged: int = 0
    rejected: int = 0
    """Rows that contradict the memory: another reward or gold for the same."""
    rejects: Path | None = None
    """The folder of the files that keep them."""

    def as_json(self) -> dict[str, Any]:
        """For the summary."""
        rejects = str(self.rejects) if self.rejects else None
        return {"added": self.added, "unchanged": self.unchanged, "rejected": self.rejected, "rejects": rejects}


class MemoryFeed:
    """Ingests what a growing file holds. Its methods are called one at a time, from any thread."""

    def __init__(self, memory: Memory, file: Path) -> None:
        """Nothing is read yet."""
        self._memory = memory
        self._file = file
        self._end = 0
        self._blocks = 0
        self.fed = Fed()

    def take(self, end: int) -> None:
        """Ingest what the file holds behind what was taken, up to this byte."""
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
        self.fed.added += summary.added
        self.fed.unchanged += summary.unchanged
        if summary.rejected:
            self.fed.rejected += summary.rejected
            self.fed.rejects = rejects.parent
            self._blocks += 1

    def link(self, progress: Progress) -> None:
        """Link what is new."""
        self._memory.link(progress=progress)


def _copy(source: BinaryIO, target: BinaryIO, size: int) -> None:
    """Copy so many bytes."""
    while size:
        chunk = source.read(min(size, _CHUNK))
        target.write(chunk)
        size -= len(chunk)
