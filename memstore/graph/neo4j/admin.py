"""Run `neo4j-admin database import full` on a folder of files, with its progress and its errors as one sentence.

The importer builds a database from nothing. It needs the database to be stopped, and refuses one that was started
before, even if it is empty, unless it may overwrite it. Neo4j does not start a database whose import did not end, so
that an interrupted import cannot be taken for a whole one; it is repeated with `overwrite`.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from memstore.errors import InputError, LocationError, MemstoreError, SchemaError, StoreError, StoreFullError
from memstore.progress import Progress

IMPORTER = (5, 0)
"""The first version with `database import full`."""
_STAGE = re.compile(r"(\w[^,\[]*), started \d{4}-")
"""A stage begins. The first follows a warning about the heap, which ends in GiB, on the same line."""
_VERSION = re.compile(r"(\d+)\.(\d+)\.\d+")
_FULL = re.compile(r"No space left|not enough space|Disk quota|File too large", re.IGNORECASE)
_CAUSE = re.compile(r"Caused by: (?:[\w$.]+: )*(.+)")
_NOISE = re.compile(
    r"^(Run with|WARNING|at |\.\.\.|Peak memory|IMPORT FAILED|Error importing csv file|[\w$.]+Exception: |$)"
)
_MAX_REASON = 300
_VERBOSE = "--verbose"
"""Without it, neo4j-admin does not tell why an import failed. With it, it names its stages, but no percentages."""


def import_command(admin: str, arguments: str, database: str, *, overwrite: bool = False) -> list[str]:
    """The importer's command line, to be run in the folder of the file of arguments."""
    options = ["--overwrite-destination=true"] if overwrite else []
    return [admin, "database", "import", "full", f"@{arguments}", *options, database]


def run_import(admin: str, folder: Path, arguments: str, database: str, *, overwrite: bool, progress: Progress) -> None:
    """Import the files of a folder into a stopped, empty database.

    Args:
        admin: the command `neo4j-admin`, or its path. It finds the database by NEO4J_HOME and NEO4J_CONF.
        arguments: name of the file of options in the folder.
        overwrite: delete what the database holds.

    Raises:
        InputError: `admin` cannot be run.
        SchemaError: it belongs to another version of Neo4j.
        LocationError: the database is running, or exists and `overwrite` is False.
        StoreFullError: the server's disk is full.
        StoreError: the import failed for another reason.
    """
    _check_version(admin)
    *command, last = import_command(admin, arguments, database, overwrite=overwrite)
    code, lines = _run([*command, _VERBOSE, last], folder, progress)
    if code:
        raise _failed(lines, database)


def _check_version(admin: str) -> None:
    try:
        done = subprocess.run([admin, "--version"], capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        raise InputError(
            f"{admin} cannot be run ({error.strerror}); name the neo4j-admin of the server, such as "
            "/opt/neo4j/bin/neo4j-admin"
        ) from error
    found = _VERSION.search(done.stdout)
    if done.returncode or found is None:
        reason = _reason((done.stdout + done.stderr).splitlines())
        raise InputError(f"{admin} does not tell its version ({reason}); name the neo4j-admin of the server")
    if (int(found[1]), int(found[2])) < IMPORTER:
        raise SchemaError(
            f"{admin} is of Neo4j {found[0]}, and the files need the importer of Neo4j 5 or newer; upgrade the server"
        )


def _run(command: Sequence[str], folder: Path, progress: Progress) -> tuple[int, list[str]]:
    """Run the importer; return its exit code and the lines that it printed besides its progress."""
    lines = []
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if found := _STAGE.match(line.rpartition("GiB")[2]):
                    progress.stage(f"import: {found[1].lower()}")
                else:
                    lines.append(line.strip())
        except BaseException:
            process.kill()
            raise
    return process.returncode, lines


def _failed(lines: list[str], database: str) -> MemstoreError:
    text = "\n".join(lines)
    if "database is in use" in text:
        return LocationError(f"the database {database} is running; stop the server, and run the same command again")
    if "Database already exist" in text or "already contains data" in text:
        return LocationError(
            f"the database {database} exists: it was started once, holds data, or an import of it was interrupted; "
            "where nothing in it is needed, run the same command with --overwrite, which deletes it"
        )
    if _FULL.search(text):
        return StoreFullError(
            f"the disk of the database {database} is full and the import is not whole, so that the server will not "
            "start this database; free some space, and run the same command with --overwrite"
        )
    return StoreError(
        f"neo4j-admin could not import into the database {database} ({_reason(lines)}); correct that, and run the same "
        "command with --overwrite"
    )


def _reason(lines: Sequence[str]) -> str:
    """The innermost cause, or the last line that says something."""
    causes = [found[1] for line in lines if (found := _CAUSE.match(line))]
    said = causes or [line for line in lines if not _NOISE.match(line)]
    return (said[-1] if said else "it gave no reason")[:_MAX_REASON].rstrip(". ")
