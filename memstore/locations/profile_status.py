"""List the named memories and check whether each can be opened. Nothing is created, loaded or locked.

A folder is reachable if it is a memory, whether or not another process owns it. Servers are reachable if both accept
the profile's credentials and the graph has the namespace.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from memstore.errors import MemstoreError, StoreError
from memstore.locations.location import FolderLocation, Location, ServerLocation, environment_location, location_of
from memstore.locations.opening import open_server_graph, prepare_folder
from memstore.locations.profiles import ENVIRONMENT, read_profiles
from memstore.locations.settings import Settings

RETRY_SECONDS = 2.0
"""Time after which an unreachable Neo4j server is given up, in seconds."""
MILVUS_SECONDS = 5.0
"""Time limit of a request to a Milvus server, in seconds."""
AT_ONCE = 8
"""Profiles that are checked concurrently."""


@dataclass(frozen=True)
class ProfileStatus:
    """A named memory and whether it can be opened."""

    name: str
    where: str
    """Folder or addresses, without secrets; empty if the description is invalid."""
    source: str
    """The file that describes it, or `environment`."""
    reason: str | None
    """Why the memory cannot be opened; None if it can."""

    @property
    def reachable(self) -> bool:
        """Whether the memory can be opened."""
        return self.reason is None

    def as_json(self) -> dict[str, Any]:
        """The document that the command prints with `--json`."""
        return {"name": self.name, "reachable": self.reachable, **asdict(self)}


def list_memories(settings: Settings) -> list[ProfileStatus]:
    """All profiles, and `env` if the environment names servers, ordered by name.

    Raises:
        LocationError: a `memstore.toml` cannot be read.
    """
    tasks: list[tuple[str, str, Callable[[], Location | None]]] = [
        (name, str(written.file), partial(location_of, written)) for name, written in read_profiles().items()
    ]
    if settings.neo4j_uri is not None:
        tasks.append((ENVIRONMENT, "environment", partial(environment_location, settings)))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = pool.map(lambda task: _status(*task), tasks)
        return sorted(found, key=lambda status: status.name)


def _status(name: str, source: str, locate: Callable[[], Location | None]) -> ProfileStatus:
    try:
        location = locate()
    except MemstoreError as error:
        return ProfileStatus(name, "", source, str(error))
    assert location is not None
    try:
        probe(location)
    except MemstoreError as error:
        return ProfileStatus(name, _address(location), source, str(error))
    return ProfileStatus(name, _address(location), source, None)


def _address(location: Location) -> str:
    if isinstance(location, FolderLocation):
        return str(location.folder)
    return f"{location.neo4j_uri} ({location.neo4j_database}), {location.milvus_uri}, namespace {location.namespace}"


def probe(location: Location) -> None:
    """Check that a memory can be opened.

    Raises:
        MemstoreError: it cannot be opened; the message says why.
    """
    if isinstance(location, FolderLocation):
        prepare_folder(location, create=False)
        return
    _probe_milvus(location)
    open_server_graph(location, create=False, retry_s=RETRY_SECONDS).close()


def _probe_milvus(location: ServerLocation) -> None:
    import grpc  # type: ignore[import-untyped]
    from pymilvus import MilvusClient
    from pymilvus.exceptions import MilvusException

    from memstore.vectors.calls import leave_logging_to_the_application

    leave_logging_to_the_application()
    token = location.milvus_token.get_secret_value() if location.milvus_token is not None else ""
    try:
        client = MilvusClient(location.milvus_uri, token=token, timeout=MILVUS_SECONDS)
        try:
            client.list_collections(timeout=MILVUS_SECONDS)
        finally:
            client.close()
    except (MilvusException, grpc.RpcError) as error:
        reason = str(getattr(error, "message", None) or error).splitlines()[0].rstrip(". ")
        raise StoreError(
            f"no Milvus server answers at {location.milvus_uri} ({reason}); start it, or correct its address or token"
        ) from error
