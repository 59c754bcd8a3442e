"""Open the parts of a memory at its location.

    part          in a folder, which one process owns             on servers
    graph         graph/       LadybugDB                          Neo4j, in a namespace
    vectors       vectors/     SQLite                             Milvus, in the same namespace
    features      features/    SQLite                             Milvus, in the same namespace
    cache         embeddings/  vectors by content hash            the same, in the local folder
    models        models/      reward models                      the same, in the local folder
    rejects       rejects/     rows that could not be ingested    the same, in the local folder
    marker        memstore.json                                   the namespace's own node in the graph

Several processes may open one memory on servers, but a cache has one owner. Each process takes the first cache of the
local folder that is free.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from memstore.embedding.cache import VectorCache
from memstore.embedding.protocol import Fingerprint
from memstore.errors import LocationError, LockedError, SchemaError, StoreError
from memstore.graph.lock import OwnerLock
from memstore.graph.protocol import GraphStore
from memstore.locations.location import FolderLocation, Location, ServerLocation
from memstore.locations.settings import Settings
from memstore.runtime.disk_space import space_errors
from memstore.vectors.protocol import FEATURES, VectorStore
from memstore_schema.columns import SCHEMA_VERSION, NodeLabel

MARKER = "memstore.json"
"""File that marks a folder as a memory."""
CONVERTED = "graph.converted"
"""Folder of a graph that a migration has built and not put in place yet."""
LAYOUT = 2
"""Version of the folder's layout; a newer one is refused. Since 2, `vectors/` may refer to `embeddings/`."""


class OpenedGraph(NamedTuple):
    """An open graph and the namespace of its memory."""

    graph: GraphStore
    namespace: str


def open_graph(location: Location, settings: Settings, *, create: bool) -> OpenedGraph:
    """Open the graph of a memory; with `create`, make the memory if there is none.

    Raises:
        LocationError: there is no memory, or the folder or database holds something else.
        LockedError: another process owns the folder.
        SchemaError, StoreError: the graph cannot be used; the message says what to do.
    """
    if isinstance(location, ServerLocation):
        return OpenedGraph(open_server_graph(location, create=create), location.namespace)
    from memstore.graph.ladybug import LadybugGraph

    namespace = prepare_folder(location, create)
    folder = location.folder / "graph"
    if not folder.exists() and (location.folder / CONVERTED).exists():
        raise SchemaError(f"the migration of the memory {location} was interrupted; finish it with: memstore migrate")
    buffer = settings.graph_buffer_mb * 2**20
    return OpenedGraph(
        LadybugGraph.open(folder, create=create or not folder.exists(), buffer_pool_bytes=buffer), namespace
    )


def prepare_schema(graph: GraphStore, location: Location) -> None:
    """Give a graph without content the present schema.

    Raises:
        SchemaError: the graph has content of an older schema.
    """
    version = graph.schema_version()
    if 0 < version < SCHEMA_VERSION and len(graph.nodes(NodeLabel.QUERY, ["id"])):
        raise SchemaError(
            f"the memory {location} has schema {version}, and this memstore needs schema {SCHEMA_VERSION}; convert it "
            "with: memstore migrate"
        )
    graph.migrate()


def open_server_graph(location: ServerLocation, *, create: bool, retry_s: float | None = None) -> GraphStore:
    """Open the graph of a memory on servers; `retry_s` in seconds as in `Neo4jGraph.open`, None uses its default."""
    from memstore.graph.neo4j import Neo4jGraph
    from memstore.graph.neo4j.store import RETRY_SECONDS

    return Neo4jGraph.open(
        location.neo4j_uri,
        user=location.neo4j_user,
        password=location.neo4j_password,
        database=location.neo4j_database,
        namespace=location.namespace,
        create=create,
        retry_s=RETRY_SECONDS if retry_s is None else retry_s,
    )


@contextmanager
def opened_vectors(
    location: Location, fingerprint: Fingerprint, namespace: str, cache: VectorCache | None, *, read_only: bool = False
) -> Iterator[VectorStore]:
    """Open the vectors of one embedder; a missing collection is created, unless the memory is `read_only`.

    Args:
        cache: the memory's cache, for a memory in a folder.
    """
    name, dimension = str(fingerprint), fingerprint.dimension
    with _opened_store(location, "vectors", name, dimension, namespace, read_only, cache) as vectors:
        yield vectors


@contextmanager
def opened_features(
    location: Location, dimension: int, namespace: str, *, read_only: bool = False
) -> Iterator[VectorStore]:
    """Open the features of rollouts; a missing collection is created, unless the memory is `read_only`."""
    with _opened_store(location, "features", f"{FEATURES}{dimension}", dimension, namespace, read_only) as features:
        yield features


@contextmanager
def _opened_store(
    location: Location,
    part: str,
    name: str,
    dimension: int,
    namespace: str,
    read_only: bool,
    cache: VectorCache | None = None,
) -> Iterator[VectorStore]:
    """Open a collection: in the folder `part` of a memory in a folder, or on the memory's Milvus server."""
    if isinstance(location, FolderLocation):
        from memstore.vectors.embedded import EmbeddedVectors

        with EmbeddedVectors.open(
            location.folder / part,
            fingerprint=name,
            dimension=dimension,
            namespace=namespace,
            cache=cache,
            create=not read_only,
        ) as embedded:
            yield embedded
        return
    from memstore.vectors.milvus import MilvusVectors

    token = location.milvus_token.get_secret_value() if location.milvus_token is not None else None
    with MilvusVectors.open(
        location.milvus_uri, fingerprint=name, dimension=dimension, namespace=namespace, token=token
    ) as vectors:
        yield vectors


@contextmanager
def opened_cache(location: Location, fingerprint: Fingerprint, *, read_only: bool = False) -> Iterator[VectorCache]:
    """Open the cache of one embedder's vectors by content, owned by this process or, with `read_only`, only read."""
    folder = location.folder / "embeddings" / str(fingerprint)
    if isinstance(location, FolderLocation):
        with closing(VectorCache.open(folder, fingerprint.dimension, read_only=read_only)) as cache:
            yield cache
        return
    lock, free = _first_free(folder)
    try:
        with closing(VectorCache.open(free, fingerprint.dimension)) as cache:
            yield cache
    finally:
        lock.release()


def _first_free(folder: Path) -> tuple[OwnerLock, Path]:
    """Lock the first of the numbered folders in `folder` that no process owns."""
    for number in itertools.count():
        slot = folder / str(number)
        try:
            slot.mkdir(parents=True, exist_ok=True)
            return OwnerLock(slot), slot
        except LockedError:
            continue
        except OSError as error:
            raise StoreError(
                f"cannot create the local folder {slot}: {error.strerror}; choose another with "
                "MEMSTORE_CACHE_FOLDER, or cache_folder in the profile"
            ) from error
    raise AssertionError("itertools.count ended")


def prepare_folder(location: FolderLocation, create: bool) -> str:
    """Check that the folder is a memory, or make it one if `create`; return its namespace."""
    folder = location.folder
    marker = folder / MARKER
    if marker.is_file():
        return _read_marker(marker).namespace
    if folder.exists() and not folder.is_dir():
        raise LocationError(f"{folder} is a file, not the folder of a memory; name a folder")
    temporary = marker.with_suffix(".tmp")  # left behind by a process that was killed before it renamed it
    if folder.is_dir() and any(path != temporary for path in folder.iterdir()):
        raise LocationError(f"{folder} is not empty and holds no memory; name the folder of a memory, or an empty one")
    if not create:
        raise LocationError(f"there is no memory at {folder}; make one with: memstore ingest FILE --memory {location}")
    try:
        with space_errors(f"no space left to make a memory in {folder}; free some and run the same command again"):
            folder.mkdir(parents=True, exist_ok=True)
            _write_marker(marker, "default")
    except PermissionError as error:
        raise LocationError(f"cannot write to {folder}; choose another folder, or change its permissions") from error
    return "default"


def raise_layout(folder: Path) -> None:
    """Record that the memory has the present layout, before something is written that older versions cannot read."""
    marker = folder / MARKER
    layout, namespace = _read_marker(marker)
    if layout < LAYOUT:
        with space_errors(f"no space left to write to {marker}; free some and run the same command again"):
            _write_marker(marker, namespace)


class _Marker(NamedTuple):
    """The content of a marker."""

    layout: int
    namespace: str


def _write_marker(marker: Path, namespace: str) -> None:
    temporary = marker.with_suffix(".tmp")
    temporary.write_text(json.dumps({"memstore": LAYOUT, "namespace": namespace}) + "\n", encoding="utf-8")
    temporary.rename(marker)


def _read_marker(marker: Path) -> _Marker:
    try:
        content = json.loads(marker.read_text(encoding="utf-8"))
        found = _Marker(int(content["memstore"]), str(content["namespace"]))
    except (ValueError, KeyError, TypeError) as error:
        raise LocationError(f"{marker} is damaged; restore it from a backup, or name another folder") from error
    if found.layout > LAYOUT:
        raise SchemaError(
            f"the memory {marker.parent} has layout {found.layout}, but this memstore supports layouts up to {LAYOUT}; "
            "install a newer one: pip install -U memstore"
        )
    return found
