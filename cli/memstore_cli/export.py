"""`memstore export`: a page of a memory, its scored rollouts as training data, and a snapshot as files for Neo4j."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from memstore_cli.export_neo4j import neo4j
from memstore_cli.export_training import best, pairs
from memstore_cli.inspect import open_source
from memstore_cli.options import JsonOption, MemoryOption, UsageError
from memstore_cli.output import print_json

export_app = typer.Typer(
    help="Write a page of a memory, its scored rollouts as training data, or a snapshot as files for Neo4j.",
    no_args_is_help=True,
)
export_app.command()(best)
export_app.command()(pairs)
export_app.command()(neo4j)


@export_app.callback()
def export() -> None:
    """Write a page of a memory, its scored rollouts as training data, or a snapshot as files for Neo4j."""


@export_app.command()
def html(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="[QUERY] FILE",
            show_default=False,
            help="The query (its id or the beginning of it, its key, or its text), and the file to write.",
        ),
    ],
    disagreements: Annotated[
        bool, typer.Option("--disagreements", help="Write the disagreements of the memory instead of a query.")
    ] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="Disagreements of each kind at most.")] = 100,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    memory: MemoryOption = "",
    as_json: JsonOption = False,
) -> None:
    """Write a query with its answers, or the disagreements, to one HTML file that loads nothing.

    The memory may also be the folder of a snapshot.
    """
    if len(names) != (1 if disagreements else 2):
        raise UsageError("pass a query and a file, or --disagreements and a file")
    path = Path(names[-1])
    try:
        from memstore_rl.inspector.export import export_disagreements, export_query
    except ModuleNotFoundError as error:
        raise UsageError(f"{error.name} is not installed; run: pip install 'memstore[serve]'") from error
    with open_source(memory, read_only=True) as source:
        if disagreements:
            done = export_disagreements(source, path, limit=limit, force=force)
        else:
            done = export_query(source, names[0], path, force=force)
    if as_json:
        print_json(done.as_json())
    else:
        print(f"{done.path}, {done.bytes / 2**10:,.0f} KiB")
