"""Read logs of Inspect in its `.eval` format: a zip archive with one JSON document a sample."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from memstore.errors import InputError
from memstore.records.readers.archives import Archive
from memstore.records.readers.json_values import MAX_VALUE, json_rows
from memstore.records.readers.natural_order import in_natural_order
from memstore.records.readers.source import name_of, stem_of
from memstore.records.record import Row

_SAMPLES = "samples/"
_HEADERS = ("header.json", "_journal/start.json")
"""Documents with the key `eval`: of a finished run, and of one that was interrupted."""


class EvalSource:
    """The samples of a log, each with the log's `eval`; see `memstore.records.readers.RowSource`."""

    def __init__(self, path: Path, *, size: int) -> None:
        self.name = name_of(path)
        self.stem = stem_of(path)
        self.size: int | None = size
        self._archive = Archive(path)
        self._samples = in_natural_order(name for name in self._archive.names if name.startswith(_SAMPLES))
        self._position = 0
        if not self._samples:
            raise InputError(f"{path} has no samples; run the evaluation with log_samples")

    def position(self) -> int:
        """Bytes consumed so far, estimated from the samples."""
        return self._position

    def __iter__(self) -> Iterator[Row]:
        """The samples, in the order of their names."""
        header = next((self._document(name) for name in _HEADERS if name in self._archive.names), {})
        for number, name in enumerate(self._samples, start=1):
            self._position = (self.size or 0) * number // len(self._samples)
            try:
                yield Row(number, {**self._document(name), "eval": header.get("eval")})
            except InputError as error:
                yield Row(number, None, str(error))

    def _document(self, name: str) -> dict[str, Any]:
        if self._archive.size(name) > MAX_VALUE:
            raise InputError(f"{name} is longer than {MAX_VALUE // 2**20} MB")
        row = next(json_rows(iter([self._archive.read(name)])), None)
        if row is None or row.values is None:
            raise InputError(f"{self._archive.path}/{name}: {row.reason if row else 'the document is empty'}")
        return dict(row.values)
