"""The command `memstore`: its verbs, and how a run of it ends.

A verb is a library function of the same name; a file of this package holds one. Nothing heavy is imported here or
at the top of a verb's file, so that `memstore --help` answers at once.

How a run ends, and what stderr then says:

    0      done
    1      failed                  `error: ` and one sentence, for what memstore raises on purpose
    2      wrong use               the same, with the help to read
    130    Ctrl-C or SIGTERM       that the same command goes on from there

Any other exception is a bug and keeps its traceback.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from memstore.errors import MemstoreError
from memstore_cli.cypher import cypher
from memstore_cli.datasets import datasets
from memstore_cli.demo import demo
from memstore_cli.evaluate import evaluate
from memstore_cli.explain import explain
from memstore_cli.grade import grade
from memstore_cli.ingest import ingest
from memstore_cli.interruption import heed_interruptions
from memstore_cli.label import label
from memstore_cli.link import link
from memstore_cli.models import models
from memstore_cli.profiles import profiles
from memstore_cli.promote import promote
from memstore_cli.reembed import reembed
from memstore_cli.restore import restore
from memstore_cli.rollout import rollout
from memstore_cli.score import score
from memstore_cli.serve import serve
from memstore_cli.snapshot import snapshot
from memstore_cli.stats import stats
from memstore_cli.train import train
from memstore_cli.verify import verify
from memstore_cli.verl import verl_app

INTERRUPTED = 130
"""Exit code of Ctrl-C; Typer answers a KeyboardInterrupt with the same."""

app = typer.Typer(
    name="memstore",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

VERBS: dict[str, tuple[Callable[..., None], ...]] = {
    "Fill": (ingest, link, label),
    "Look": (stats, cypher, verify, profiles),
    "Predict rewards": (train, score, explain, evaluate, models, promote),
    "Policies": (datasets, rollout, grade),
    "Use": (serve,),
    "Keep": (snapshot, restore, reembed),
    "Try": (demo,),
}
"""The verbs by what they are for, as the help shows them."""

for panel, verbs in VERBS.items():
    for verb in verbs:
        app.command(rich_help_panel=panel)(verb)
app.add_typer(verl_app, name="verl", rich_help_panel="Use")


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"memstore {version('memstore')}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """An experience memory for reinforcement learning of language models.

    Rollouts go into a graph; a model learns from those with a ground truth and predicts the reward of the rest.
    Start with: memstore demo
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(2)


def main() -> None:
    """Entry point of the command."""
    sys.exit(run(sys.argv[1:], heed_interruptions()))


def run(arguments: Sequence[str], heard: Sequence[int] = ()) -> int:
    """Run the command; return its exit code.

    Args:
        heard: where `heed_interruptions` notes signals, while this runs.
    """
    try:
        code = app(list(arguments), prog_name="memstore", standalone_mode=False) or 0
        sys.stdout.flush()
    except Exception as error:
        if not heard:
            return _failed(error)
        # Whatever was running then, a library's import perhaps, has made an error of its own of the interruption.
        code = INTERRUPTED
    if code == INTERRUPTED:
        print("interrupted; what was written stays, and the same command goes on from there", file=sys.stderr)
    return int(code)


def _failed(error: Exception) -> int:
    """Say what went wrong; the exit code. A bug is raised again."""
    if isinstance(error, typer.TyperException):
        return _fail(_usage_message(error), error.exit_code)
    if isinstance(error, MemstoreError):
        return _fail(str(error), 1)
    if isinstance(error, BrokenPipeError):
        # The reader has gone; what is still buffered would fail once more when Python exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    raise error


def _usage_message(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    message = error.format_message().rstrip(".")
    return f"{message}; see: {context.command_path} --help" if context is not None else message


def _fail(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code
