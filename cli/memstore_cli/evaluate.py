"""`memstore evaluate`: predictors compared on labels that were hidden from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memstore_cli.opening import opened
from memstore_cli.options import DeviceOption, JsonOption, MemoryOption
from memstore_cli.output import METRIC_NAMES, print_json, print_table
from memstore_cli.progress import watched

if TYPE_CHECKING:
    from memstore_gnn.evaluation.evaluate import EvaluationRow, Prediction


def evaluate(
    memory: MemoryOption = "",
    budget: Annotated[
        list[float] | None,
        typer.Option("--budget", min=0.0, max=1.0, show_default="0.2", help="Share of the labelled queries to see."),
    ] = None,
    seed: Annotated[
        list[int] | None, typer.Option("--seed", show_default="0", help="Of the split and of the training.")
    ] = None,
    protocol: Annotated[
        bool, typer.Option("--protocol", help="All budgets (0 to 70 %) and three seeds, where none is named.")
    ] = False,
    predictor: Annotated[
        list[str] | None,
        typer.Option("--predictor", metavar="NAME", show_default="all quick ones", help="A predictor to compare."),
    ] = None,
    dataset: Annotated[
        list[str] | None,
        typer.Option("--dataset", metavar="NAME", show_default="all", help="Report this dataset; all are learnt from."),
    ] = None,
    plots: Annotated[
        Path | None, typer.Option("--plots", metavar="FOLDER", help="Draw budgets, calibration and risk into FOLDER.")
    ] = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Hide labels, let predictors guess them, and measure; --budget, --seed, --predictor and --dataset may repeat.

    Nothing is written to the memory: it keeps its labels and gets no model.
    """
    with opened(memory, device=device) as store:
        from memstore_gnn.evaluation.compare import evaluate_memory
        from memstore_gnn.evaluation.evaluate import BUDGETS, SEEDS
        from memstore_gnn.evaluation.plots import check_plots, draw_plots

        kept: list[Prediction] = []
        if plots is not None:
            check_plots(plots)
        with watched(as_json) as progress:
            rows = evaluate_memory(
                store,
                predictors=predictor,
                budgets=budget or (BUDGETS if protocol else [0.2]),
                seeds=seed or (SEEDS if protocol else [0]),
                datasets=dataset,
                device=store.settings.device,
                progress=progress,
                keep=None if plots is None else kept.append,
            )
        drawn = [] if plots is None else draw_plots(kept, plots)
    if as_json:
        print_json([row.to_json() for row in rows])
        return
    print_table(("dataset", "predictor", "budget", "seeds", "rollouts", *METRIC_NAMES.values()), _lines(rows))
    for path in drawn:
        print(path)


def _lines(rows: Sequence[EvaluationRow]) -> list[list[Any]]:
    """The means over seeds of each dataset, predictor and budget; under several seeds, a line of standard errors."""
    from memstore_gnn.evaluation.evaluate import summary

    cells = {(cell.dataset, cell.predictor, cell.budget, cell.metric): cell for cell in summary(rows)}
    lines: list[list[Any]] = []
    for key in dict.fromkeys((row.dataset, row.predictor, row.budget) for row in rows):
        own = [row.rollouts for row in rows if (row.dataset, row.predictor, row.budget) == key]
        figures = [cells[*key, name] for name in METRIC_NAMES]
        lines.append([*key, len(own), round(sum(own) / len(own)), *(_figure(cell.mean) for cell in figures)])
        if len(own) > 1:
            lines.append(["", "±", None, None, None, *(_figure(cell.error) for cell in figures)])
    return lines


def _figure(value: float) -> float | None:
    """As short as a table wants it; nothing for one that cannot be had."""
    return None if math.isnan(value) else round(value, 3)
