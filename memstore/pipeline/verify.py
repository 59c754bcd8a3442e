"""Does everything fit together? The graph is the truth; what is derived from it is compared with it and mended.

Kinds of problem, each with what mends it:

    open_batch        an ingest ended between graph and vectors       the missing vectors are written
    missing_vector    a node whose vector is not in the vector store  from the cache, else embedded again
    changed_vector    a stored vector that is not the text's          from the cache, which was there first
    orphan_vector     a vector whose node is not in the graph         deleted
    other_embedder    vectors of an embedder that is not the memory's deleted; a `reembed` that was killed leaves them
    unlinked_node     a node that was not linked under the settings   linked
    missing_link      a node with fewer links than it has neighbours  linked again
    stray_thinking    a rollout without its query                     a new memory from the same files
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from memstore.graph.protocol import LinkUpdate
from memstore.locations.stores import Stores
from memstore.pipeline.link import link_memory, nodes_short_of_links
from memstore.pipeline.vectors import fill_vectors, write_vectors
from memstore.progress import Progress, Silent
from memstore.types import VECTOR_KINDS, VectorKind
from memstore.vectors.labels import LABEL_OF
from memstore_schema.columns import EdgeType, NodeLabel

_BLOCK = 5_000
_REPAIR = "memstore verify --repair"


@dataclass(frozen=True)
class Problem:
    """Something that does not fit."""

    kind: str
    count: int
    example: str
    repair: str
    """What mends it, or what was done."""


@dataclass(frozen=True)
class VerifyReport:
    """What `verify` found; with repair, what is left afterwards and what was mended."""

    problems: list[Problem]
    repaired: list[Problem]

    @property
    def ok(self) -> bool:
        """Nothing is wrong (any more)."""
        return not self.problems

    def as_json(self) -> dict[str, Any]:
        """The promised document."""
        return {"ok": self.ok, **asdict(self)}


def verify_memory(stores: Stores, *, repair: bool = False, progress: Progress | None = None) -> VerifyReport:
    """Compare graph, vectors and links; with `repair`, mend what can be mended and compare again."""
    progress = progress or Silent()
    found = list(_find(stores, progress))
    if not repair or not found:
        return VerifyReport(found, [])
    _mend(stores, {problem.kind for problem in found}, progress)
    left = list(_find(stores, progress))
    still = {problem.kind for problem in left}
    return VerifyReport(left, [problem for problem in found if problem.kind not in still])


def _find(stores: Stores, progress: Progress) -> Iterator[Problem]:
    batches = stores.graph.nodes(NodeLabel.BATCH, ["id", "source", "state"]).to_pylist()
    yield from _problem("open_batch", [f"{row['id']} ({row['source']})" for row in batches if row["state"] != "done"])
    yield from _problem("stray_thinking", _stray_thinkings(stores), "ingest the same files into a new memory")
    if stores.fingerprint is None:
        return
    for kind in VECTOR_KINDS:
        progress.stage(f"verify {kind} vectors")
        nodes = _embedded(stores, kind)
        yield from _problem("missing_vector", stores.vectors.missing(nodes["id"].to_pylist()))
        yield from _problem("changed_vector", _changed(stores, nodes))
        yield from _problem("orphan_vector", _orphans(stores, kind))
        yield from _problem("unlinked_node", _unlinked(stores, kind), "memstore link")
        yield from _problem("missing_link", nodes_short_of_links(stores, kind))
    others = [name for name in stores.vectors.collections() if name != stores.vectors.fingerprint]
    yield from _problem("other_embedder", others)


def _problem(kind: str, examples: list[str], repair: str = _REPAIR) -> Iterator[Problem]:
    if examples:
        yield Problem(kind, len(examples), examples[0], repair)


def _embedded(stores: Stores, kind: VectorKind) -> pa.Table:
    """Nodes of a kind that have a vector: `id` and `vector_key`."""
    nodes = stores.graph.nodes(LABEL_OF[kind], ["id", "vector_key"])
    return nodes.filter(pc.is_valid(nodes["vector_key"]))


def _stray_thinkings(stores: Stores) -> list[str]:
    ids = stores.graph.nodes(NodeLabel.THINKING, ["id"])["id"]
    edges = stores.graph.edges(EdgeType.GENERATES, NodeLabel.QUERY, NodeLabel.THINKING)
    stray = np.setdiff1d(np.arange(len(ids)), edges.target)
    return [ids[int(position)].as_py() for position in stray]


def _changed(stores: Stores, nodes: pa.Table) -> list[str]:
    """Nodes whose stored vector is not the one that the cache holds for their text."""
    changed: list[str] = []
    for start in range(0, len(nodes), _BLOCK):
        block = nodes.slice(start, _BLOCK)
        names = block["id"].to_pylist()
        rows = stores.cache.lookup(block["vector_key"].to_pylist())
        stored = stores.vectors.fetch(names)
        known = np.flatnonzero((rows >= 0) & stored.found)
        unlike = (stores.cache.vectors(rows[known]) != stored.vectors[known]).any(axis=1)
        changed += [names[position] for position in known[unlike]]
    return changed


def _orphans(stores: Stores, kind: VectorKind) -> list[str]:
    known = set(_embedded(stores, kind)["id"].to_pylist())
    return [node for block in stores.vectors.ids(kind) for node in block if node not in known]


def _unlinked(stores: Stores, kind: VectorKind) -> list[str]:
    nodes = stores.graph.nodes(LABEL_OF[kind], ["id", "linked"])
    linked = pc.fill_null(pc.equal(nodes["linked"], stores.link_mark), False)
    unlinked: list[str] = nodes.filter(pc.invert(linked))["id"].to_pylist()
    return unlinked


def _mend(stores: Stores, kinds: set[str], progress: Progress) -> None:
    if "other_embedder" in kinds:
        for fingerprint in stores.vectors.collections():
            if fingerprint != stores.vectors.fingerprint:
                stores.vectors.discard(fingerprint)
    for kind in VECTOR_KINDS:
        if "orphan_vector" in kinds:
            stores.vectors.delete(_orphans(stores, kind))
        if "changed_vector" in kinds:
            nodes = _embedded(stores, kind)
            nodes = nodes.filter(pc.is_in(nodes["id"], value_set=pa.array(_changed(stores, nodes), pa.string())))
            write_vectors(stores, kind, nodes["id"].to_pylist(), nodes["vector_key"].to_pylist())
        if "missing_link" in kinds:
            with stores.graph.linking():  # lists that another process has computed are written before, or not at all
                _mark_unlinked(stores, kind, nodes_short_of_links(stores, kind))
    if kinds & {"missing_vector", "open_batch"}:
        fill_vectors(stores, progress=progress)
    for row in stores.graph.nodes(NodeLabel.BATCH, ["id", "state"]).to_pylist():
        if row["state"] != "done":
            stores.graph.write_batch({"id": row["id"], "state": "done"})
    if kinds & {"unlinked_node", "missing_link"}:
        link_memory(stores, progress=progress)


def _mark_unlinked(stores: Stores, kind: VectorKind, nodes: list[str]) -> None:
    none = {"source": pa.string(), "target": pa.string(), "score": pa.float32()}
    edges = pa.table({name: pa.array([], column) for name, column in none.items()})
    stores.graph.replace_links(LinkUpdate(LABEL_OF[kind], [], edges, nodes, fingerprint=""))
