"""The benchmarks and files of queries of a plan, and the sizes of their splits."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from memstore.errors import InputError
from memstore_rl.benchmarks.declaration import Declaration
from memstore_rl.benchmarks.query_files import questions_of_file
from memstore_rl.benchmarks.registry import benchmarks, declaration_of
from memstore_rl.benchmarks.splits import TEST, VALIDATION
from memstore_rl.reproduction.plan import PlanFile

ROWS = {"gpqa": 198, "humaneval_plus": 164, "mbpp_plus": 378}
"""Rows of the bundled benchmarks that have fewer than a sample draws."""
DIGEST_CHARS = 16


class SplitSizes(NamedTuple):
    """Number of queries by split; an estimate until the queries are written."""

    train: int
    test: int


@dataclass(frozen=True)
class Source:
    """A source of queries."""

    name: str
    """Name of its file of queries and, for a benchmark, of its dataset."""
    argument: str
    """Name of the benchmark, or absolute path of the declaration or the file of queries."""
    declaration: Declaration | None
    """None: a file of queries."""

    @property
    def file(self) -> str:
        """The file of queries, relative to the reproduction's folder."""
        return self.argument if self.declaration is None else f"queries/{self.name}.jsonl"

    def sizes(self, folder: Path, limit: int | None) -> SplitSizes:
        """The sizes of its splits: counted in the file of queries if it is there, else estimated."""
        path = folder / self.file
        if path.is_file():
            return _counted(path)
        assert self.declaration is not None
        drawn = min(ROWS.get(self.name, self.declaration.sample), self.declaration.sample)
        most = limit or drawn
        return SplitSizes(min(most, round(drawn * (1 - VALIDATION - TEST))), min(most, round(drawn * TEST)))


class Sources(NamedTuple):
    """The sources of a plan."""

    in_domain: list[Source]
    out_of_domain: list[Source]

    @property
    def all(self) -> list[Source]:
        """Both kinds."""
        return [*self.in_domain, *self.out_of_domain]


def sources_of(file: PlanFile) -> Sources:
    """Find the sources of a plan.

    Raises:
        InputError: one does not exist or cannot be used, or two have the same name.
    """
    queries = file.plan.queries
    found = Sources(
        [_source(text, file) for text in queries.in_domain], [_source(text, file) for text in queries.out_of_domain]
    )
    names = Counter(source.name for source in found.all)
    if twice := [name for name, count in names.items() if count > 1]:
        raise InputError(f"two sources of {file.path} have the name {twice[0]}; rename one of their files")
    return found


def file_digests(file: PlanFile, sources: Sequence[Source]) -> dict[Path, str]:
    """Digests of the files that the plan names, by absolute path. That of a declaration includes its local rows."""
    paths = {Path(source.argument): [Path(source.argument)] for source in sources if "/" in source.argument}
    for source in sources:
        if source.declaration is not None and source.declaration.local is not None:
            paths[Path(source.argument)].append(source.declaration.local)
    for policy in file.plan.policies:
        if policy.recipe is not None:
            recipe = (file.folder / policy.recipe.expanduser()).resolve()
            paths[recipe] = [recipe]
    return {path: "-".join(_digest(part) for part in parts if part.is_file()) for path, parts in paths.items()}


def _source(text: str, file: PlanFile) -> Source:
    if text in benchmarks():
        return Source(text, text, benchmarks()[text])
    path = file.folder / Path(text).expanduser()
    try:
        declaration = declaration_of(str(path) if path.exists() or "/" in text or "." in text else text)
    except InputError as error:
        raise InputError(f"{file.path}: {error}") from error
    if declaration is not None:
        return Source(declaration.name, str(path.resolve()), declaration)
    queries = file.plan.queries
    if queries.system is not None or queries.limit is not None:
        key = "system" if queries.system is not None else "limit"
        raise InputError(
            f"{file.path}: queries.{key} is for benchmarks and declarations, and {text} is a file of queries; remove "
            "the key and change the file itself"
        )
    unsplit = next((each for each in questions_of_file(path) if each.split is None), None)
    if unsplit is not None:
        raise InputError(
            f"{path} has the query {unsplit.text[:60]!r} without a split; write train, validation or test into each "
            "row, or declare the file as a benchmark, which draws splits"
        )
    return Source(path.name.split(".")[0], str(path.resolve()), None)


def _counted(path: Path) -> SplitSizes:
    splits = Counter(question.split for question in questions_of_file(path))
    return SplitSizes(splits["train"], splits["test"])


def _digest(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()[:DIGEST_CHARS]


def datasets_of(path: Path) -> list[str]:
    """Names of the datasets of a file of queries, in order."""
    return list(dict.fromkeys(question.dataset for question in questions_of_file(path)))
