"""Results of evaluations beside a reward model: one JSON file in the folder of the memory's model in use.

    {"format": "memstore-evaluation", "version": 1, "comparisons": [...], "situations": [...]}

Both lists are newest first and have `RUNS` evaluations at most. An evaluation has `at` (UTC), `memstore` (the version
that made it) and `rows`; a comparison of predictors has `curves` as well. An undefined figure is null. A snapshot takes
the file along.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

from pydantic import TypeAdapter

from memstore.errors import InputError, ModelError
from memstore.memory import Memory
from memstore.runtime.disk_space import space_errors
from memstore_gnn.evaluation.curves import Curves
from memstore_gnn.evaluation.evaluate import EvaluationRow
from memstore_gnn.evaluation.situations import SituationRow, means
from memstore_gnn.models.registry import model_folder

FILE = "evaluation.json"
FORMAT = "memstore-evaluation"
VERSION = 1
RUNS = 5
"""Evaluations of a kind that are kept."""


@dataclass(frozen=True)
class KeptComparison:
    """A comparison of predictors."""

    at: str
    """When it ended, ISO 8601 in UTC."""
    memstore: str
    """The version of memstore that made it."""
    rows: list[EvaluationRow]
    curves: Curves


@dataclass(frozen=True)
class KeptSituations:
    """An evaluation of situations: means over the seeds."""

    at: str
    memstore: str
    rows: list[SituationRow]


@dataclass(frozen=True)
class KeptEvaluations:
    """The evaluations beside a model, newest first."""

    comparisons: list[KeptComparison] = field(default_factory=list)
    situations: list[KeptSituations] = field(default_factory=list)


_CONTENT = TypeAdapter(KeptEvaluations)


def place_of(memory: Memory) -> Path | str:
    """The file in which an evaluation of a memory is kept, or why it is not kept, in one sentence.

    Raises:
        InputError: there is a file that cannot be read; call this before the work.
    """
    if memory.graph.read_only:
        return "the figures are not kept, because the memory is open read-only"
    try:
        path = model_folder(memory) / FILE
    except ModelError as error:
        return f"the figures are not kept beside a model: {error}"
    read_kept(path)
    return path


def read_kept(path: Path) -> KeptEvaluations:
    """Read the evaluations of a file; a file that does not exist has none.

    Raises:
        InputError: it is damaged, or of a newer version.
    """
    try:
        document = json.loads(path.read_bytes())
        known = document["format"] == FORMAT and document["version"] <= VERSION
        if known:
            for run in (*document["comparisons"], *document["situations"]):
                run["rows"] = [{name: math.nan if v is None else v for name, v in row.items()} for row in run["rows"]]
            return _CONTENT.validate_python({name: document[name] for name in ("comparisons", "situations")})
    except FileNotFoundError:
        return KeptEvaluations()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is damaged; delete it, and run memstore evaluate again") from error
    raise InputError(f"{path} was written by a newer version of memstore; upgrade memstore, or move the file away")


def keep_comparison(path: Path, rows: Sequence[EvaluationRow], curves: Curves) -> None:
    """Add a comparison of predictors to a file, atomically.

    Args:
        path: from `place_of`.

    Raises:
        InputError: the file was damaged meanwhile.
        StoreFullError: the disk is full; the file is as it was.
    """
    kept = read_kept(path)
    _write(path, replace(kept, comparisons=[KeptComparison(*_now(), list(rows), curves), *kept.comparisons][:RUNS]))


def keep_situations(path: Path, rows: Sequence[SituationRow]) -> None:
    """Add an evaluation of situations to a file; see `keep_comparison`."""
    kept = read_kept(path)
    _write(path, replace(kept, situations=[KeptSituations(*_now(), means(rows)), *kept.situations][:RUNS]))


def _now() -> tuple[str, str]:
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds"), version("memstore")


def _write(path: Path, kept: KeptEvaluations) -> None:
    comparisons = [
        {"at": run.at, "memstore": run.memstore, "rows": [row.to_json() for row in run.rows]}
        | {"curves": run.curves._asdict()}
        for run in kept.comparisons
    ]
    situations = [
        {"at": run.at, "memstore": run.memstore, "rows": [row.to_json() for row in run.rows]} for run in kept.situations
    ]
    document = {"format": FORMAT, "version": VERSION, "comparisons": comparisons, "situations": situations}
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with space_errors(f"there is no space to keep the evaluation in {path}; free some, and evaluate again"):
        try:
            partial.write_text(json.dumps(document, allow_nan=False), encoding="utf-8")
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
