"""Load questions from a bundled benchmark, a user's declaration, or a file of queries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from memstore.errors import InputError
from memstore.records import ids
from memstore_rl.benchmarks.budget import SPLITS
from memstore_rl.benchmarks.declaration import Declaration
from memstore_rl.benchmarks.fetch import Rows, fetch
from memstore_rl.benchmarks.query_files import questions_of_file
from memstore_rl.benchmarks.question import Question
from memstore_rl.benchmarks.registry import declaration_of
from memstore_rl.benchmarks.rows import RowReader, SkippedRow
from memstore_rl.benchmarks.splits import seeded_order, with_splits


class BenchmarkSample(NamedTuple):
    """The questions drawn from a benchmark."""

    questions: list[Question]
    """In the seeded order, each with its split."""
    rows: int
    """Number of rows of the source."""
    left_out: dict[str, int]
    """Number of skipped rows, of those read, by reason."""


def questions(
    source: str, *, split: str | None = None, limit: int | None = None, seed: int = 0, folder: Path | None = None
) -> list[Question]:
    """Load the questions of a source.

    Args:
        source: a benchmark's name, the path of a file of queries, or the path of a declaration (.toml).
        split: only train, validation or test; None: all.
        limit: maximum number, the first ones in the seeded order; None: the whole sample or file.
        seed: seed of the sample and its splits.
        folder: contains local copies of benchmarks, each under its name; None: load from the hub.

    Raises:
        InputError: the source does not exist or cannot be read, or no question is selected.
    """
    if split is not None and split not in SPLITS:
        raise InputError(f"unknown split {split!r}; use one of {', '.join(SPLITS)}")
    if limit is not None and limit < 1:
        raise InputError(f"the limit is {limit}; it must be 1 or more, or absent for all questions")
    declaration = declaration_of(source)
    found = questions_of_file(source) if declaration is None else sample(declaration, seed, folder).questions
    chosen = [question for question in found if split in (None, question.split)]
    if not chosen:
        unsplit = all(question.split is None for question in found)
        reason = "its rows name no splits" if unsplit else "the split is empty"
        raise InputError(f"{source} has no questions of split {split}: {reason}; leave out the split")
    if limit is None or limit >= len(chosen):
        return chosen
    order = seeded_order([question.id for question in chosen], seed)
    return [chosen[index] for index in sorted(order[:limit])]


def first_of_each_split(questions: Sequence[Question], limit: int) -> list[Question]:
    """The first questions of each split, at most `limit` of each, in the order in which they are given."""
    seen: Counter[str | None] = Counter()
    chosen = []
    for question in questions:
        seen[question.split] += 1
        if seen[question.split] <= limit:
            chosen.append(question)
    return chosen


def sample(declaration: Declaration, seed: int = 0, folder: Path | None = None) -> BenchmarkSample:
    """Draw the sample of a benchmark: the declared number of rows, in seeded order from all splits of the source.

    Only drawn rows are held in memory; repeated queries give one question.

    Raises:
        InputError: the rows cannot be loaded, the declaration does not fit them, or none gives a question.
    """
    parts, reader, left_out = fetch(declaration, folder), RowReader(declaration), Counter[str]()
    found: dict[str, Question] = {}
    for part, row in _seeded_rows(parts, reader, seed, left_out):
        try:
            question = reader.question(part[row])
        except SkippedRow as skipped:
            left_out[str(skipped)] += 1
            continue
        found[question.id] = question
        if len(found) == declaration.sample:
            break
    if not found:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in left_out.most_common()) or "it has no rows"
        raise InputError(f"no row of {declaration.name} gives a question: {reasons}")
    return BenchmarkSample(with_splits(list(found.values()), seed), sum(map(len, parts)), dict(left_out))


def _seeded_rows(parts: list[Rows], reader: RowReader, seed: int, left_out: Counter[str]) -> list[tuple[Rows, int]]:
    """Part and row number of each distinct query, in seeded order."""
    positions: dict[str, tuple[Rows, int]] = {}
    for part in parts:
        for number, row in enumerate(part.select_columns(reader.text_columns(part.column_names))):
            try:
                positions.setdefault(ids.query_id(reader.text(row)), (part, number))
            except SkippedRow as skipped:
                left_out[str(skipped)] += 1
    query_ids = list(positions)
    return [positions[query_ids[index]] for index in seeded_order(query_ids, seed)]
