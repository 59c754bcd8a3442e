"""`memstore hook`: checks that the hook of a trainer is called and does what every hook does."""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Annotated

import typer

from memstore_cli.credentials import read_secret
from memstore_cli.options import JsonOption
from memstore_cli.output import print_json
from memstore_cli.serve import TOKEN_VARIABLE

FAILED = 1
"""Exit code if a check fails."""

hook_app = typer.Typer(no_args_is_help=True)


@hook_app.callback()
def _group() -> None:
    """Checks of the hooks of trainers."""


def check(
    trainer: Annotated[str, typer.Argument(metavar="TRAINER", show_default=False, help="Trainer, such as slime.")],
    endpoint: Annotated[
        str | None,
        typer.Option(
            "--endpoint",
            metavar="URL",
            show_default="a small service of the check",
            help="Address of the reward service that gives the rewards; it records nothing of the check.",
        ),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file",
            metavar="FILE",
            show_default=False,
            help=f"File with the token of the service. Default: the variable {TOKEN_VARIABLE}.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Drive the hook of a trainer as the trainer does, and fail unless it scores whole groups as it should."""
    from memstore_rl.trainers.conformance.checks import check_hook
    from memstore_rl.trainers.conformance.drivers import driver_of

    token = read_secret(token_file, TOKEN_VARIABLE, "token") if endpoint is not None else None
    written = io.StringIO()
    # What is wrong comes first, before the status lines and warnings of the trainer.
    with redirect_stdout(written), redirect_stderr(written):
        driver = driver_of(trainer)
        findings = check_hook(driver, endpoint, None if token is None else token.get_secret_value())
    ok = all(finding.ok for finding in findings)
    if as_json:
        document = {"trainer": driver.trainer, "against": driver.against, "endpoint": endpoint, "ok": ok}
        print_json({**document, "findings": [finding._asdict() for finding in findings]})
    else:
        print(f"{driver.trainer}: driven with {driver.against}")
        for finding in findings:
            print(f"{'ok' if finding.ok else 'NOT OK':<7} {finding.what:<12} {finding.says}", flush=True)
    sys.stderr.write(written.getvalue())
    if not ok:
        raise typer.Exit(FAILED)


hook_app.command()(check)
