"""`memstore delete`: remove a run, a dataset, or everything in a namespace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from memstore.errors import InputError
from memstore_cli.open_memory import open_memory
from memstore_cli.options import JsonOption, MemoryOption, UsageError, with_option_groups
from memstore_cli.output import counted, print_json
from memstore_cli.progress import show_progress

if TYPE_CHECKING:
    from memstore.memory import Memory
    from memstore.pipeline.delete import DeleteSummary
    from memstore.progress import Progress


@dataclass(frozen=True)
class ScopeOptions:
    """What is deleted."""

    run: Annotated[
        str | None, typer.Option("--run", metavar="NAME", show_default=False, help="Delete the rollouts of this run.")
    ] = None
    dataset: Annotated[
        str | None,
        typer.Option(
            "--dataset",
            metavar="NAME",
            show_default=False,
            help="Delete the rollouts of this dataset; with --run, of this run on it.",
        ),
    ] = None
    namespace: Annotated[
        str | None,
        typer.Option(
            "--namespace",
            metavar="NAME",
            show_default=False,
            help="Delete everything in the memory; NAME must be its namespace (`default` for a folder).",
        ),
    ] = None

    def delete(self, store: Memory, dry_run: bool, progress: Progress) -> DeleteSummary:
        """Delete it, or count it with `dry_run`."""
        from memstore.pipeline.delete import delete_namespace

        if self.namespace is None:
            return store.delete(run=self.run, dataset=self.dataset, dry_run=dry_run, progress=progress)
        if self.namespace != store.namespace:
            raise InputError(
                f"the memory {store.location} is in the namespace {store.namespace!r}, not {self.namespace!r}"
            )
        return delete_namespace(store.stores, dry_run=dry_run, progress=progress)


@with_option_groups
def delete(
    scope: ScopeOptions,
    memory: MemoryOption = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what would be deleted.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete rollouts, and the queries, answers, runs, links and vectors that only they need.

    This cannot be undone: take a snapshot first, and look at --dry-run.
    """
    if (scope.namespace is not None) == (scope.run is not None or scope.dataset is not None):
        raise UsageError("pass --run, --dataset or both, or else --namespace")
    with open_memory(memory) as store, show_progress(as_json) as progress:
        summary = scope.delete(store, dry_run, progress)
    if as_json:
        print_json(summary.as_json())
    else:
        show_deleted(summary)


def show_deleted(summary: DeleteSummary) -> None:
    """Print the numbers of deleted nodes and vectors."""
    models = f", {counted(summary.models, 'reward model')}" if summary.models else ""
    counts = (
        f"{counted(summary.rollouts, 'rollout')} ({summary.labelled:,} with a ground truth), "
        f"{counted(summary.queries, 'query', 'queries')}, {counted(summary.answers, 'answer')}, "
        f"{counted(summary.runs, 'run')}{models}"
    )
    if summary.dry_run:
        print(f"would delete {counts}; nothing was deleted")
        return
    print(f"deleted {counts}, {counted(summary.vectors, 'vector')}")
