"""Questions by a benchmark's name, from a file of queries, or by a user's own declaration."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import NamedTuple

from memstore.errors import InputError
from memstore.records import ids
from memstore_rl.benchmarks.budget import SPLITS
from memstore_rl.benchmarks.declaration import Declaration
from memstore_rl.benchmarks.fetch import Rows, fetch
from memstore_rl.benchmarks.files import questions_of_file
from memstore_rl.benchmarks.names import declaration_of
from memstore_rl.benchmarks.question import Question
from memstore_rl.benchmarks.rows import NoQuestion, RowReader
from memstore_rl.benchmarks.sample import seeded_order, with_splits


class Sample(NamedTuple):
    """The sample of a benchmark."""

    questions: list[Question]
    """In the order of the seed, each with its split."""
    rows: int
    """Of the source."""
    left_out: dict[str, int]
    """Rows that were looked at and are no question: reason -> how many."""


def questions(
    source: str, *, split: str | None = None, limit: int | None = None, seed: int = 0, folder: Path | None = None
) -> list[Question]:
    """The questions of a source.

    Args:
        source: a benchmark's name, the path of a file of queries, or the path of a declaration (.toml).
        split: train, validation or test alone; None: all of them.
        limit: at most as many, the first ones in the order of the seed; None: all of the sample, or of the file.
        seed: another seed draws another sample, and other splits of it.
        folder: where copies of benchmarks lie, each under its name; None: they are loaded from the hub.

    Raises:
        InputError: there is no such source, it cannot be had or read, or nothing of it is asked for.
    """
    if split is not None and split not in SPLITS:
        raise InputError(f"there is no split {split!r}; there are {', '.join(SPLITS)}")
    if limit is not None and limit < 1:
        raise InputError(f"a limit of {limit} asks for no question; leave it out for all of them")
    declared = declaration_of(source)
    found = questions_of_file(source) if declared is None else sample(declared, seed, folder).questions
    chosen = [question for question in found if split in (None, question.split)]
    if not chosen:
        told = "names no split of its rows" if all(question.split is None for question in found) else "has none"
        raise InputError(f"{source} gives no question for {split}: it {told}; ask without the split")
    if limit is None or limit >= len(chosen):
        return chosen
    order = seeded_order([question.id for question in chosen], seed)
    return [chosen[place] for place in sorted(order[:limit])]


def sample(declared: Declaration, seed: int = 0, folder: Path | None = None) -> Sample:
    """The sample of a benchmark: as many rows as it declares, drawn by the seed from all splits of the source.

    A row is held in memory only if it is drawn; a query that occurs twice is one question.

    Raises:
        InputError: the rows cannot be had, the declaration does not fit them, or none is a question.
    """
    parts, reader, left_out = fetch(declared, folder), RowReader(declared), Counter[str]()
    found: dict[str, Question] = {}
    for part, place in _drawn(parts, reader, declared.name, seed, left_out):
        try:
            question = reader.question(part[place])
        except NoQuestion as said:
            left_out[str(said)] += 1
            continue
        found[question.id] = question
        if len(found) == declared.sample:
            break
    if not found:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in left_out.most_common()) or "there is none"
        raise InputError(f"none of the rows of {declared.name} is a question: {reasons}")
    return Sample(with_splits(list(found.values()), seed), sum(map(len, parts)), dict(left_out))


def _drawn(
    parts: list[Rows], reader: RowReader, name: str, seed: int, left_out: Counter[str]
) -> list[tuple[Rows, int]]:
    """Where each query stands, in the order of the seed; every query once."""
    places: dict[str, tuple[Rows, int]] = {}
    for part in parts:
        for place, row in enumerate(part.select_columns(reader.columns_of_text(part.column_names))):
            try:
                places.setdefault(ids.query_id(name, reader.key(row), reader.text(row)), (part, place))
            except NoQuestion as said:
                left_out[str(said)] += 1
    known = list(places)
    return [places[known[place]] for place in seeded_order(known, seed)]
