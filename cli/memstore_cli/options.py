"""The options that every verb takes, declared once, and the error for a wrong use of any."""

from __future__ import annotations

from typing import Annotated

import typer


class UsageError(typer.TyperException):
    """The command was called in a way that it does not know; exit code 2."""

    exit_code = 2


NO_MEMORY = "no memory is named; pass --memory FOLDER, or set MEMSTORE_MEMORY"


def _need_memory(location: str) -> str:
    if not location:
        raise UsageError(NO_MEMORY)
    return location


MemoryOption = Annotated[
    str,
    typer.Option(
        "--memory",
        envvar="MEMSTORE_MEMORY",
        metavar="FOLDER",
        show_default=False,
        callback=_need_memory,
        help="The folder of the memory; needed here or in the environment.",
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
