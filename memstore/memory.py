"""The front door: a memory is opened at a location, used through its methods, and closed.

Where its parts lie is the business of `memstore.locations.stores`. What is slow to load (embedder, Milvus) is loaded
on first
use, so that looking at a memory stays quick.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc

from memstore.embedding.cache import VectorCache
from memstore.embedding.protocol import Embedder, Fingerprint
from memstore.errors import EmbedderError, InputError, SchemaError
from memstore.graph.protocol import CypherResult, GraphStore, ScoreBatch
from memstore.locations.location import FolderLocation, Location, ServerLocation, resolve_location
from memstore.locations.settings import Settings
from memstore.locations.stores import open_graph, opened_cache, opened_vectors
from memstore.pipeline.ingest import IngestOptions, IngestSummary, ensure_cached, ingest
from memstore.pipeline.link import LinkSummary, link_memory
from memstore.pipeline.reembed import ReembedSummary, reembed_memory
from memstore.pipeline.restore import restore_snapshot
from memstore.pipeline.stats import Stats, memory_stats
from memstore.pipeline.verify import VerifyReport, verify_memory
from memstore.progress import Progress
from memstore.snapshots.snapshot import Snapshot
from memstore.snapshots.take import take_snapshot
from memstore.text import SPLITTER_VERSION
from memstore.types import FloatMatrix, VectorKind
from memstore.vectors.knn import LinkSettings
from memstore.vectors.protocol import VectorStore
from memstore_schema.columns import EdgeType, NodeLabel


class Memory:
    """An open memory. Use it as a context manager, or call `close`.

    Example:
        with Memory.open("my-memory", create=True) as memory:
            memory.ingest(["rollouts.jsonl"])
            snapshot = memory.snapshot()
    """

    def __init__(
        self, location: Location, graph: GraphStore, settings: Settings, embedder: Embedder | None, namespace: str
    ) -> None:
        self.location = location
        self.graph = graph
        self.settings = settings
        self.namespace = namespace
        self._given_embedder = embedder
        self._meanwhile: Fingerprint | None = None
        self._held = ExitStack()
        self._meta = graph.read_meta()
        self._check_splitter()
        if embedder is not None:
            self._check_embedder(embedder)

    @classmethod
    def open(
        cls,
        location: str | Path | Location | None = None,
        *,
        create: bool = False,
        embedder: Embedder | None = None,
        settings: Settings | None = None,
    ) -> Self:
        """Open the memory at a location.

        Args:
            location: a folder, a profile's name, `env`, or nothing for what the environment names; see
                `memstore.locations.location`.
            create: make a memory where the folder is missing or empty, or the servers have none in the namespace.
            embedder: use this one instead of loading the one that the settings name.

        Raises:
            LocationError: no memory there, or something else, or a location that means nothing.
            LockedError: another process owns the folder; the message names its pid.
            SchemaError, EmbedderError, StoreError: it cannot be used as it is; the message says what mends it.
        """
        settings = settings or Settings()
        if not isinstance(location, (FolderLocation, ServerLocation)):
            location = resolve_location(location, settings)
        graph, namespace = open_graph(location, settings, create=create)
        try:
            graph.migrate()
            return cls(location, graph, settings, embedder, namespace)
        except BaseException:
            graph.close()
            raise

    # -- what it consists of ------------------------------------------------------------------------------------

    @cached_property
    def embedder(self) -> Embedder:
        """The embedder, loaded on first use and checked against the one this memory was built with."""
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
    def fingerprint(self) -> Fingerprint | None:
        """The embedder of this memory's vectors; None before its first ingest."""
        if self._meanwhile is not None:
            return self._meanwhile
        recorded = self._meta.get("embedder")
        return Fingerprint(**json.loads(recorded)) if recorded else None

    @cached_property
    def cache(self) -> VectorCache:
        """Vectors by content hash."""
        return self._held.enter_context(opened_cache(self.location, self.settled_fingerprint()))

    @cached_property
    def vectors(self) -> VectorStore:
        """The vector store, opened on first use."""
        fingerprint = self.settled_fingerprint()
        return self._held.enter_context(opened_vectors(self.location, fingerprint, self.namespace))

    @property
    def link_settings(self) -> LinkSettings:
        """How this memory's nodes are linked; recorded with the first link."""
        recorded = self._meta.get("links")
        if recorded is None:
            self.record_link_settings(self.settings.link_settings())
            recorded = self._meta["links"]
        return LinkSettings(**json.loads(recorded))

    @property
    def link_mark(self) -> str:
        """What a node's `linked` says when its links are up to date: how they were made, and of whose vectors."""
        return f"{self.link_settings} embedder={self.fingerprint}"

    @property
    def replaced_embedder(self) -> str | None:
        """Fingerprint of the embedder that a `reembed` replaced and has not cleared away yet."""
        return self._meta.get("replaced_embedder") or None

    @property
    def splitter(self) -> str:
        """Version of the splitter that this memory's answers were read with."""
        return self._meta.get("splitter", SPLITTER_VERSION)

    @property
    def folder(self) -> Path:
        """The folder on this machine: all of an embedded memory, of one on servers what is derived or a file."""
        return self.location.folder

    @property
    def rejects_folder(self) -> Path:
        """Where rows that could not go in are kept."""
        return self.folder / "rejects"

    @property
    def models_folder(self) -> Path:
        """Where the reward models of this memory are kept."""
        return self.folder / "models"

    # -- what it does -------------------------------------------------------------------------------------------

    def ingest(
        self,
        sources: Sequence[str | Path],
        options: IngestOptions | None = None,
        *,
        rejects_file: Path | None = None,
        progress: Progress | None = None,
    ) -> IngestSummary:
        """Add the rollouts of these files; see `memstore.pipeline.ingest.ingest`."""
        return ingest(self, sources, options, rejects_file=rejects_file, progress=progress)

    def link(self, settings: LinkSettings | None = None, *, progress: Progress | None = None) -> LinkSummary:
        """Link what is not linked; with other settings than the memory's, link all of it anew."""
        return link_memory(self, settings, progress=progress)

    def reembed(self, embedder: Embedder, *, progress: Progress | None = None) -> ReembedSummary:
        """Move the memory to another embedder; see `memstore.pipeline.reembed.reembed_memory`."""
        return reembed_memory(self, embedder, progress=progress)

    def snapshot(self, *, texts: bool = True) -> Snapshot:
        """A frozen copy, in memory; without texts it is quicker and smaller."""
        return take_snapshot(self, texts=texts)

    def restore(self, snapshot: Snapshot, *, merge: bool = False, progress: Progress | None = None) -> int:
        """Write a snapshot into this memory; see `memstore.pipeline.restore.restore_snapshot`."""
        return restore_snapshot(self, snapshot, merge=merge, progress=progress)

    def stats(self) -> Stats:
        """What the memory holds, counted."""
        return memory_stats(self)

    def cypher(
        self,
        query: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        write: bool = False,
        timeout_s: float | None = None,
    ) -> CypherResult:
        """Run Cypher on the graph, read-only unless `write`; a query that writes has done so when this returns."""
        result = self.graph.cypher(query, parameters, write=write, timeout_s=timeout_s)
        return CypherResult(result.columns, iter(list(result.rows))) if write else result

    def label(self, rewards: Mapping[str, float], *, source: str = "person", replace: bool = False) -> int:
        """Give rollouts a ground truth by id; return how many changed.

        Raises:
            LabelConflict: one is known to be otherwise and `replace` is False.
            InputError: an id that is not in the memory, or a reward outside 0..1.
        """
        for rollout, reward in rewards.items():
            if not 0.0 <= reward <= 1.0:
                raise InputError(f"a reward lies between 0 and 1; {rollout} was given {reward:g}")
        table = pa.table(
            {
                "id": pa.array(list(rewards), pa.string()),
                "reward": pa.array(list(rewards.values()), pa.float64()),
                "reward_source": pa.array([source] * len(rewards), pa.string()),
            }
        )
        return self.graph.set_labels(table, replace=replace)

    def record_scores(self, batch: ScoreBatch) -> None:
        """Write a model's predictions as SCORED_BY; append only."""
        self.graph.append_scores(batch)

    def verify(self, *, repair: bool = False, progress: Progress | None = None) -> VerifyReport:
        """Look for what does not fit together; with `repair`, mend it."""
        return verify_memory(self, repair=repair, progress=progress)

    # -- what the parts above need of it ------------------------------------------------------------------------

    def embedded_texts(self, kind: VectorKind, nodes: Sequence[str]) -> dict[str, str]:
        """The text that each node's vector is of, by node id."""
        label = NodeLabel.QUERY if kind == "query" else NodeLabel.THINKING
        table = self.graph.nodes(label, ["id", "text"], ids=list(nodes))
        texts = dict(zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True))
        blank = {node for node, text in texts.items() if not text.strip()}
        if blank and kind == "thinking":
            thinkings = self.graph.nodes(NodeLabel.THINKING, ["id"])["id"]
            edges = self.graph.edges(EdgeType.LEADS_TO, NodeLabel.THINKING, NodeLabel.ANSWER)
            source = thinkings.take(pa.array(edges.source))
            of_blank = pc.is_in(source, value_set=pa.array(sorted(blank)))
            written = edges.properties["text"].filter(of_blank).to_pylist()
            texts.update(zip(source.filter(of_blank).to_pylist(), written, strict=True))
        return {node: texts[node] for node in nodes}

    def vectors_of(self, kind: VectorKind, nodes: list[str], keys: list[str]) -> FloatMatrix:
        """Vectors float32 [N, D] of nodes by their vector keys, from the cache; what it lacks is made good."""
        ensure_cached(self, kind, nodes, keys)
        return self.cache.vectors(self.cache.lookup(keys))

    def record_link_settings(self, settings: LinkSettings) -> None:
        """Make these the memory's link settings; nodes linked under others count as not linked."""
        self._write_meta({"links": json.dumps(asdict(settings), sort_keys=True)})

    @contextmanager
    def embedding_with(self, embedder: Embedder) -> Iterator[None]:
        """Inside, vectors, cache and embedder are those of another embedder; what is recorded stays as it is."""
        before = self._given_embedder
        self._use_embedder(embedder)
        self._meanwhile = embedder.fingerprint
        try:
            yield
        finally:
            self._use_embedder(before)
            self._meanwhile = None

    def replace_embedder(self, embedder: Embedder) -> None:
        """Make this the memory's embedder, and note which one it replaced."""
        recorded = json.dumps(asdict(embedder.fingerprint), sort_keys=True)
        self._use_embedder(embedder)
        self._write_meta({"embedder": recorded, "replaced_embedder": str(self.fingerprint)})

    def forget_replaced_embedder(self) -> None:
        """Nothing is left of the embedder that was replaced."""
        self._write_meta({"replaced_embedder": ""})

    def _use_embedder(self, embedder: Embedder | None) -> None:
        """Let go of what belongs to the embedder in use; the next use opens what belongs to this one."""
        self._held.close()
        for name in ("vectors", "cache", "embedder"):
            self.__dict__.pop(name, None)
        self._given_embedder = embedder

    def _write_meta(self, values: dict[str, str]) -> None:
        self.graph.write_meta(values)
        self._meta.update(values)

    def settled_fingerprint(self) -> Fingerprint:
        """The recorded fingerprint; an empty memory settles on the embedder in use now."""
        recorded = self.fingerprint
        if recorded is None:
            recorded = self.embedder.fingerprint
            self._write_meta({"embedder": json.dumps(asdict(recorded), sort_keys=True), "splitter": SPLITTER_VERSION})
        return recorded

    def _check_embedder(self, embedder: Embedder) -> None:
        recorded, given = self.fingerprint, embedder.fingerprint
        if recorded is not None and recorded != given:
            raise EmbedderError(
                f"the memory {self.location} was built with {recorded.model} ({recorded}), and this is {given.model} "
                f"({given}); open it with its own (MEMSTORE_EMBEDDER), or move it to this one: memstore reembed"
            )

    def _check_splitter(self) -> None:
        recorded = self._meta.get("splitter")
        if recorded is not None and recorded != SPLITTER_VERSION:
            raise SchemaError(
                f"the memory {self.location} was built with splitter {recorded}, and this memstore has "
                f"{SPLITTER_VERSION}; make a new memory from the same files: answers would be read differently"
            )

    def close(self) -> None:
        """Release everything; calling it again does nothing."""
        for name in ("vectors", "cache"):
            self.__dict__.pop(name, None)
        try:
            self._held.close()
        finally:
            self.graph.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
