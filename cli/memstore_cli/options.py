"""The options that every verb takes, declared once, and the error for a wrong use of any."""

from __future__ import annotations

import os
from typing import Annotated

import typer


class UsageError(typer.TyperException):
    """The command was called in a way that it does not know; exit code 2."""

    exit_code = 2


NO_MEMORY = "no memory is named; pass --memory LOCATION, or set MEMSTORE_MEMORY"


def need_memory(location: str) -> str:
    """The location, or `env` where only the environment names servers.

    Raises:
        UsageError: neither does.
    """
    if location:
        return location
    if "MEMSTORE_NEO4J_URI" in os.environ:
        return "env"
    raise UsageError(NO_MEMORY)


MemoryOption = Annotated[
    str,
    typer.Option(
        "--memory",
        envvar="MEMSTORE_MEMORY",
        metavar="LOCATION",
        show_default=False,
        callback=need_memory,
        help="The memory: a folder, a profile of memstore.toml, or env; needed here or in the environment.",
    ),
]

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, and nothing else.")]

DeviceOption = Annotated[
    str | None,
    typer.Option(
        "--device",
        envvar="MEMSTORE_DEVICE",
        metavar="DEVICE",
        show_default=False,
        help="Where to compute: cpu, cuda, cuda:1. Without it: a GPU where there is one.",
    ),
]
