"""`memstore verl config` and `memstore verl check`: the overrides with which verl calls memstore."""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Annotated

import typer

from memstore_cli.options import JsonOption, ModelOption, with_option_groups
from memstore_cli.output import print_json

FAILED = 1


@dataclass(frozen=True)
class RewardSourceOptions:
    """Where the rewards come from."""

    mode: Annotated[str, typer.Option("--mode", help="Reward mode: oracle, budget, memory or verdict.")] = "memory"
    memory: Annotated[
        str | None,
        typer.Option(
            "--memory", metavar="LOCATION", show_default=False, help="Score in verl's process with this memory."
        ),
    ] = None
    endpoint: Annotated[
        str | None,
        typer.Option(
            "--endpoint", metavar="URL", show_default=False, help="Score with the reward service at this URL."
        ),
    ] = None
    token_file: Annotated[
        str | None,
        typer.Option("--token-file", metavar="FILE", show_default=False, help="File with the service's token."),
    ] = None
    model: ModelOption = None
    verifier_calls: Annotated[
        int | None,
        typer.Option("--verifier-calls", show_default=False, help="Mode verdict: verifier calls a training step."),
    ] = None
    verifier_total: Annotated[
        int | None,
        typer.Option("--verifier-total", show_default=False, help="Mode verdict: verifier calls of the training."),
    ] = None


@dataclass(frozen=True)
class TrainingOptions:
    """Settings of the training that the overrides also set."""

    n: Annotated[int | None, typer.Option("--n", min=1, show_default=False, help="Rollouts per group.")] = None
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", min=1, show_default=False, help="Prompts per training batch.")
    ] = None
    train: Annotated[
        str | None,
        typer.Option("--train", metavar="FILE", show_default=False, help="Training file of `memstore verl data`."),
    ] = None
    validation: Annotated[
        str | None,
        typer.Option(
            "--validation", metavar="FILE", show_default=False, help="Validation file of `memstore verl data`."
        ),
    ] = None
    design: Annotated[
        str | None,
        typer.Option(
            "--design",
            metavar="NAME",
            show_default=False,
            help="agent_loop, manager or batch. Default: the best one of that version.",
        ),
    ] = None
    asynchronous: Annotated[bool, typer.Option("--async", help="The trainer uses an asynchronous mode of verl.")] = (
        False
    )


@with_option_groups
def config(
    verl: Annotated[
        str, typer.Option("--verl", metavar="VERSION", show_default=False, help="Version of verl: 0.5.0 to 0.9.")
    ],
    rewards: RewardSourceOptions,
    training: TrainingOptions,
    as_json: JsonOption = False,
) -> None:
    """Print the overrides with which this version of verl calls memstore, one a line, to append to verl's command."""
    from memstore_rl.trainers.verl.config import VerlTarget, overrides_for

    result = overrides_for(
        VerlTarget(
            version=verl,
            mode=rewards.mode,  # type: ignore[arg-type]
            memory=rewards.memory,
            endpoint=rewards.endpoint,
            token_file=rewards.token_file,
            model=rewards.model,
            verifier_calls=rewards.verifier_calls,
            verifier_total=rewards.verifier_total,
            n=training.n,
            batch_size=training.batch_size,
            train=training.train,
            validation=training.validation,
            design=training.design,  # type: ignore[arg-type]
            asynchronous=training.asynchronous,
        )
    )
    if as_json:
        print_json(result._asdict())
        return
    print("\n".join(result.overrides))


def check(
    overrides: Annotated[
        list[str], typer.Argument(metavar="OVERRIDE...", show_default=False, help="Overrides of verl's command line.")
    ],
    config_name: Annotated[
        str, typer.Option("--config-name", metavar="NAME", help="Configuration that verl's command composes.")
    ] = "ppo_trainer",
    as_json: JsonOption = False,
) -> None:
    """Compose verl's configuration with these overrides, and fail unless verl would call memstore."""
    from memstore_rl.trainers.verl.check import check as check_overrides

    written = io.StringIO()
    # What is wrong comes first, before the status lines and warnings of verl.
    with redirect_stdout(written), redirect_stderr(written):
        findings = check_overrides(overrides, config_name)
    if as_json:
        print_json([finding._asdict() for finding in findings])
    else:
        for finding in findings:
            print(f"{'ok' if finding.ok else 'NOT OK':<7} {finding.what:<16} {finding.says}", flush=True)
    sys.stderr.write(written.getvalue())
    if not all(finding.ok for finding in findings):
        raise typer.Exit(FAILED)
