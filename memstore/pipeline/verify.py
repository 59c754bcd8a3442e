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
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from memstore.graph.protocol import LinkUpdate
from memstore.pipeline.ingest import fill_vectors, write_vectors
from memstore.pipeline.link import nodes_short_of_links
from memstore.progress import Progress, Silent
from memstore.types import VECTOR_KINDS, VectorKind
from memstore.vectors.labels import LABEL_OF
from memstore_schema.columns import EdgeType, NodeLabel

if TYPE_CHECKING:
    from memstore.memory import Memory

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


def verify_memory(memory: Memory, *, repair: bool = False, progress: Progress | None = None) -> VerifyReport:
    """Compare graph, vectors and links; with `repair`, mend what can be mended and compare again."""
    progress = progress or Silent()
    found = list(_find(memory, progress))
    if not repair or not found:
        return VerifyReport(found, [])
    _mend(memory, {problem.kind for problem in found}, progress)
    left = list(_find(memory, progress))
    still = {problem.kind for problem in left}
    return VerifyReport(left, [problem for problem in found if problem.kind not in still])


def _find(memory: Memory, progress: Progress) -> Iterator[Problem]:
    batches = memory.graph.nodes(NodeLabel.BATCH, ["id", "source", "state"]).to_pylist()
    yield from _problem("open_batch", [f"{row['id']} ({row['source']})" for row in batches if row["state"] != "done"])
    yield from _problem("stray_thinking", _stray_thinkings(memory), "ingest the same files into a new memory")
    if memory.fingerprint is None:
        return
    for kind in VECTOR_KINDS:
        progress.stage(f"verify {kind} vectors")
        nodes = _embedded(memory, kind)
        yield from _problem("missing_vector", memory.vectors.missing(nodes["id"].to_pylist()))
        yield from _problem("changed_vector", _changed(memory, nodes))
        yield from _problem("orphan_vector", _orphans(memory, kind))
        yield from _problem("unlinked_node", _unlinked(memory, kind), "memstore link")
        yield from _problem("missing_link", nodes_short_of_links(memory, kind))
    others = [name for name in memory.vectors.collections() if name != memory.vectors.fingerprint]
    yield from _problem("other_embedder", others)


def _problem(kind: str, examples: list[str], repair: str = _REPAIR) -> Iterator[Problem]:
    if examples:
        yield Problem(kind, len(examples), examples[0], repair)


def _embedded(memory: Memory, kind: VectorKind) -> pa.Table:
    """Nodes of a kind that have a vector: `id` and `vector_key`."""
    nodes = memory.graph.nodes(LABEL_OF[kind], ["id", "vector_key"])
    return nodes.filter(pc.is_valid(nodes["vector_key"]))


def _stray_thinkings(memory: Memory) -> list[str]:
    ids = memory.graph.nodes(NodeLabel.THINKING, ["id"])["id"]
    edges = memory.graph.edges(EdgeType.GENERATES, NodeLabel.QUERY, NodeLabel.THINKING)
    stray = np.setdiff1d(np.arange(len(ids)), edges.target)
    return [ids[int(position)].as_py() for position in stray]


def _changed(memory: Memory, nodes: pa.Table) -> list[str]:
    """Nodes whose stored vector is not the one that the cache holds for their text."""
    changed: list[str] = []
    for start in range(0, len(nodes), _BLOCK):
        block = nodes.slice(start, _BLOCK)
        names = block["id"].to_pylist()
        rows = memory.cache.lookup(block["vector_key"].to_pylist())
        stored = memory.vectors.fetch(names)
        known = np.flatnonzero((rows >= 0) & stored.found)
        unlike = (memory.cache.vectors(rows[known]) != stored.vectors[known]).any(axis=1)
        changed += [names[position] for position in known[unlike]]
    return changed


def _orphans(memory: Memory, kind: VectorKind) -> list[str]:
    known = set(_embedded(memory, kind)["id"].to_pylist())
    return [node for block in memory.vectors.ids(kind) for node in block if node not in known]


def _unlinked(memory: Memory, kind: VectorKind) -> list[str]:
    nodes = memory.graph.nodes(LABEL_OF[kind], ["id", "linked"])
    linked = pc.fill_null(pc.equal(nodes["linked"], memory.link_mark), False)
    unlinked: list[str] = nodes.filter(pc.invert(linked))["id"].to_pylist()
    return unlinked


def _mend(memory: Memory, kinds: set[str], progress: Progress) -> None:
    if "other_embedder" in kinds:
        for fingerprint in memory.vectors.collections():
            if fingerprint != memory.vectors.fingerprint:
                memory.vectors.discard(fingerprint)
    for kind in VECTOR_KINDS:
        if "orphan_vector" in kinds:
            memory.vectors.delete(_orphans(memory, kind))
        if "changed_vector" in kinds:
            nodes = _embedded(memory, kind)
            nodes = nodes.filter(pc.is_in(nodes["id"], value_set=pa.array(_changed(memory, nodes), pa.string())))
            write_vectors(memory, kind, nodes["id"].to_pylist(), nodes["vector_key"].to_pylist())
        if "missing_link" in kinds:
            with memory.graph.linking():  # lists that another process has computed are written before, or not at all
                _mark_unlinked(memory, kind, nodes_short_of_links(memory, kind))
    if kinds & {"missing_vector", "open_batch"}:
        fill_vectors(memory, progress=progress)
    for row in memory.graph.nodes(NodeLabel.BATCH, ["id", "state"]).to_pylist():
        if row["state"] != "done":
            memory.graph.write_batch({"id": row["id"], "state": "done"})
    if kinds & {"unlinked_node", "missing_link"}:
        memory.link(progress=progress)


def _mark_unlinked(memory: Memory, kind: VectorKind, nodes: list[str]) -> None:
    none = {"source": pa.string(), "target": pa.string(), "score": pa.float32()}
    edges = pa.table({name: pa.array([], column) for name, column in none.items()})
    memory.graph.replace_links(LinkUpdate(LABEL_OF[kind], [], edges, nodes, fingerprint=""))
