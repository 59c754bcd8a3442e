"""`memstore inspect`: look into a memory or a snapshot in the browser."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memstore.errors import InputError
from memstore_cli.credentials import read_secret
from memstore_cli.open_memory import open_memory
from memstore_cli.options import JsonOption, OptionalMemoryOption, UsageError, need_memory, with_option_groups
from memstore_cli.output import print_json
from memstore_cli.serve import TOKEN_VARIABLE, HostOption, PortOption

if TYPE_CHECKING:
    from memstore_rl.inspector.label_queue import QueueEntry
    from memstore_rl.inspector.source import Source


@dataclass(frozen=True)
class PageOptions:
    """Where the pages are served."""

    host: HostOption = "127.0.0.1"
    port: PortOption = 8732
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file",
            metavar="FILE",
            show_default=False,
            help=f"File with the token to log in with. Default: the variable {TOKEN_VARIABLE}.",
        ),
    ] = None
    read_only: Annotated[bool, typer.Option("--read-only", help="Show pages that change nothing.")] = False
    queue: Annotated[
        Path | None,
        typer.Option(
            "--queue", metavar="FILE", show_default=False, help="Queries to label: a file of `memstore queue -o`."
        ),
    ] = None
    rescore: Annotated[
        bool, typer.Option("--rescore/--no-rescore", help="After each verdict, score the rollouts near it again.")
    ] = True


@with_option_groups
def inspect(
    options: PageOptions,
    location: Annotated[
        str | None,
        typer.Argument(metavar="MEMORY", show_default=False, help="The memory, as --memory, or a snapshot's folder."),
    ] = None,
    memory: OptionalMemoryOption = "",
    as_json: JsonOption = False,
) -> None:
    """Look into a memory or a snapshot in the browser: queries, answers, rollouts, scores and why they are so.

    A reward service (memstore serve) has the same pages under /inspect. Ctrl-C stops.
    """
    token = read_secret(options.token_file, TOKEN_VARIABLE, "token")
    with open_source(location or need_memory(memory), read_only=options.read_only) as source:
        try:
            from memstore_rl.inspector.serve import InspectOptions
            from memstore_rl.inspector.serve import inspect as inspect_source
            from memstore_rl.service.logs import log_to_stderr
        except ModuleNotFoundError as error:
            raise UsageError(f"{error.name} is not installed; run: pip install 'memstore[serve]'") from error

        def announce(endpoint: str) -> None:
            if as_json:
                print_json({"endpoint": endpoint, "pid": os.getpid(), "memory": source.name})
            else:
                print(f"the pages of {source.name} are at {endpoint}; stop with Ctrl-C")
            sys.stdout.flush()

        queue = queue_of(source, options.queue) if options.queue else []
        log_to_stderr()
        served = InspectOptions(options.host, options.port, token, queue, options.rescore)
        inspect_source(source, served, on_ready=announce)


def queue_of(source: Source, path: Path) -> list[QueueEntry]:
    """The queue in a file.

    Raises:
        InputError: the source is read-only, or the file is no queue of it.
    """
    from memstore_rl.inspector.label_queue import read_queue
    from memstore_rl.inspector.source import MemorySource

    if not isinstance(source, MemorySource) or source.read_only:
        raise InputError("a queue is labelled in an open memory, and these pages are read-only; remove --queue")
    return read_queue(source.memory, path)


@contextmanager
def open_source(location: str, *, read_only: bool) -> Iterator[Source]:
    """Open the memory or load the snapshot at a location."""
    from memstore_rl.inspector.source import MemorySource, SnapshotSource

    if (Path(location) / "manifest.json").is_file():
        from memstore.snapshots.files import load_snapshot

        yield SnapshotSource(load_snapshot(Path(location)), location, Path(location))
        return
    with open_memory(location) as store:
        yield MemorySource(store, read_only=read_only)
