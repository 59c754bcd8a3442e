"""Write the graded samples as JSON lines, in the order of the input.

`query_id` is the source's key of the query, or its id in a memory if the source has none. A sample that was not judged
has reward null and a reason. The file appears under its name when it is complete.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from memstore.errors import InputError
from memstore_rl.grade.reader import RolloutSample
from memstore_rl.grade.verdicts import GradedReward

KEYS = (
    "dataset", "query_id", "policy", "run", "step", "sample_index", "answer", "gold", "reward", "source", "reason",
)  # fmt: skip


class SampleWriter:
    """Writes graded samples to a file; with path None it writes nothing."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file: IO[str] | None = None

    @property
    def _partial(self) -> Path:
        assert self._path is not None
        return self._path.with_name(f"{self._path.name}.{os.getpid()}.part")

    def __enter__(self) -> Self:
        if self._path is not None:
            try:
                self._file = self._partial.open("w", encoding="utf-8")
            except OSError as error:
                raise InputError(f"cannot write {self._path}: {error.strerror or error}") from error
        return self

    def add(self, samples: Iterable[tuple[RolloutSample, GradedReward]]) -> None:
        """Write a line for each sample."""
        if self._file is not None:
            self._file.writelines(json.dumps(line(*pair), ensure_ascii=False) + "\n" for pair in samples)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is None or self._path is None:
            return
        self._file.close()
        if kind is None:
            self._partial.replace(self._path)
        else:
            self._partial.unlink()


def line(sample: RolloutSample, graded: GradedReward) -> dict[str, object]:
    """One sample as a dictionary with the keys `KEYS`."""
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
