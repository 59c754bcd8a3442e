"""Options that several verbs share, options grouped in dataclasses, and the error for wrong usage."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from memstore.records.record import RecordDefaults


class UsageError(typer.TyperException):
    """The command was called with invalid options; exit code 2."""

    exit_code = 2


def with_option_groups(verb: Callable[..., None]) -> Callable[..., None]:
    """Replace each parameter of a verb that is a dataclass by the dataclass's fields, one option or argument each.

    Typer reads options from a function's signature. This lets a verb with many options group them by theme:

        @dataclass(frozen=True)
        class SamplingOptions:
            top_p: Annotated[float, typer.Option("--top-p", help="Nucleus sampling.")] = 1.0

        @with_option_groups
        def rollout(sampling: SamplingOptions, as_json: JsonOption = False) -> None: ...
    """
    signature = inspect.signature(verb, eval_str=True)
    groups: dict[str, type[Any]] = {
        name: parameter.annotation
        for name, parameter in signature.parameters.items()
        if isinstance(parameter.annotation, type) and is_dataclass(parameter.annotation)
    }

    def command(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(**{field.name: values.pop(field.name) for field in fields(group)})
        verb(**values)

    parameters: list[inspect.Parameter] = []
    for name, parameter in signature.parameters.items():
        group = inspect.signature(groups[name], eval_str=True) if name in groups else None
        parameters += group.parameters.values() if group else [parameter]
    keywords = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    command.__signature__ = inspect.Signature(keywords)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in keywords}
    command.__name__, command.__doc__, command.__module__ = verb.__name__, verb.__doc__, verb.__module__
    return command


NO_MEMORY = "no memory given; pass --memory LOCATION, or set MEMSTORE_MEMORY"


def need_memory(location: str) -> str:
    """The location, or `env` if only the environment names servers.

    Raises:
        UsageError: neither is given.
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
        help="The memory: a folder, a profile of memstore.toml, or env. Required here or in the environment.",
    ),
]

OptionalMemoryOption = Annotated[
    str,
    typer.Option(
        "--memory",
        envvar="MEMSTORE_MEMORY",
        metavar="LOCATION",
        show_default=False,
        help="The memory: a folder, a profile of memstore.toml, or env. Required unless the options say otherwise.",
    ),
]

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")]

DeviceOption = Annotated[
    str | None,
    typer.Option(
        "--device",
        envvar="MEMSTORE_DEVICE",
        metavar="DEVICE",
        show_default=False,
        help="Compute device: cpu, cuda, cuda:1. Default: a GPU if there is one.",
    ),
]

ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="ID",
        show_default=False,
        help="Id of a reward model (a prefix is enough). Default: the one in use.",
    ),
]

CodeOption = Annotated[bool, typer.Option("--code", help="Grade programs by running them in the sandbox.")]

DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        envvar="MEMSTORE_DATA",
        metavar="DIR",
        show_default=False,
        help="Read benchmarks from local copies (DIR/NAME) instead of the hub.",
    ),
]

ReplaceOption = Annotated[
    bool, typer.Option("--replace", help="Overwrite an existing reward that contradicts the new one.")
]


class Domain(StrEnum):
    """The kind of answer that a query expects."""

    MATH = "math"
    QA = "qa"
    CODE = "code"
    OTHER = "other"


DatasetOption = Annotated[
    str | None, typer.Option("--dataset", show_default=False, help="Dataset of rows that name none.")
]

DomainOption = Annotated[
    Domain | None, typer.Option("--domain", show_default=False, help="Domain of rows that name none.")
]

RewardColumnOption = Annotated[
    str | None,
    typer.Option("--reward-column", show_default=False, help="Column that holds the reward, for example TRL's."),
]

MapOption = Annotated[
    str | None,
    typer.Option(
        "--map",
        metavar="KEY=PATH,...",
        show_default=False,
        help="Where rows of an unknown layout have their values, such as query=doc.question,response=texts.0.",
    ),
]

RequestsOption = Annotated[
    Path | None,
    typer.Option(
        "--requests", metavar="FILE", show_default=False, help="Input of the OpenAI batch whose output is read."
    ),
]


def record_defaults(
    dataset: str | None,
    domain: Domain | None,
    reward_column: str | None,
    *,
    policy: str | None = None,
    run: str | None = None,
    paths: str | None = None,
    requests: Path | None = None,
) -> RecordDefaults:
    """Build `RecordDefaults` from the options of a verb that reads rollouts."""
    from memstore.records.paths import parse_paths
    from memstore.records.record import RecordDefaults
    from memstore.records.rollouts import read_requests

    return RecordDefaults(
        dataset=dataset,
        domain=domain.value if domain else None,
        policy=policy,
        run=run,
        reward_column=reward_column,
        paths=parse_paths(paths) if paths is not None else {},
        requests=read_requests(requests) if requests is not None else {},
    )
