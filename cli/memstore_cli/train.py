"""`memstore train`: train a reward model on the labels of a memory."""

from __future__ import annotations

import sys
from pathlib import Path
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
            help="Learn and remember labels of this share of the labelled queries only. Default: learn from 80 %, "
            "remember all.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the split and the training.")] = 0,
    epochs: Annotated[
        int | None, typer.Option("--epochs", min=1, show_default=False, help="Training steps of each network.")
    ] = None,
    audit: Annotated[
        Path | None,
        typer.Option(
            "--audit",
            metavar="FILE",
            show_default=False,
            help="Queries whose labels the model never learns from or remembers: a file of queries or rollouts.",
        ),
    ] = None,
    hide_run: Annotated[
        list[str] | None,
        typer.Option(
            "--hide-run",
            metavar="RUN",
            show_default=False,
            help="Hide the labels of all queries that this run attempted. Repeatable.",
        ),
    ] = None,
    last_steps: Annotated[
        int | None,
        typer.Option(
            "--last-steps",
            metavar="N",
            min=1,
            show_default=False,
            help="Train on the rollouts of each run's last N steps, and on those without a step.",
        ),
    ] = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a reward model on the rollouts with a ground truth, and store it in the memory."""
    texts = _texts_of(audit)
    with open_memory(memory, device=device) as store:
        from memstore_gnn.verbs import train_memory

        with show_progress(as_json) as progress:
            summary = train_memory(
                store,
                budget=budget,
                seed=seed,
                epochs=epochs,
                audit=texts,
                hidden_runs=hide_run or (),
                last_steps=last_steps,
                device=store.settings.device,
                progress=progress,
            )
    for warning in summary.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if as_json:
        print_json(summary.as_json())
    else:
        show_training(summary)


def _texts_of(file: Path | None) -> list[str]:
    """The texts of the queries in a file; [] without one."""
    if file is None:
        return []
    from memstore_rl.benchmarks.queries import queries_of_files

    return [query.text for query in queries_of_files([file])]


def show_training(summary: TrainSummary) -> None:
    """Print the model and its metrics on held-out queries."""
    queries = summary.queries
    print(f"model {summary.model} ({summary.seconds:.1f} s, snapshot {summary.snapshot})")
    if summary.model.startswith("prior-"):
        print("the memory has no labels yet: this model is the prior, trained on other datasets")
        return
    fitted = queries["train"] + queries["select"]
    print(f"trained on {fitted:,} labelled queries, evaluated on {queries['report']:,} others")
    print_table(
        ("dataset", "predictor", *METRIC_NAMES.values()),
        [(row.dataset, row.predictor, *metric_cells(row)) for row in summary.rows],
    )
