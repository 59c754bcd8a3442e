"""The rejects file: every row that was not ingested, with its line and the reason, so that nothing is lost.

JSON lines `{source, line, reason, row}`; made when the first row is rejected, so a clean ingest leaves none.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

EXAMPLES = 3


class Rejects:
    """Counts and keeps the rows of one ingest that could not go in."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self.examples: list[str] = []
        """The first few reasons, with source and line."""
        self._file: IO[str] | None = None

    def add(self, source: str, line: int, reason: str, row: Any) -> None:
        """Keep one row: `row` is the parsed object, or the line as it stood."""
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("w", encoding="utf-8")
        # ASCII: a row may be rejected for a lone surrogate, which UTF-8 cannot hold.
        entry = {"source": source, "line": line, "reason": reason, "row": row}
        self._file.write(json.dumps(entry, ensure_ascii=True, default=str) + "\n")
        self.count += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(f"{source}:{line}: {reason}")

    def flush(self) -> None:
        """Make what was added visible to other readers."""
        if self._file is not None:
            self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
