"""`memstore train`: a reward model from what the memory knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from memstore_cli.opening import opened
from memstore_cli.options import DeviceOption, JsonOption, MemoryOption
from memstore_cli.output import METRIC_NAMES, metric_cells, print_json, print_table
from memstore_cli.progress import watched

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
            help="Let it see the labels of this share of the labelled queries; the rest reports. Without it: all.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the split and of the training.")] = 0,
    epochs: Annotated[
        int | None, typer.Option("--epochs", min=1, show_default=False, help="At most this many; it stops by itself.")
    ] = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a reward model on the rollouts with a ground truth and keep it in the memory."""
    with opened(memory, device=device) as store:
        from memstore_gnn.verbs import train_memory

        with watched(as_json) as progress:
            summary = train_memory(
                store, budget=budget, seed=seed, epochs=epochs, device=store.settings.device, progress=progress
            )
    if as_json:
        print_json(summary.as_json())
    else:
        show_training(summary)


def show_training(summary: TrainSummary) -> None:
    """Print what was trained and how good it is on queries it never saw."""
    queries = summary.queries
    print(f"model {summary.model} ({summary.seconds:.1f} s, snapshot {summary.snapshot})")
    if summary.model.startswith("prior-"):
        print("the memory has no label yet: this is the prior that other sets have taught")
        return
    print(
        f"learnt from {queries['train']:,} labelled queries, chosen and calibrated on {queries['select']:,}, "
        f"measured on {queries['report']:,} others"
    )
    print_table(
        ("dataset", "predictor", *METRIC_NAMES.values()),
        [(row.dataset, row.predictor, *metric_cells(row)) for row in summary.rows],
    )
