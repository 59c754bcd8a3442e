"""`memstore train`: train a reward model on the labels of a memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from memstore_cli.open_memory import open_memory
from memstore_cli.options import DeviceOption, JsonOption, MemoryOption
from memstore_cli.output import METRIC_NAMES, metric_cells, print_json, print_table
from memstore_cli.progress import show_progress

if TYPE_CHECKING:
    from memstore_gnn.verbs import TrainSummary


def train(
    memory: MemoryOption = "",
    budget: Annotated[
        float | None,
        typer.Option(
            "--budget",
            min=0.0,
            max=1.0,
            show_default=False,
            help="Train on this share of the labelled queries, and evaluate on the rest. Default: train on all.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the split and the training.")] = 0,
    epochs: Annotated[
        int | None, typer.Option("--epochs", min=1, show_default=False, help="Limit of epochs; training stops early.")
    ] = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a reward model on the rollouts with a ground truth, and store it in the memory."""
    with open_memory(memory, device=device) as store:
        from memstore_gnn.verbs import train_memory

        with show_progress(as_json) as progress:
            summary = train_memory(
                store, budget=budget, seed=seed, epochs=epochs, device=store.settings.device, progress=progress
            )
    if as_json:
        print_json(summary.as_json())
    else:
        show_training(summary)


def show_training(summary: TrainSummary) -> None:
    """Print the model and its metrics on held-out queries."""
    queries = summary.queries
    print(f"model {summary.model} ({summary.seconds:.1f} s, snapshot {summary.snapshot})")
    if summary.model.startswith("prior-"):
        print("the memory has no labels yet: this model is the prior, trained on other datasets")
        return
    print(
        f"trained on {queries['train']:,} labelled queries, selected and calibrated on {queries['select']:,}, "
        f"evaluated on {queries['report']:,} others"
    )
    print_table(
        ("dataset", "predictor", *METRIC_NAMES.values()),
        [(row.dataset, row.predictor, *metric_cells(row)) for row in summary.rows],
    )
