"""Reembed: convert a memory to another embedder. The memory stays usable throughout.

1. The new vectors are written to a cache and a collection of their own, while the memory keeps its old embedder. A run
   that is killed here keeps what it embedded.
2. One write to the graph makes the new embedder the memory's and records which embedder it replaced. All links count
   as outdated from then on, because the link mark contains the embedder.
3. The links are made again. Then the old vectors are deleted, and the record of the replaced embedder with them.

A run that is killed before step 2 has changed nothing. One that is killed later is finished by the next run, even if
that run asks for the embedder that the memory already has. The old cache is kept, so converting back needs no
embedding. Reward models are not converted: a model that was trained on the old vectors refuses the new ones.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from memstore.embedding.cached import embed_cached
from memstore.embedding.protocol import Embedder
from memstore.errors import InputError
from memstore.locations.stores import Stores
from memstore.pipeline.full_disk import resumable
from memstore.pipeline.link import link_memory
from memstore.pipeline.vectors import write_vectors
from memstore.progress import Progress, Silent
from memstore.types import VECTOR_KINDS, VectorKind
from memstore.vectors.labels import LABEL_OF

BLOCK_NODES = 8192
"""Nodes whose texts are read, embedded and written together."""


@dataclass
class ReembedSummary:
    """Counts of a `reembed_memory` call."""

    before: str
    """Fingerprint of the embedder before the call."""
    after: str
    """Fingerprint of the embedder after the call."""
    vectors: dict[str, int] = field(default_factory=dict)
    """Vectors that this call wrote, by kind of node."""
    links: dict[str, int] = field(default_factory=dict)
    """Similarity edges in the memory after the call, by kind of node."""

    def as_json(self) -> dict[str, Any]:
        """The document that the command prints with `--json`."""
        return asdict(self)


def reembed_memory(stores: Stores, embedder: Embedder, *, progress: Progress | None = None) -> ReembedSummary:
    """Convert a memory to `embedder`, or finish an interrupted conversion to it.

    Raises:
        InputError: the memory has no vectors yet.
        StoreFullError: the disk is full; the same call resumes.
    """
    stores.check_writable()
    progress = progress or Silent()
    if stores.fingerprint is None:
        raise InputError(f"the memory {stores.location} has no vectors to convert yet; ingest with the new embedder")
    summary = ReembedSummary(str(stores.fingerprint), str(embedder.fingerprint))
    with resumable(stores):
        _convert(stores, embedder, summary, progress)
    return summary


def _convert(stores: Stores, embedder: Embedder, summary: ReembedSummary, progress: Progress) -> None:
    if stores.fingerprint != embedder.fingerprint:
        with stores.embedding_with(embedder):
            _fill(stores, summary, progress)
        stores.replace_embedder(embedder)
    else:
        stores.use_embedder(embedder)
    # Another process may have added rollouts to a memory on servers while the vectors were made.
    _fill(stores, summary, progress)
    summary.links = link_memory(stores, progress=progress).edges
    replaced = stores.replaced_embedder
    if replaced is not None:
        stores.vectors.discard(replaced)
        stores.forget_replaced_embedder()
    stores.graph.checkpoint()


def _fill(stores: Stores, summary: ReembedSummary, progress: Progress) -> None:
    """Write the vectors that nodes lack for the embedder in use."""
    for kind in VECTOR_KINDS:
        nodes = stores.graph.nodes(LABEL_OF[kind], ["id", "vector_key"])
        nodes = nodes.filter(pc.is_valid(nodes["vector_key"]))
        absent = stores.vectors.missing(nodes["id"].to_pylist())
        nodes = nodes.filter(pc.is_in(nodes["id"], value_set=pa.array(absent, pa.string())))
        progress.stage(f"embed {kind} texts", len(nodes))
        for start in range(0, len(nodes), BLOCK_NODES):
            _write(stores, kind, nodes.slice(start, BLOCK_NODES), progress)
        summary.vectors[kind] = summary.vectors.get(kind, 0) + len(nodes)
    stores.vectors.flush()


def _write(stores: Stores, kind: VectorKind, nodes: pa.Table, progress: Progress) -> None:
    names = nodes["id"].to_pylist()
    texts = stores.embedded_texts(kind, names)
    embed_cached(stores.embedder, stores.cache, list(texts.values()), progress.advance)
    write_vectors(stores, kind, names, nodes["vector_key"].to_pylist())
