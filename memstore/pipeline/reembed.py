"""Reembed: move a memory to another embedder, without a moment at which it does not work.

1. The new vectors are made beside the old ones: in a cache and a collection of their own. The memory keeps its old
   embedder meanwhile; what a killed run embedded is not embedded again by the next.
2. One write to the graph makes the new embedder the memory's. From then on every link counts as not made, since a
   link's mark names the embedder; and the embedder that was replaced is noted.
3. The links are made anew, and only then are the old vectors removed and the note with them.

A run that was killed before 2 has changed nothing; one killed after it is finished by the next, also where that is
told to move to the embedder that the memory has by then. The old cache stays: moving back costs no embedding.
Reward models are not touched: one that was trained on the old vectors refuses the memory, which names both.
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
from memstore.pipeline.link import link_memory
from memstore.pipeline.vectors import write_vectors
from memstore.progress import Progress, Silent
from memstore.types import VECTOR_KINDS, VectorKind
from memstore.vectors.labels import LABEL_OF

BLOCK_NODES = 8192


@dataclass
class ReembedSummary:
    """What `reembed_memory` did."""

    before: str
    """Fingerprint of the embedder that the memory had."""
    after: str
    vectors: dict[str, int] = field(default_factory=dict)
    """Vectors that were written by this call, by kind."""
    links: dict[str, int] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The document that the command prints."""
        return asdict(self)


def reembed_memory(stores: Stores, embedder: Embedder, *, progress: Progress | None = None) -> ReembedSummary:
    """Move a memory to `embedder`; finish a move to it that was interrupted.

    Raises:
        InputError: the memory has no vectors yet.
    """
    progress = progress or Silent()
    if stores.fingerprint is None:
        raise InputError(
            f"the memory {stores.location} has no vectors yet; its first ingest uses the embedder it is given"
        )
    summary = ReembedSummary(str(stores.fingerprint), str(embedder.fingerprint))
    if stores.fingerprint != embedder.fingerprint:
        with stores.embedding_with(embedder):
            _fill(stores, summary, progress)
        stores.replace_embedder(embedder)
    # Rollouts that another process added to a memory on servers after they were counted above.
    _fill(stores, summary, progress)
    summary.links = link_memory(stores, progress=progress).edges
    replaced = stores.replaced_embedder
    if replaced is not None:
        stores.vectors.discard(replaced)
        stores.forget_replaced_embedder()
    stores.graph.checkpoint()
    return summary


def _fill(stores: Stores, summary: ReembedSummary, progress: Progress) -> None:
    """Give every node a vector of the embedder that the memory uses now."""
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
