"""The command `memstore`: its verbs and exit codes.

A verb is a library function of the same name, in a file of this package. Neither this module nor the top level of a
verb's file imports anything heavy, so that `memstore --help` is fast.

    exit code   meaning                stderr
    0           success
    1           failure                `error: ` and one sentence, for errors that memstore raises
    2           wrong usage            the same, with the help command to run
    130         Ctrl-C or SIGTERM      how to resume
    141         stdout was closed, as by `| head`; nothing is printed

Any other exception is a bug and keeps its traceback.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from memstore.errors import MemstoreError
from memstore.runtime.disk_space import is_full
from memstore_cli.cypher import cypher
from memstore_cli.datasets import datasets
from memstore_cli.delete import delete
from memstore_cli.demo import demo
from memstore_cli.evaluate import evaluate
from memstore_cli.explain import explain
from memstore_cli.export import export_app
from memstore_cli.grade import grade
from memstore_cli.hook import hook_app
from memstore_cli.ingest import ingest
from memstore_cli.inspect import inspect
from memstore_cli.label import label
from memstore_cli.link import link
from memstore_cli.migrate import migrate
from memstore_cli.models import models
from memstore_cli.profiles import profiles
from memstore_cli.promote import promote
from memstore_cli.queue import queue
from memstore_cli.reembed import reembed
from memstore_cli.reproduce import reproduce
from memstore_cli.restore import restore
from memstore_cli.rollout import rollout
from memstore_cli.score import score
from memstore_cli.serve import serve
from memstore_cli.signals import install_signal_handlers
from memstore_cli.snapshot import snapshot
from memstore_cli.stats import stats
from memstore_cli.train import train
from memstore_cli.verify import verify
from memstore_cli.verl import verl_app

INTERRUPTED = 130
"""Exit code after Ctrl-C; Typer uses the same for KeyboardInterrupt."""
CLOSED_PIPE = 141
"""Exit code if the reader of stdout is gone: 128 and the number of SIGPIPE, as for other Unix commands."""

app = typer.Typer(
    name="memstore",
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

VERBS: dict[str, tuple[Callable[..., None], ...]] = {
    "Memory": (demo, ingest, link, label, queue, stats, cypher, inspect),
    "Reward model": (train, score, explain, evaluate, models, promote),
    "Policy training": (datasets, rollout, grade, serve, reproduce),
    "Maintenance": (verify, migrate, profiles, snapshot, restore, reembed, delete),
}
"""The verbs by theme, as `memstore --help` groups them."""

for panel, verbs in VERBS.items():
    for verb in verbs:
        app.command(rich_help_panel=panel)(verb)
app.add_typer(export_app, name="export", rich_help_panel="Memory")
app.add_typer(verl_app, name="verl", rich_help_panel="Policy training")
app.add_typer(hook_app, name="hook", rich_help_panel="Policy training")


def _print_version(requested: bool) -> None:
    if requested:
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

    Stores rollouts in a graph, learns a reward model from those with a ground truth, and predicts the reward of the
    rest. Start with: memstore demo
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(2)


def main() -> None:
    """Entry point of the command."""
    sys.exit(run(sys.argv[1:], install_signal_handlers()))


def run(arguments: Sequence[str], received_signals: Sequence[int] = ()) -> int:
    """Run the command; return its exit code.

    Args:
        received_signals: the list that `install_signal_handlers` appends to while this runs.
    """
    try:
        code = app(list(arguments), prog_name="memstore", standalone_mode=False) or 0
        sys.stdout.flush()
    except SystemExit as error:
        # Raised by shell completion, and for a closed pipe, with the BrokenPipeError as its context.
        if isinstance(error.__context__, BrokenPipeError):
            return _handle_error(error.__context__)
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except Exception as error:
        if not received_signals:
            return _handle_error(error)
        # The running code, such as a library's import, turned the interruption into an error of its own.
        code = INTERRUPTED
    if code == INTERRUPTED:
        print("interrupted; completed work is saved, run the same command again to resume", file=sys.stderr)
    return int(code)


def _handle_error(error: Exception) -> int:
    """Print the error and return the exit code. An unexpected exception is raised again."""
    if isinstance(error, typer.TyperException):
        return _fail(_usage_message(error), error.exit_code)
    if isinstance(error, MemstoreError):
        return _fail(str(error), 1)
    if isinstance(error, BrokenPipeError):
        # The reader has closed the pipe; flushing the buffer at exit would fail again.
        sys.stdout = sys.__stdout__ or sys.stdout
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_PIPE
    if is_full(error):
        return _fail(f"no space is left on the disk ({error}); free some and run the same command again", 1)
    raise error


def _usage_message(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    message = error.format_message().rstrip(".")
    return f"{message}; see: {context.command_path} --help" if context is not None else message


def _fail(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code
