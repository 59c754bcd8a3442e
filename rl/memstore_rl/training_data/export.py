"""Write the best rollouts of each query, or pairs of a better and a worse one, as training data.

A memory that has not changed gives the same bytes again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from memstore.errors import InputError
from memstore.progress import Progress, Silent
from memstore_rl.inspector.source import Source
from memstore_rl.training_data.candidates import Candidate, Candidates, Wanted, find_candidates
from memstore_rl.training_data.card import CardFacts, card_text
from memstore_rl.training_data.files import Format, Part, check_split_names, check_target, write_file, write_folder
from memstore_rl.training_data.rows import Row, RowMaker, best_schema, pair_schema
from memstore_rl.training_data.select import BestRule, Pair, PairRule, best_of_n, preference_pairs
from memstore_rl.training_data.template import Template


@dataclass(frozen=True)
class Exported:
    """Training data that were written."""

    output: str
    rows: int
    queries: int
    """Queries that have a row."""
    splits: dict[str, int]
    """Rows of each split."""
    sources: dict[str, int]
    """Rollouts by the source of their reward; a pair has two."""
    left_out: dict[str, int]
    """Rollouts that were not considered, by reason (`memstore_rl.training_data.candidates.REASONS`)."""
    model: str | None
    """Id of the reward model whose probabilities count; None if the memory has none."""
    bytes: int
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """What `memstore export best` and `memstore export pairs` print."""
        return {**asdict(self), "seconds": round(self.seconds, 3)}


@dataclass(frozen=True)
class Target:
    """Where and how training data are written."""

    path: Path
    """A .jsonl or .parquet file, or a new folder."""
    template: Template = field(default_factory=Template)
    force: bool = False
    """Overwrite a file."""


def export_best(
    source: Source, target: Target, rule: BestRule, wanted: Wanted, *, progress: Progress | None = None
) -> Exported:
    """Write the best rollouts of each query, as prompts and completions.

    Raises:
        InputError: a setting is invalid, the output cannot be written, the memory lacks what is wanted, or no rollout
            is good enough.
        ModelError: the memory has no such model.
    """
    rule.check()
    job = _Job.start(source, target, wanted, progress)
    rows = [Row(query, one) for query, group in job.found.groups.items() for one in best_of_n(group, rule)]
    if not rows:
        raise InputError(_nothing(source, job.found, f"a reward of at least {rule.min_reward:g}", "--min-reward"))
    about = _About(
        "Best rollouts of a memory",
        "A row is a query with one of its best rollouts, for supervised fine-tuning.",
        {"best of n": rule.n, "lowest reward": rule.min_reward, "distinct by": rule.distinct},
    )
    return job.write(rows, best_schema(target.template), about)


def export_pairs(
    source: Source, target: Target, rule: PairRule, wanted: Wanted, *, progress: Progress | None = None
) -> Exported:
    """Write pairs of rollouts with different answers, as prompts with a chosen and a rejected completion.

    Raises:
        InputError: as `export_best`.
        ModelError: the memory has no such model.
    """
    rule.check()
    job = _Job.start(source, target, wanted, progress)
    rows = [Row(query, pair) for query, group in job.found.groups.items() for pair in preference_pairs(group, rule)]
    if not rows:
        what = f"two answers whose rewards differ by {rule.min_gap:g} or more"
        raise InputError(_nothing(source, job.found, what, "--min-gap"))
    about = _About(
        "Preferences of a memory",
        "A row is a query with a chosen and a rejected rollout, which have different answers, for preference "
        "optimisation.",
        {
            "pairs per query": rule.per_query,
            "lowest gap": rule.min_gap,
            "lowest reward of the chosen": rule.min_reward,
            "distinct by": rule.distinct,
        },
    )
    return job.write(rows, pair_schema(target.template), about)


def _nothing(source: Source, found: Candidates, what: str, option: str) -> str:
    count = len(found.groups)
    return f"none of the {count:,} queries of {source.name} has {what}; lower {option}, or score more rollouts"


class _About(NamedTuple):
    """What the card says of the rows."""

    title: str
    summary: str
    rule: Mapping[str, object]


@dataclass(frozen=True)
class _Job:
    """An export: what was found, and where it goes."""

    source: Source
    target: Target
    wanted: Wanted
    found: Candidates
    progress: Progress
    kind: Format
    started: float

    @classmethod
    def start(cls, source: Source, target: Target, wanted: Wanted, progress: Progress | None) -> _Job:
        """Check what can be checked before anything is read, and find the rollouts with a reward."""
        started, progress = time.perf_counter(), progress or Silent()
        target.template.check()
        kind = check_target(target.path, target.force)
        progress.stage("read the memory")
        return cls(source, target, wanted, find_candidates(source, wanted), progress, kind, started)

    def write(self, rows: Sequence[Row], schema: pa.Schema, about: _About) -> Exported:
        """Write the rows, by split, and summarise them."""
        maker = RowMaker(self.source, self.found.model, self.target.template, schema)
        self.progress.stage("write rows", len(rows))
        splits = _parts(rows, maker, self.progress.advance)
        chosen = [one for row in rows for one in _candidates(row)]
        counts, sources = {name: part.rows for name, part in splits.items()}, _counts(one.source for one in chosen)
        if self.kind == "folder":
            check_split_names(splits)
            size = write_folder(self.target.path, schema, splits, self._card(rows, about, counts, sources))
        else:
            size = write_file(self.target.path, self.kind, schema, splits)
        return Exported(
            str(self.target.path),
            len(rows),
            len({row.query.id for row in rows}),
            counts,
            sources,
            dict(self.found.left_out.most_common()),
            self.found.model,
            size,
            time.perf_counter() - self.started,
        )

    def _card(self, rows: Sequence[Row], about: _About, splits: dict[str, int], sources: dict[str, int]) -> str:
        template = {"completion": f"`{self.target.template.completion!r}`"}
        return card_text(
            CardFacts(
                about.title,
                about.summary,
                {**about.rule, "datasets": self.wanted.datasets, **template},
                splits,
                _counts(row.query.dataset for row in rows),
                sources,
                sorted({one.policy for row in rows for one in _candidates(row) if one.policy}),
                self.found.model,
                version("memstore"),
                isinstance(rows[0].selected, Pair),
            )
        )


def _parts(rows: Sequence[Row], maker: RowMaker, advance: Callable[[int], None]) -> dict[str, Part]:
    """The rows of each split; `train` is the first."""
    by_split: dict[str, list[Row]] = {}
    for row in rows:
        by_split.setdefault(row.query.split, []).append(row)
    order = sorted(by_split, key=lambda name: (name != "train", name))
    return {name: Part(len(by_split[name]), partial(maker.tables, by_split[name], advance)) for name in order}


def _candidates(row: Row) -> tuple[Candidate, ...]:
    return tuple(row.selected) if isinstance(row.selected, Pair) else (row.selected,)


def _counts(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))
