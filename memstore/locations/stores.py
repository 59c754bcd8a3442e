"""The stores of one open memory: graph, vectors and vector cache, with the embedder and settings that they share.

The pipeline (`memstore.pipeline`) and the snapshots (`memstore.snapshots`) work on a `Stores`; `memstore.memory.Memory`
owns one and offers their functions as methods. The graph is open from the start. Vector store, cache and embedder are
opened on first use, because they are slow to load and many commands do without them.

The graph's metadata record what the data depend on: embedder, splitter version and link settings. They are written
once and win over the settings from then on.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import logging
import os
import weakref
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from memstore.embedding.cache import VectorCache
from memstore.embedding.cached import embed_cached
from memstore.embedding.protocol import Embedder, Fingerprint
from memstore.errors import EmbedderError, LockedError, MemstoreError, ReadOnlyError, SchemaError, StoreError
from memstore.graph.protocol import GraphStore
from memstore.locations.earlier_vectors import update_vectors
from memstore.locations.forked import ForkedStore
from memstore.locations.location import FolderLocation, Location
from memstore.locations.opening import MARKER, open_graph, opened_cache, opened_features, opened_vectors, prepare_schema
from memstore.locations.settings import Settings
from memstore.progress import Progress, Silent
from memstore.text import OLDER_SPLITTERS, SPLITTER_VERSION
from memstore.types import FloatMatrix, VectorKind
from memstore.vectors.embedded import EmbeddedVectors
from memstore.vectors.knn import LinkSettings
from memstore.vectors.protocol import VectorStore
from memstore_schema.columns import NodeLabel

logger = logging.getLogger(__name__)
_OPENED_LATER = ("vectors", "features", "cache")
"""Stores that are opened on first use."""


class Stores:
    """The open stores of a memory. Call `close` when done.

    Args:
        location: where the memory is.
        graph: its graph, open and migrated.
        settings: what applies where the memory has recorded nothing yet.
        embedder: the embedder to use; None loads the recorded one, or the one that the settings name, on first use.
        namespace: the namespace of graph and vectors.

    Raises:
        SchemaError: the memory was built with a newer version of the splitter. A memory of an older version opens with
            a warning.
        EmbedderError: `embedder` is not the one that the memory was built with.
    """

    def __init__(
        self, location: Location, graph: GraphStore, settings: Settings, embedder: Embedder | None, namespace: str
    ) -> None:
        self.location = location
        self.graph = graph
        self.settings = settings
        self.namespace = namespace
        self.closed = False
        self.created = False
        """Whether opening made the memory, in a folder that held none."""
        self._given_embedder = embedder
        self._temporary_fingerprint: Fingerprint | None = None
        self._opened = ExitStack()
        self._meta = graph.read_meta()
        self._check_splitter()
        if embedder is not None:
            self._check_embedder(embedder)
        # A memory that nobody holds any more is closed, so that it can be opened again.
        self._finalizer = weakref.finalize(self, _close_dropped, self._opened, graph)
        self._finalizer.atexit = False
        _open_stores.add(self)

    @classmethod
    def open(cls, location: Location, settings: Settings, *, embedder: Embedder | None, create: bool) -> Self:
        """Open the stores of the memory at `location`; with `create`, make the memory if there is none.

        Raises:
            LocationError: there is no memory at the location, or it holds something else.
            LockedError: another process owns the folder.
            SchemaError, EmbedderError, StoreError: the stores cannot be used; the message says what to do.
        """
        # The working directory may change while the memory is open.
        location = replace(location, folder=location.folder.absolute())
        created = isinstance(location, FolderLocation) and not (location.folder / MARKER).exists()
        try:
            graph, namespace = open_graph(location, settings, create=create)
        except LockedError as error:
            if error.pid != os.getpid():
                raise
            gc.collect()  # the owner may be an unreachable memory in a reference cycle
            graph, namespace = open_graph(location, settings, create=create)
        try:
            prepare_schema(graph, location)
            stores = cls(location, graph, settings, embedder, namespace)
            stores.created = created
            return stores
        except BaseException:
            graph.close()
            raise

    def close(self) -> None:
        """Close everything that is open. Calling it again does nothing.

        Raises:
            StoreError: a forked child of the process that opened the memory called it.
        """
        if isinstance(self.graph, ForkedStore):
            self.graph.refuse()
        self._finalizer.detach()
        self.closed = True
        for name in _OPENED_LATER:
            self.__dict__.pop(name, None)
        try:
            self._opened.close()
        finally:
            self.graph.close()

    def check_writable(self) -> None:
        """Refuse a memory in a folder that cannot be written to, before anything expensive is computed for it.

        Raises:
            ReadOnlyError: the memory is only read.
        """
        if self.graph.read_only:
            raise ReadOnlyError(
                f"the memory {self.location} cannot be written to, so it is only read; copy it to a folder that can be "
                "written to, or make this one writable"
            )

    def _disown(self) -> None:
        """Make every use of the stores an error in a forked child.

        The child lacks the threads of the databases: a query, a close or a destructor would wait for them for ever. The
        references to the databases are therefore never released.
        """
        self._finalizer.detach()
        for part in (self.graph, self._opened, *map(self.__dict__.get, _OPENED_LATER)):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(part))
        forked: Any = ForkedStore(self.location)
        self.graph = forked
        self.__dict__.update(dict.fromkeys(_OPENED_LATER, forked))

    # -- stores -------------------------------------------------------------------------------------------------

    @cached_property
    def vectors(self) -> VectorStore:
        """The vector store, opened on first use."""
        cache = self.cache if isinstance(self.location, FolderLocation) else None
        vectors = self._opened.enter_context(
            opened_vectors(
                self.location, self.settled_fingerprint(), self.namespace, cache, read_only=self.graph.read_only
            )
        )
        if isinstance(vectors, EmbeddedVectors) and not self.graph.read_only:
            update_vectors(self.location.folder, self.graph, vectors, self.cache)
        return vectors

    @cached_property
    def cache(self) -> VectorCache:
        """Vectors by content hash, opened on first use."""
        return self._opened.enter_context(
            opened_cache(self.location, self.settled_fingerprint(), read_only=self.graph.read_only)
        )

    @cached_property
    def features(self) -> VectorStore:
        """The features of rollouts by their ids, opened on first use.

        Raises:
            StoreError: no rollout has brought any yet.
        """
        if self.features_dimension is None:
            raise StoreError(f"no rollout of the memory {self.location} has features")
        return self._opened.enter_context(
            opened_features(self.location, self.features_dimension, self.namespace, read_only=self.graph.read_only)
        )

    @cached_property
    def embedder(self) -> Embedder:
        """The embedder, loaded on first use and checked against the one that the memory was built with."""
        if self._given_embedder is not None:
            return self._given_embedder
        from memstore.embedding.minilm import load_embedder

        recorded = self.fingerprint
        embedder = load_embedder(
            recorded.model if recorded and self.settings.embedder.endswith(recorded.model) else self.settings.embedder,
            device=self.settings.device,
            long_text=recorded.long_text if recorded else self.settings.long_text,
        )
        self._check_embedder(embedder)
        return embedder

    @property
    def rejects_folder(self) -> Path:
        """Folder of the rows that could not be ingested."""
        return self.location.folder / "rejects"

    # -- metadata -----------------------------------------------------------------------------------------------

    @property
    def fingerprint(self) -> Fingerprint | None:
        """Fingerprint of the embedder that made the memory's vectors; None before the first ingest."""
        if self._temporary_fingerprint is not None:
            return self._temporary_fingerprint
        recorded = self._meta.get("embedder")
        return Fingerprint(**json.loads(recorded)) if recorded else None

    def settled_fingerprint(self) -> Fingerprint:
        """The recorded fingerprint. An empty memory records that of the embedder in use, and the splitter version."""
        recorded = self.fingerprint
        if recorded is None:
            recorded = self.embedder.fingerprint
            self._write_meta({"embedder": json.dumps(asdict(recorded), sort_keys=True), "splitter": SPLITTER_VERSION})
        return recorded

    @property
    def splitter(self) -> str:
        """Version of the splitter that separated the memory's answers from the reasoning."""
        return self._meta.get("splitter", SPLITTER_VERSION)

    @property
    def link_settings(self) -> LinkSettings:
        """Settings that the memory's nodes are linked with; recorded on first use, if the memory can be written to."""
        recorded = self._meta.get("links")
        if recorded is None:
            if self.graph.read_only:
                return self.settings.link_settings()
            self.record_link_settings(self.settings.link_settings())
            recorded = self._meta["links"]
        return LinkSettings(**json.loads(recorded))

    def record_link_settings(self, settings: LinkSettings) -> None:
        """Record the memory's link settings. Nodes that were linked with other settings count as not linked."""
        self._write_meta({"links": json.dumps(asdict(settings), sort_keys=True)})

    @property
    def link_mark(self) -> str:
        """Value of a node's `linked` column when its links are up to date: link settings and embedder."""
        return f"{self.link_settings} embedder={self.fingerprint}"

    @property
    def replaced_embedder(self) -> str | None:
        """Fingerprint of the embedder that `reembed` replaced, until its vectors are deleted."""
        return self._meta.get("replaced_embedder") or None

    @property
    def features_dimension(self) -> int | None:
        """Length of the features of the memory's rollouts; None as long as none has features."""
        recorded = self._meta.get("features")
        return int(recorded) if recorded else None

    def record_features(self, dimension: int | None) -> None:
        """Record the length of the features, which the first rollouts that have some decide; None if none has any."""
        if (opened := self.__dict__.pop("features", None)) is not None:
            opened.close()
        self._write_meta({"features": str(dimension or "")})

    def _write_meta(self, values: dict[str, str]) -> None:
        self.graph.write_meta(values)
        self._meta.update(values)

    def _check_embedder(self, embedder: Embedder) -> None:
        recorded, given = self.fingerprint, embedder.fingerprint
        if recorded is not None and recorded != given:
            raise EmbedderError(
                f"the memory {self.location} was built with {recorded.model} ({recorded}), but the embedder in use is "
                f"{given.model} ({given}); open the memory with its own embedder (MEMSTORE_EMBEDDER), or convert it "
                "with: memstore reembed"
            )

    def _check_splitter(self) -> None:
        recorded = self._meta.get("splitter")
        if recorded is None or recorded == SPLITTER_VERSION:
            return
        if recorded not in OLDER_SPLITTERS:
            raise SchemaError(
                f"the memory {self.location} was built with splitter {recorded}, but this memstore has splitter "
                f"{SPLITTER_VERSION}; open it with the newer memstore that built it"
            )
        logger.warning(
            "the memory %s was built with splitter %s, and this memstore reads some answers differently (splitter %s): "
            "its answers stay as they are, and rows ingested from now on may not share an answer with them; to read "
            "all answers anew, ingest the same files into a new memory",
            self.location, recorded, SPLITTER_VERSION,
        )  # fmt: skip

    # -- switching the embedder ---------------------------------------------------------------------------------

    @contextmanager
    def embedding_with(self, embedder: Embedder) -> Iterator[None]:
        """Use another embedder, with its vectors and cache, inside the context; the metadata stay as they are."""
        before = self._given_embedder
        self.use_embedder(embedder)
        self._temporary_fingerprint = embedder.fingerprint
        try:
            yield
        finally:
            self.use_embedder(before)
            self._temporary_fingerprint = None

    def replace_embedder(self, embedder: Embedder) -> None:
        """Make this the memory's embedder and record which one it replaced."""
        recorded = json.dumps(asdict(embedder.fingerprint), sort_keys=True)
        self.use_embedder(embedder)
        self._write_meta({"embedder": recorded, "replaced_embedder": str(self.fingerprint)})

    def forget_replaced_embedder(self) -> None:
        """Record that the replaced embedder's vectors are deleted."""
        self._write_meta({"replaced_embedder": ""})

    def use_embedder(self, embedder: Embedder | None) -> None:
        """Use this embedder: the stores of the one in use are closed, and opened for `embedder` on next use."""
        self._opened.close()
        for name in (*_OPENED_LATER, "embedder"):
            self.__dict__.pop(name, None)
        self._given_embedder = embedder

    # -- vectors of nodes ---------------------------------------------------------------------------------------

    def vectors_of(self, kind: VectorKind, nodes: list[str], keys: list[str]) -> FloatMatrix:
        """Vectors float32 [N, D] of nodes by vector key, from the cache, which is filled where it lacks them."""
        rows = self.cache.lookup(keys)
        if (rows < 0).any():
            self.fill_cache(kind, nodes, keys)
            rows = self.cache.lookup(keys)
        return self.cache.vectors(rows)

    def fill_cache(self, kind: VectorKind, nodes: list[str], keys: list[str], progress: Progress | None = None) -> None:
        """Add the vectors of these nodes to the cache: from the vector store, else by embedding the texts again."""
        absent = np.flatnonzero(self.cache.lookup(keys) < 0)
        if not len(absent):
            return
        node_of = {keys[i]: nodes[i] for i in absent}
        wanted = list(node_of)
        fetched = self.vectors.fetch(list(node_of.values()))
        found = np.flatnonzero(fetched.found)
        if len(found):
            self.cache.append([wanted[i] for i in found], fetched.vectors[found])
        rest = [node_of[wanted[i]] for i in np.flatnonzero(~fetched.found)]
        if rest:
            texts = self.embedded_texts(kind, rest)
            progress = progress or Silent()
            progress.stage("embed", len(texts))
            embed_cached(self.embedder, self.cache, list(texts.values()), progress.advance)

    def embedded_texts(self, kind: VectorKind, nodes: Sequence[str]) -> dict[str, str]:
        """The text that each node's vector is computed from, by node id: a blank thinking has its answer's text."""
        label = NodeLabel.QUERY if kind == "query" else NodeLabel.THINKING
        table = self.graph.nodes(label, ["id", "text"], ids=list(nodes))
        texts = dict(zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True))
        blank = {node for node, text in texts.items() if not text.strip()}
        if blank and kind == "thinking":
            answers = self.graph.answer_texts(sorted(blank))
            texts.update(zip(answers["id"].to_pylist(), answers["text"].to_pylist(), strict=True))
        return {node: texts[node] for node in nodes}


_open_stores: weakref.WeakSet[Stores] = weakref.WeakSet()


def _close_dropped(opened: ExitStack, graph: GraphStore) -> None:
    """Close the parts of stores that were dropped without `close`."""
    with contextlib.suppress(MemstoreError):
        opened.close()
    with contextlib.suppress(MemstoreError):
        graph.close()


def _disown_all() -> None:
    for stores in list(_open_stores):
        if not stores.closed:
            stores._disown()


os.register_at_fork(after_in_child=_disown_all)
