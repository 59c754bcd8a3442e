"""A memory, opened for a verb: settings read, libraries silenced, the library imported here and not before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from memstore_cli.options import UsageError
from memstore_cli.quiet import silence_libraries

if TYPE_CHECKING:
    from memstore.locations.settings import Settings
    from memstore.memory import Memory


def read_settings(**chosen: Any) -> Settings:
    """The environment's settings, with what the command line chose in their place; None chooses nothing.

    Raises:
        UsageError: a `MEMSTORE_*` variable or an option has a value that is not allowed.
    """
    from pydantic import ValidationError

    from memstore.locations.settings import Settings

    try:
        return Settings(**{name: value for name, value in chosen.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        where = f"--{name.replace('_', '-')}" if name in chosen else f"MEMSTORE_{name.upper()}"
        raise UsageError(f"{where} is {first['input']!r}: {first['msg']}") from error


@contextmanager
def opened(location: str, *, create: bool = False, **chosen: Any) -> Iterator[Memory]:
    """Open the memory at a location and close it again.

    Args:
        create: make it where there is none.
        chosen: settings that the command line chose, by name.
    """
    silence_libraries()
    from memstore.memory import Memory

    with Memory.open(location, create=create, settings=read_settings(**chosen)) as memory:
        yield memory
