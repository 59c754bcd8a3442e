"""`memstore score`: what a reward model says of rollouts without a ground truth."""

from __future__ import annotations

import sys
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memstore_cli.opening import opened
from memstore_cli.options import DeviceOption, JsonOption, MemoryOption, UsageError
from memstore_cli.output import counted, print_json
from memstore_cli.progress import watched

if TYPE_CHECKING:
    from memstore_gnn.verbs import ScoreSummary


class AbstainMode(StrEnum):
    """The modes of `memstore_gnn.scoring.abstain`, without loading it."""

    WITHHOLD = "withhold"
    SHRINK = "shrink"


def score(
    file: Annotated[
        str | None,
        typer.Argument(metavar="FILE", show_default=False, help="Score the rollouts of this file; nothing is added."),
    ] = None,
    memory: MemoryOption = "",
    as_ingested: Annotated[
        bool,
        typer.Option(
            "--as-ingested",
            help="Score FILE as after its ingest: together with what the memory holds of the same queries.",
        ),
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", metavar="ID", show_default=False, help="A reward model of the memory; else the one in use."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="FILE", show_default=False, help="Write a JSON line for each scored rollout."),
    ] = None,
    abstain: Annotated[
        AbstainMode | None,
        typer.Option("--abstain", show_default=False, help="Where it is not sure: no reward, or its group's mean."),
    ] = None,
    risk: Annotated[
        float | None,
        typer.Option("--risk", min=0.0, max=1.0, show_default="0.1", help="Share of kept rewards that may be wrong."),
    ] = None,
    band: Annotated[
        float | None,
        typer.Option(
            "--band", min=0.0, max=0.5, show_default=False, help="Not sure within this of 0.5, whatever the risk."
        ),
    ] = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Predict rewards: of every rollout in the memory without a ground truth, or of those in a file.

    Scores of the memory's own rollouts are kept in it, as SCORED_BY, beside those of earlier models.
    """
    if as_ingested and file is None:
        raise UsageError("--as-ingested says how a file is scored; name the file, or leave the option out")
    if abstain is None and (risk is not None or band is not None):
        raise UsageError("--risk and --band say when to abstain; say --abstain withhold or --abstain shrink, too")
    if abstain is not None and output is None:
        raise UsageError("--abstain withholds or shrinks rewards in the lines of --output; name that file")
    with opened(memory, device=device) as store:
        from memstore_gnn.scoring.abstain import RISK, Mode
        from memstore_gnn.verbs import Abstention, score_file, score_memory_rollouts

        chosen = None if abstain is None else Abstention(Mode(abstain), RISK if risk is None else risk, band)
        run = partial(score_memory_rollouts, store)
        if file is not None:
            run = partial(score_file, store, file, as_ingested=as_ingested)
        with watched(as_json) as progress:
            summary = run(
                model=model, output=output, abstention=chosen, device=store.settings.device, progress=progress
            )
    warning = summary.drift.sentence() if summary.drift else None
    if warning:
        print(f"warning: {warning}", file=sys.stderr)
    if summary.alone:
        print(
            f"warning: {summary.alone:,} of the rollouts are alone in their group, though the file has others of their "
            "query by another policy or run, or at another step; --as-ingested lets these vote, too",
            file=sys.stderr,
        )
    if as_json:
        print_json(summary.as_json())
    else:
        show_scores(summary)


def show_scores(summary: ScoreSummary) -> None:
    """Print how many were scored, by which model, and where to find it."""
    print(f"{counted(summary.scored, 'rollout')} scored by {summary.model} ({summary.seconds:.1f} s)")
    if summary.band is not None:
        print(f"not sure of {summary.abstained:,}: their probability is within {summary.band:.3f} of 0.5")
    if summary.output:
        print(f"written to {summary.output}")
