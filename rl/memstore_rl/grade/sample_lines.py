"""The graded samples as JSON lines, in the order in which they were read.

`query_id` is the source's own key of the query, its id in a memory where the source gave none. A sample that was not
judged has the reward null and the reason why. The file appears when all of it is written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from memstore.errors import InputError
from memstore_rl.grade.reading import Sample
from memstore_rl.grade.verdicts import Graded

KEYS = (
    "dataset", "query_id", "policy", "run", "step", "sample_index", "answer", "gold", "reward", "source", "reason",
)  # fmt: skip


class SampleLines:
    """A file of graded samples; nothing is written where no file is wanted."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file: IO[str] | None = None

    @property
    def _unfinished(self) -> Path:
        assert self._path is not None
        return self._path.with_name(f"{self._path.name}.{os.getpid()}.part")

    def __enter__(self) -> Self:
        if self._path is not None:
            try:
                self._file = self._unfinished.open("w", encoding="utf-8")
            except OSError as error:
                raise InputError(f"{self._path} cannot be written: {error.strerror or error}") from error
        return self

    def add(self, samples: Iterable[tuple[Sample, Graded]]) -> None:
        """Write a line for each."""
        if self._file is not None:
            self._file.writelines(json.dumps(line(*pair), ensure_ascii=False) + "\n" for pair in samples)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is None or self._path is None:
            return
        self._file.close()
        if kind is None:
            self._unfinished.replace(self._path)
        else:
            self._unfinished.unlink()


def line(sample: Sample, graded: Graded) -> dict[str, object]:
    """One sample under `KEYS`."""
    record = sample.record
    values = (
        record.dataset,
        record.key or sample.query,
        record.policy,
        record.run,
        record.step,
        record.sample_index,
        record.answer,
        record.gold,
        *graded,
    )
    return dict(zip(KEYS, values, strict=True))
