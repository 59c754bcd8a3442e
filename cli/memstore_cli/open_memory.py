"""Open a memory for a verb: read settings, quiet libraries, and import the library only then."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from memstore_cli.library_logging import quiet_libraries
from memstore_cli.options import UsageError

if TYPE_CHECKING:
    from memstore.locations.settings import Settings
    from memstore.memory import Memory


def read_settings(**options: Any) -> Settings:
    """Settings from the environment, overridden by command-line options that are not None.

    Raises:
        UsageError: a `MEMSTORE_*` variable or an option has an invalid value.
    """
    from pydantic import ValidationError

    from memstore.locations.settings import Settings

    try:
        return Settings(**{name: value for name, value in options.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        source = f"--{name.replace('_', '-')}" if name in options else f"MEMSTORE_{name.upper()}"
        raise UsageError(f"{source} is {first['input']!r}: {first['msg']}") from error


@contextmanager
def open_memory(location: str, *, create: bool = False, **options: Any) -> Iterator[Memory]:
    """Open the memory at a location, and close it on exit.

    Args:
        create: create it if it does not exist.
        options: settings given on the command line, by name.
    """
    quiet_libraries()
    from memstore.memory import Memory

    with Memory.open(location, create=create, settings=read_settings(**options)) as memory:
        yield memory
