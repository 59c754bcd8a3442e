"""`memstore promote`: put a reward model in use after comparing it on labels that it has not seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from memstore.errors import ModelError
from memstore_cli.open_memory import open_memory
from memstore_cli.options import DeviceOption, JsonOption, MemoryOption
from memstore_cli.output import print_facts, print_json, print_table
from memstore_cli.progress import show_progress

if TYPE_CHECKING:
    from memstore_gnn.evaluation.promote import Promotion


def promote(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL", show_default=False, help="Id of the model (see memstore models). Default: the newest."
        ),
    ] = None,
    memory: MemoryOption = "",
    force: Annotated[bool, typer.Option("--force", help="Promote it regardless of the comparison.")] = False,
    least: Annotated[
        int, typer.Option("--least", min=1, help="Minimum number of newly labelled queries for a comparison.")
    ] = 20,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare a reward model with the one in use on labels new to both, and promote it unless it is worse."""
    with open_memory(memory, device=device) as store:
        from memstore_gnn.evaluation.promote import promote_model

        with show_progress(as_json) as progress:
            report = promote_model(
                store, model, force=force, least=least, device=store.settings.device, progress=progress
            )
    if as_json:
        print_json(report.as_json())
    else:
        show_promotion(report)
    if not report.promoted:
        raise ModelError(f"{report.reason()}, so it was not promoted; train on newer labels, or pass --force")


def show_promotion(report: Promotion) -> None:
    """Print the comparison and the result."""
    if report.current is not None:
        print_facts(
            {
                "candidate": report.candidate,
                "in use": report.current,
                "fresh": f"{report.fresh_queries:,} labelled queries ({report.fresh_rollouts:,} rollouts), "
                f"{report.after_training:,} of them labelled after both trainings",
            }
        )
    if report.comparison:
        print()
        print_table(
            ("metric", "candidate", "in use", "difference", "error"),
            [(one.metric, one.candidate, one.current, one.difference, one.error) for one in report.comparison],
        )
    if report.promoted:
        print(f"{report.reason()}; {report.candidate} is in use now")
