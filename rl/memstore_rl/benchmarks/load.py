"""Questions by a benchmark's name, from a file of queries, or by a user's own declaration."""

from __future__ import annotations

from pathlib import Path

from memstore_rl.benchmarks.files import questions_of_file
from memstore_rl.question import Question


def questions(
    source: str, *, split: str | None = None, limit: int | None = None, seed: int = 0, folder: Path | None = None
) -> list[Question]:
    """The questions of a source.

    Args:
        source: a benchmark's name, the path of a file of queries, or the path of a declaration (.toml).
        split: train, validation or test alone; None: all of them.
        limit: at most as many.
        seed: another seed draws another sample, and other splits of it.
        folder: where local copies of benchmarks lie; None: they are loaded from the hub.

    Raises:
        InputError: there is no such source, it cannot be had or read, or nothing of it is asked for.
    """
    found = [question for question in questions_of_file(source) if split in (None, question.split)]
    return found if limit is None else found[:limit]
