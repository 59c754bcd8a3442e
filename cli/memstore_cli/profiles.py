"""`memstore profiles`: list the named memories and whether they are reachable."""

from __future__ import annotations

from memstore_cli.library_logging import quiet_libraries
from memstore_cli.open_memory import read_settings
from memstore_cli.options import JsonOption
from memstore_cli.output import counted, print_json


def profiles(as_json: JsonOption = False) -> None:
    """List the profiles of memstore.toml, and env, with the reason why one is not reachable."""
    quiet_libraries()
    from memstore.locations.profile_status import list_memories

    found = list_memories(read_settings())
    if as_json:
        print_json([status.as_json() for status in found])
        return
    width = max((len(status.name) for status in found), default=0)
    for status in found:
        print(f"{status.name:<{width}}  {status.where if status.reachable else f'not reachable: {status.reason}'}")
    reachable = sum(status.reachable for status in found)
    print(f"{counted(len(found), 'profile')}, {reachable} reachable" if found else "no profiles; see docs/settings.md")
