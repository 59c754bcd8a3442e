"""`memstore evaluate`: predictors compared on labels that were hidden from them."""

from __future__ import annotations

from typing import Annotated

import typer

from memstore_cli.opening import opened
from memstore_cli.options import DeviceOption, JsonOption, MemoryOption
from memstore_cli.output import METRIC_NAMES, metric_cells, print_json, print_table
from memstore_cli.progress import watched


def evaluate(
    memory: MemoryOption = "",
    budget: Annotated[
        list[float] | None,
        typer.Option("--budget", min=0.0, max=1.0, show_default="0.2", help="Share of the labelled queries to see."),
    ] = None,
    seed: Annotated[
        list[int] | None, typer.Option("--seed", show_default="0", help="Of the split and of the training.")
    ] = None,
    predictor: Annotated[
        list[str] | None,
        typer.Option("--predictor", metavar="NAME", show_default="all", help="A predictor to compare."),
    ] = None,
    dataset: Annotated[
        list[str] | None,
        typer.Option("--dataset", metavar="NAME", show_default="all", help="Report this dataset; all are learnt from."),
    ] = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Hide labels, let predictors guess them, and measure; --budget, --seed, --predictor and --dataset may repeat.

    Nothing is written: the memory keeps its labels and gets no model.
    """
    with opened(memory, device=device) as store:
        from memstore_gnn.memory_verbs import evaluate_memory

        with watched(as_json) as progress:
            rows = evaluate_memory(
                store,
                predictors=predictor,
                budgets=budget or [0.2],
                seeds=seed or [0],
                datasets=dataset,
                device=store.settings.device,
                progress=progress,
            )
    if as_json:
        print_json([row.to_json() for row in rows])
    else:
        print_table(
            ("dataset", "predictor", "budget", "seed", "queries", "rollouts", *METRIC_NAMES.values()),
            [
                (
                    row.dataset,
                    row.predictor,
                    row.budget,
                    row.seed,
                    row.queries,
                    row.rollouts,
                    *metric_cells(row),
                )
                for row in rows
            ],
        )
