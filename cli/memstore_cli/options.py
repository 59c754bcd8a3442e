"""The options that several verbs take, declared once, and the error for a wrong use of any."""

from __future__ import annotations

import os
from enum import StrEnum
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


class Domain(StrEnum):
    """What kind of answer a query wants."""

    MATH = "math"
    QA = "qa"
    CODE = "code"
    OTHER = "other"


DatasetOption = Annotated[
    str | None, typer.Option("--dataset", show_default=False, help="The dataset of rows that name none.")
]

DomainOption = Annotated[
    Domain | None, typer.Option("--domain", show_default=False, help="The domain of rows that name none.")
]

RewardColumnOption = Annotated[
    str | None,
    typer.Option("--reward-column", show_default=False, help="The column that holds the reward, e.g. of TRL."),
]
