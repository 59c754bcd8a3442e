"""Does everything fit together? The graph is the truth; what is derived from it is compared with it and mended.

Kinds of problem, each with what mends it:

    open_batch        an ingest ended between graph and vectors       the missing vectors are written
    missing_vector    a node whose vector is not in the vector store  from the cache, else embedded again
    orphan_vector     a vector whose node is not in the graph         deleted
    other_embedder    vectors of an embedder that is not the memory's dropped by hand: they may be another's backup
    unlinked_node     a node without its similarity edges             linked
    stray_thinking    a rollout without its query                     a new memory from the same files
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc

from memstore.ingest import fill_vectors
from memstore.progress import Progress, Silent
from memstore.types import VECTOR_KINDS
from memstore.vectors.labels import LABEL_OF
from memstore_schema.columns import EdgeType, NodeLabel

if TYPE_CHECKING:
    from memstore.memory import Memory


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
    found = _find(memory, progress)
    if not repair or not found:
        return VerifyReport(found, [])
    _mend(memory, found, progress)
    left = _find(memory, progress)
    still = {problem.kind for problem in left}
    return VerifyReport(left, [problem for problem in found if problem.kind not in still])


def _find(memory: Memory, progress: Progress) -> list[Problem]:
    problems: list[Problem] = []
    mend = "memstore verify --repair"

    def note(kind: str, examples: list[str], repair: str) -> None:
        if examples:
            problems.append(Problem(kind, len(examples), examples[0], repair))

    batches = memory.graph.nodes(NodeLabel.BATCH, ["id", "source", "state"]).to_pylist()
    note("open_batch", [f"{row['id']} ({row['source']})" for row in batches if row["state"] != "done"], mend)
    note("stray_thinking", _stray_thinkings(memory), "ingest the same files into a new memory")
    if memory.fingerprint is None:
        return problems
    for kind in VECTOR_KINDS:
        progress.stage(f"verify {kind} vectors")
        nodes = memory.graph.nodes(LABEL_OF[kind], ["id", "vector_key", "linked"])
        expected = nodes.filter(pc.is_valid(nodes["vector_key"]))["id"].to_pylist()
        note("missing_vector", memory.vectors.missing(expected), mend)
        note("orphan_vector", _orphans(memory, kind, expected), mend)
        linked = pc.fill_null(pc.equal(nodes["linked"], str(memory.link_settings)), False)
        note("unlinked_node", nodes.filter(pc.invert(linked))["id"].to_pylist(), "memstore link")
    others = [name for name in memory.vectors.collections() if name != memory.vectors.fingerprint]
    note("other_embedder", others, "drop that collection when nothing needs it any more")
    return problems


def _stray_thinkings(memory: Memory) -> list[str]:
    ids = memory.graph.nodes(NodeLabel.THINKING, ["id"])["id"]
    edges = memory.graph.edges(EdgeType.GENERATES, NodeLabel.QUERY, NodeLabel.THINKING)
    stray = np.setdiff1d(np.arange(len(ids)), edges.target)
    return [ids[int(position)].as_py() for position in stray]


def _orphans(memory: Memory, kind: str, expected: list[str]) -> list[str]:
    known = set(expected)
    return [node for block in memory.vectors.ids(kind) for node in block if node not in known]  # type: ignore[arg-type]


def _mend(memory: Memory, found: list[Problem], progress: Progress) -> None:
    kinds = {problem.kind for problem in found}
    if "orphan_vector" in kinds:
        for kind in VECTOR_KINDS:
            nodes = memory.graph.nodes(LABEL_OF[kind], ["id", "vector_key"])
            expected = nodes.filter(pc.is_valid(nodes["vector_key"]))["id"].to_pylist()
            memory.vectors.delete(_orphans(memory, kind, expected))
    if kinds & {"missing_vector", "open_batch"}:
        fill_vectors(memory, progress=progress)
    for row in memory.graph.nodes(NodeLabel.BATCH, ["id", "state"]).to_pylist():
        if row["state"] != "done":
            memory.graph.write_batch({"id": row["id"], "state": "done"})
    if "unlinked_node" in kinds:
        memory.link(progress=progress)
