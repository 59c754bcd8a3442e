"""The evaluations that are kept beside a reward model: figures of predictors by label budget, curves, situations."""

from __future__ import annotations

import datetime as dt
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from memstore.errors import InputError
from memstore_gnn.evaluation.evaluate import EvaluationRow, SummaryRow, summary
from memstore_gnn.evaluation.kept import FILE, KeptComparison, KeptEvaluations, KeptSituations, read_kept
from memstore_gnn.models.checkpoint import refusal
from memstore_rl.inspector.source import MemorySource, Source
from memstore_rl.inspector.views.missing import NotThere
from memstore_rl.inspector.views.overview import figures_of
from memstore_schema.columns import NodeLabel


@dataclass(frozen=True)
class EvaluatedModel:
    """A reward model of the memory."""

    id: str
    version: int | None
    created_at: dt.datetime | None
    metrics: Mapping[str, float]
    """Figures on the queries that its training kept for the report."""
    in_use: bool


@dataclass(frozen=True)
class FigureLine:
    """Means over seeds of a predictor's metrics at a label budget, with standard errors."""

    predictor: str
    budget: float
    seeds: int
    figures: tuple[tuple[float | None, float | None], ...]
    """Mean and standard error of each metric; None where it is undefined."""


@dataclass(frozen=True)
class EvaluationPage:
    """What is known of a model."""

    models: tuple[EvaluatedModel, ...]
    """All models, newest first."""
    model: EvaluatedModel | None
    """The one shown; None if the memory has no model."""
    kept: KeptEvaluations
    number: int
    """Which of the comparisons is shown, from 0, the latest."""
    comparison: KeptComparison | None
    datasets: tuple[str, ...]
    """Of the comparison."""
    dataset: str | None
    """The one shown."""
    lines: tuple[FigureLine, ...]
    situations: KeptSituations | None
    """The latest."""
    problem: str | None
    """Why there is nothing to show, or why the model cannot be used; one sentence."""
    command: str
    """What evaluates the memory."""


def evaluation_page(
    source: Source, model: str | None = None, dataset: str | None = None, number: int = 0
) -> EvaluationPage:
    """The evaluations kept beside a model, by default the one in use.

    Args:
        dataset: show the comparison on this dataset; None: on the first.
        number: show this comparison; 0 is the latest.

    Raises:
        NotThere: there is no such model, dataset or comparison.
    """
    nodes = source.nodes(NodeLabel.REWARD_MODEL, ["id", "version", "created_at", "metrics", "path"]).to_pylist()
    used = source.model_in_use()
    models = {
        node["id"]: EvaluatedModel(
            node["id"], node["version"], node["created_at"], figures_of(node["metrics"]), node["id"] == used
        )
        for node in sorted(nodes, key=lambda node: (-(node["version"] or 0), node["id"]))
    }
    chosen = model or used
    if model and model not in models:
        raise NotThere(f"there is no reward model {model}; the page Evaluation lists all there are")
    path = next((node["path"] for node in nodes if node["id"] == chosen), None)
    kept, problem = _kept(source, path)
    comparison = _comparison(kept, number)
    datasets = tuple(dict.fromkeys(row.dataset for row in comparison.rows)) if comparison else ()
    if dataset is not None and dataset not in datasets:
        raise NotThere(f"this evaluation has no dataset {dataset}; choose one of the page's")
    shown = dataset or next(iter(datasets), None)
    memory = shlex.quote(source.name) if isinstance(source, MemorySource) else "MEMORY"
    return EvaluationPage(
        models=tuple(models.values()),
        model=models.get(chosen or ""),
        kept=kept,
        number=number,
        comparison=comparison,
        datasets=datasets,
        dataset=shown,
        lines=_lines([row for row in comparison.rows if row.dataset == shown]) if comparison else (),
        situations=next(iter(kept.situations), None),
        problem=problem,
        command=f"memstore evaluate --protocol --memory {memory}",
    )


def _kept(source: Source, path: str | None) -> tuple[KeptEvaluations, str | None]:
    """The evaluations beside the model whose node has this path, and what is wrong with the model or its file."""
    if path is None:
        return (
            KeptEvaluations(),
            "there is no reward model yet, and evaluations are kept beside one; run memstore train",
        )
    folder = source.model_folder(path)
    if folder is None:
        return KeptEvaluations(), "the files of this model, and what was evaluated with it, are not on this machine"
    try:
        return read_kept(folder / FILE), refusal(folder)
    except InputError as error:
        return KeptEvaluations(), str(error)


def _comparison(kept: KeptEvaluations, number: int) -> KeptComparison | None:
    if 0 <= number < len(kept.comparisons):
        return kept.comparisons[number]
    if number == 0:
        return None
    raise NotThere(f"there is no evaluation {number} of this model; its page lists those that are kept")


def _lines(rows: Sequence[EvaluationRow]) -> tuple[FigureLine, ...]:
    cells: dict[tuple[str, float], list[SummaryRow]] = {}
    for cell in summary(rows):
        cells.setdefault((cell.predictor, cell.budget), []).append(cell)
    return tuple(
        FigureLine(
            *key, max(cell.seeds for cell in own), tuple((_known(cell.mean), _known(cell.error)) for cell in own)
        )
        for key, own in sorted(cells.items())
    )


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
