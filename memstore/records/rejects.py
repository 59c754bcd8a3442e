"""Rejects: the file of rows that could not be ingested, with line number and reason.

The file has JSON lines `{source, line, reason, row}`. It is created with the first rejected row.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

EXAMPLES = 3
"""Number of reasons that are kept for the summary."""


class Rejects:
    """Writes and counts the rejected rows of one ingest."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self.examples: list[str] = []
        """The first few reasons, with source and line."""
        self._file: IO[str] | None = None

    def add(self, source: str, line: int, reason: str, row: Any) -> None:
        """Write one row; `row` is the parsed object or the original line."""
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("w", encoding="utf-8")
        # ASCII, because a row may be rejected for a lone surrogate, which UTF-8 cannot encode.
        entry = {"source": source, "line": line, "reason": reason, "row": row}
        self._file.write(json.dumps(entry, ensure_ascii=True, default=str) + "\n")
        self.count += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(f"{source}:{line}: {reason}")

    def flush(self) -> None:
        """Make the written rows visible to other readers."""
        if self._file is not None:
            self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
