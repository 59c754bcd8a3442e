"""`memstore score`: what a reward model says of rollouts without a ground truth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memstore_cli.opening import opened
from memstore_cli.options import DeviceOption, JsonOption, MemoryOption
from memstore_cli.output import counted, print_json
from memstore_cli.progress import watched

if TYPE_CHECKING:
    from memstore_gnn.memory_verbs import ScoreSummary


def score(
    file: Annotated[
        str | None,
        typer.Argument(metavar="FILE", show_default=False, help="Score the rollouts of this file; nothing is added."),
    ] = None,
    memory: MemoryOption = "",
    model: Annotated[
        str | None,
        typer.Option(
            "--model", metavar="ID", show_default=False, help="A reward model of the memory; else the newest."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="FILE", show_default=False, help="Write a JSON line for each scored rollout."),
    ] = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Predict rewards: of every rollout in the memory without a ground truth, or of those in a file.

    Scores of the memory's own rollouts are kept in it, as SCORED_BY, beside those of earlier models.
    """
    with opened(memory, device=device) as store:
        from memstore_gnn.memory_verbs import score_file, score_memory_rollouts

        with watched(as_json) as progress:
            if file is None:
                summary = score_memory_rollouts(
                    store, model=model, output=output, device=store.settings.device, progress=progress
                )
            else:
                summary = score_file(
                    store, file, model=model, output=output, device=store.settings.device, progress=progress
                )
    if as_json:
        print_json(summary.as_json())
    else:
        show_scores(summary)


def show_scores(summary: ScoreSummary) -> None:
    """Print how many were scored, by which model, and where to find it."""
    print(f"{counted(summary.scored, 'rollout')} scored by {summary.model} ({summary.seconds:.1f} s)")
    if summary.output:
        print(f"written to {summary.output}")
