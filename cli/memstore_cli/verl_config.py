"""`memstore verl config` and `memstore verl check`: how verl is told to call us, and whether it would."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from typing import Annotated

import typer

from memstore_cli.options import JsonOption
from memstore_cli.output import print_json

FAILED = 1


def config(
    verl: Annotated[
        str, typer.Option("--verl", metavar="VERSION", show_default=False, help="The version of verl: 0.5.0 to 0.9.")
    ],
    mode: Annotated[str, typer.Option("--mode", help="oracle, budget or memory: where rewards come from.")] = "memory",
    memory: Annotated[
        str | None,
        typer.Option("--memory", metavar="LOCATION", show_default=False, help="Score in verl, by this memory."),
    ] = None,
    endpoint: Annotated[
        str | None,
        typer.Option("--endpoint", metavar="URL", show_default=False, help="Score by the reward service at this URL."),
    ] = None,
    token_file: Annotated[
        str | None,
        typer.Option("--token-file", metavar="FILE", show_default=False, help="Holds the token of that service."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", metavar="ID", show_default=False, help="A reward model of the memory; else the newest."
        ),
    ] = None,
    n: Annotated[int | None, typer.Option("--n", min=1, show_default=False, help="Rollouts of a group.")] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", min=1, show_default=False, help="Prompts of a training batch.")
    ] = None,
    train: Annotated[
        str | None,
        typer.Option("--train", metavar="FILE", show_default=False, help="Train on this file of `memstore verl data`."),
    ] = None,
    validation: Annotated[
        str | None, typer.Option("--validation", metavar="FILE", show_default=False, help="Validate on this one.")
    ] = None,
    design: Annotated[
        str | None,
        typer.Option(
            "--design", metavar="NAME", show_default=False, help="agent_loop, manager or batch; else the best there is."
        ),
    ] = None,
    asynchronous: Annotated[
        bool, typer.Option("--async", help="The trainer runs in one of verl's asynchronous modes.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Print the overrides with which that version of verl calls memstore, one a line; append them to its command."""
    from memstore_rl.trainers.verl.config import VerlTarget, overrides_for

    made = overrides_for(
        VerlTarget(
            version=verl,
            mode=mode,  # type: ignore[arg-type]
            memory=memory,
            endpoint=endpoint,
            token_file=token_file,
            model=model,
            n=n,
            batch_size=batch_size,
            train=train,
            validation=validation,
            design=design,  # type: ignore[arg-type]
            asynchronous=asynchronous,
        )
    )
    if as_json:
        print_json(made._asdict())
        return
    print("\n".join(made.overrides))


def check(
    overrides: Annotated[
        list[str], typer.Argument(metavar="OVERRIDE...", show_default=False, help="As verl's command will get them.")
    ],
    config_name: Annotated[
        str, typer.Option("--config-name", metavar="NAME", help="The configuration that verl's command composes.")
    ] = "ppo_trainer",
    as_json: JsonOption = False,
) -> None:
    """Compose verl's real configuration with these overrides, and fail unless verl would really call memstore."""
    from memstore_rl.trainers.verl.check import check as look

    with redirect_stdout(sys.stderr):  # verl prints that it is content
        findings = look(overrides, config_name)
    if as_json:
        print_json([finding._asdict() for finding in findings])
    else:
        for finding in findings:
            print(f"{'ok' if finding.ok else 'NOT OK':<7} {finding.what:<16} {finding.says}")
    if not all(finding.ok for finding in findings):
        raise typer.Exit(FAILED)
