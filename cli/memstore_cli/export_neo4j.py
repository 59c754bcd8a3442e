"""`memstore export neo4j`: write a snapshot as the files of `neo4j-admin database import`, and run the import."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import Annotated

import typer

from memstore_cli.library_logging import quiet_libraries
from memstore_cli.open_memory import read_settings
from memstore_cli.options import JsonOption, UsageError
from memstore_cli.output import counted, print_json
from memstore_cli.progress import show_progress


def neo4j(
    snapshot: Annotated[Path, typer.Argument(metavar="SNAPSHOT", help="Folder written by memstore snapshot.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="New folder for the files.")],
    into: Annotated[
        str,
        typer.Option(
            "--into",
            metavar="PROFILE",
            show_default=False,
            help="The memory on servers that is to be made: a profile of memstore.toml, or env. It gives the namespace "
            "and the database; the server is not asked.",
        ),
    ],
    admin: Annotated[
        str,
        typer.Option(
            "--neo4j-admin",
            metavar="COMMAND",
            show_default=False,
            help="Also import the files with this neo4j-admin, on the machine of the stopped server.",
        ),
    ] = "",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Delete what the database holds before the import.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a snapshot as files for neo4j-admin, the fastest way into an empty Neo4j database.

    Afterwards start the server and run memstore restore with the same snapshot: it checks the imported graph, creates
    the constraints and writes the vectors.
    """
    if overwrite and not admin:
        raise UsageError("--overwrite belongs to --neo4j-admin, which runs the import")
    quiet_libraries()
    from memstore.graph.neo4j.admin import import_command, run_import
    from memstore.locations.location import ServerLocation, resolve_location
    from memstore.pipeline.neo4j_files import ARGUMENTS, write_import_files
    from memstore.snapshots.files import load_snapshot

    location = resolve_location(into, read_settings())
    if not isinstance(location, ServerLocation):
        raise UsageError(f"{into} is a folder, not a memory on servers; name a profile with a neo4j_uri, or env")
    started, database = time.perf_counter(), location.neo4j_database
    with show_progress(as_json) as progress:
        files = write_import_files(load_snapshot(snapshot), folder, location.namespace, progress=progress)
        written = time.perf_counter()
        if admin:
            run_import(admin, folder, ARGUMENTS, database, overwrite=overwrite, progress=progress)
    seconds = {"files": round(written - started, 3), "import": round(time.perf_counter() - written, 3)}
    size = sum(file.stat().st_size for file in folder.iterdir())
    command = f"cd {shlex.quote(str(folder))} && {shlex.join(import_command('neo4j-admin', ARGUMENTS, database))}"
    if as_json:
        told = {"folder": str(folder), "bytes": size, "command": command, "imported": bool(admin)}
        print_json({**files.as_json(), **told, "seconds": seconds})
        return
    nodes, edges = sum(files.nodes.values()), sum(files.relationships.values())
    print(
        f"{folder}: {counted(nodes, 'node')} and {counted(edges, 'relationship')} for the namespace {files.namespace}, "
        f"{size / 2**20:,.1f} MB, {seconds['files']:.1f} s"
    )
    if admin:
        print(f"imported into the database {database}, {seconds['import']:.1f} s")
    else:
        print(f"with the server stopped, on its machine: {command}")
    print(f"then start the server: memstore restore {shlex.quote(str(snapshot))} --memory {into}")
