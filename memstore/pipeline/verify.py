"""Verify: check that graph, vectors and links are consistent, and repair them.

The graph is authoritative. What is derived from it is compared with it. Kinds of problem and their repair:

    open_batch        an ingest stopped between graph and vectors     write the missing vectors
    open_restore      a restore stopped before its end                run the same restore again
    missing_vector    a node whose vector is not in the vector store  copy it from the cache, or embed the text again
    changed_vector    a stored vector that differs from the cache's   copy it from the cache
    orphan_vector     a vector whose node is not in the graph         delete it
    orphan_features   features whose rollout is not in the graph      delete them
    other_embedder    vectors of another embedder, left by a          delete them
                      `reembed` that was killed
    unlinked_node     a node that was linked under other settings     link it
    missing_link      a node with fewer links than neighbours         link it again
    stale_verdict     an answer whose verdict is not what its       derive it from the labels again
                      labels say
    stray_thinking    a rollout without its query                     ingest the same files into a new memory
    missing_model     a reward model without files                    copy it from a backup, or train again
    damaged_model     files that differ from those saved              copy it from a backup, or train again

A node that no call of `link` has reached yet is no problem but pending (`not_linked`): an ingest without links and the
reward service leave it to a later `memstore link`. A repair links it, too.

A whole model of another format version is no damage: `memstore models` says whether this version of memstore reads it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from memstore.graph.protocol import GraphStore, LinkUpdate
from memstore.graph.verdicts import VERDICT_COLUMNS, labels_by_answer, with_verdicts
from memstore.locations.location import FolderLocation
from memstore.locations.stores import Stores
from memstore.pipeline.content import RESTORED
from memstore.pipeline.features import delete_orphan_features, orphan_features
from memstore.pipeline.full_disk import resumable
from memstore.pipeline.link import link_memory, nodes_short_of_links
from memstore.pipeline.vectors import fill_vectors, write_vectors
from memstore.progress import Progress, Silent
from memstore.types import VECTOR_KINDS, VectorKind
from memstore.vectors.labels import LABEL_OF
from memstore.vectors.protocol import FEATURES
from memstore_schema.columns import EdgeType, NodeLabel

_BLOCK = 5_000
"""Vectors that are compared at a time."""
_REPAIR_COMMAND = "memstore verify --repair"
NOT_LINKED = "not_linked"
"""Kind of the nodes that are to be linked for the first time."""


@dataclass(frozen=True)
class Problem:
    """An inconsistency of one kind."""

    kind: str
    """One of the kinds that the module lists."""
    count: int
    """Nodes, vectors or batches that are affected."""
    example: str
    """Id of one of them."""
    repair: str
    """Command or action that repairs it."""


@dataclass(frozen=True)
class VerifyReport:
    """Result of `verify_memory`: the problems that remain, those that were repaired, and what is still to be done."""

    problems: list[Problem]
    repaired: list[Problem]
    pending: list[Problem] = field(default_factory=list)
    """Work that was put off, and no inconsistency: `not_linked`."""

    @property
    def ok(self) -> bool:
        """Whether no problem remains."""
        return not self.problems

    def as_json(self) -> dict[str, Any]:
        """The document that the command prints with `--json`."""
        return {"ok": self.ok, **asdict(self)}


def verify_memory(stores: Stores, *, repair: bool = False, progress: Progress | None = None) -> VerifyReport:
    """Compare graph, vectors and links. With `repair`, fix what can be fixed and compare again."""
    if repair:
        stores.check_writable()
    progress = progress or Silent()
    found = list(_find(stores, progress))
    if not repair or not found:
        return _report(found, [])
    with resumable(stores):
        _repair(stores, {problem.kind for problem in found}, progress)
    remaining = list(_find(stores, progress))
    remaining_kinds = {problem.kind for problem in remaining}
    return _report(remaining, [problem for problem in found if problem.kind not in remaining_kinds])


def _report(found: list[Problem], repaired: list[Problem]) -> VerifyReport:
    pending = [one for one in found if one.kind == NOT_LINKED]
    return VerifyReport([one for one in found if one.kind != NOT_LINKED], repaired, pending)


def _find(stores: Stores, progress: Progress) -> Iterator[Problem]:
    batches = stores.graph.nodes(NodeLabel.BATCH, ["id", "source", "state"]).to_pylist()
    unfinished = [row for row in batches if row["state"] != "done"]
    yield from _problem("open_batch", [f"{row['id']} ({row['source']})" for row in unfinished if row["id"] != RESTORED])
    yield from _problem(
        "open_restore",
        [str(row["source"]) for row in unfinished if row["id"] == RESTORED],
        "run the same `memstore restore` again",
    )
    yield from _problem("stale_verdict", stale_verdicts(stores.graph))
    yield from _problem("stray_thinking", _stray_thinkings(stores), "ingest the same files into a new memory")
    yield from _model_problems(stores)
    if stores.fingerprint is None:
        return
    for kind in VECTOR_KINDS:
        progress.stage(f"verify {kind} vectors")
        nodes = _embedded(stores, kind)
        yield from _problem("missing_vector", stores.vectors.missing(nodes["id"].to_pylist()))
        yield from _problem("changed_vector", _changed(stores, nodes))
        yield from _problem("orphan_vector", orphan_vectors(stores, kind))
        never, outdated = _unlinked(stores, kind)
        yield from _problem(NOT_LINKED, never, "memstore link")
        yield from _problem("unlinked_node", outdated, "memstore link")
        yield from _problem("missing_link", nodes_short_of_links(stores, kind))
    yield from _problem("orphan_features", orphan_features(stores))
    yield from _problem("other_embedder", _other_embedders(stores))


def _other_embedders(stores: Stores) -> list[str]:
    """Fingerprints of embedders other than the memory's that it has vectors of."""
    own = stores.vectors.fingerprint
    return [name for name in stores.vectors.collections() if name != own and not name.startswith(FEATURES)]


def _model_problems(stores: Stores) -> Iterator[Problem]:
    """Reward models without files, and models whose files are not those that were saved.

    A model of a memory on servers may be on another machine, so only the files of a folder can be missing.
    """
    nodes = stores.graph.nodes(NodeLabel.REWARD_MODEL, ["id", "path"]).to_pylist()
    folders = {str(node["id"]): stores.location.folder / node["path"] for node in nodes if node["path"]}
    missing = [model for model, folder in folders.items() if not folder.is_dir()]
    if isinstance(stores.location, FolderLocation):
        yield from _problem("missing_model", missing, "copy its folder from a backup, or train again")
    damaged = [model for model, folder in folders.items() if folder.is_dir() and not _is_whole(folder)]
    yield from _problem("damaged_model", damaged, "copy its folder from a backup, or train again")


def _is_whole(folder: Path) -> bool:
    """Whether the files of a model have the digests that its description records."""
    try:
        described = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        recorded = {"model.safetensors": described["weights"], "origin.safetensors": described.get("origin")}
        return all(
            hashlib.blake2b((folder / name).read_bytes(), digest_size=16).hexdigest() == digest
            for name, digest in recorded.items()
            if digest is not None
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _problem(kind: str, examples: list[str], repair: str = _REPAIR_COMMAND) -> Iterator[Problem]:
    if examples:
        yield Problem(kind, len(examples), examples[0], repair)


def _embedded(stores: Stores, kind: VectorKind) -> pa.Table:
    """`id` and `vector_key` of the nodes of a kind that have a vector."""
    nodes = stores.graph.nodes(LABEL_OF[kind], ["id", "vector_key"])
    return nodes.filter(pc.is_valid(nodes["vector_key"]))


def _stray_thinkings(stores: Stores) -> list[str]:
    """Ids of thinkings that no query generates."""
    ids = stores.graph.nodes(NodeLabel.THINKING, ["id"])["id"]
    edges = stores.graph.edges(EdgeType.GENERATES, NodeLabel.QUERY, NodeLabel.THINKING)
    stray = np.setdiff1d(np.arange(len(ids)), edges.target)
    return [ids[int(position)].as_py() for position in stray]


def stale_verdicts(graph: GraphStore) -> list[str]:
    """Ids of answers whose verdict is not what the labels of their rollouts say."""
    stored = graph.nodes(NodeLabel.ANSWER, ["id", *VERDICT_COLUMNS])
    thinkings = graph.nodes(NodeLabel.THINKING, ["reward", "reward_source", "created_at"])
    leads_to = graph.edges(EdgeType.LEADS_TO, NodeLabel.THINKING, NodeLabel.ANSWER)
    expected = with_verdicts(stored, labels_by_answer(stored["id"], thinkings, leads_to))
    rows = zip(stored.to_pylist(), expected.to_pylist(), strict=True)
    return [before["id"] for before, after in rows if before != after]


def _changed(stores: Stores, nodes: pa.Table) -> list[str]:
    """Ids of nodes whose stored vector differs from the cached one."""
    changed: list[str] = []
    for start in range(0, len(nodes), _BLOCK):
        block = nodes.slice(start, _BLOCK)
        names = block["id"].to_pylist()
        rows = stores.cache.lookup(block["vector_key"].to_pylist())
        stored = stores.vectors.fetch(names)
        known = np.flatnonzero((rows >= 0) & stored.found)
        differs = (stores.cache.vectors(rows[known]) != stored.vectors[known]).any(axis=1)
        changed += [names[position] for position in known[differs]]
    return changed


def orphan_vectors(stores: Stores, kind: VectorKind) -> list[str]:
    """Ids of stored vectors whose node is not in the graph."""
    known = set(_embedded(stores, kind)["id"].to_pylist())
    return [node for block in stores.vectors.ids(kind) for node in block if node not in known]


def _unlinked(stores: Stores, kind: VectorKind) -> tuple[list[str], list[str]]:
    """Ids of nodes that were never linked, and of nodes whose links are outdated."""
    nodes = stores.graph.nodes(LABEL_OF[kind], ["id", "linked"])
    never = pc.is_null(nodes["linked"])
    outdated = pc.fill_null(pc.not_equal(nodes["linked"], stores.link_mark), False)
    return nodes.filter(never)["id"].to_pylist(), nodes.filter(outdated)["id"].to_pylist()


def _repair(stores: Stores, kinds: set[str], progress: Progress) -> None:
    """Repair the problems of these kinds."""
    if "stale_verdict" in kinds:
        stores.graph.refresh_verdicts(stale_verdicts(stores.graph))
    if "other_embedder" in kinds:
        for fingerprint in _other_embedders(stores):
            stores.vectors.discard(fingerprint)
    if "orphan_features" in kinds:
        delete_orphan_features(stores)
    for kind in VECTOR_KINDS:
        if "orphan_vector" in kinds:
            stores.vectors.delete(orphan_vectors(stores, kind))
        if "changed_vector" in kinds:
            nodes = _embedded(stores, kind)
            nodes = nodes.filter(pc.is_in(nodes["id"], value_set=pa.array(_changed(stores, nodes), pa.string())))
            write_vectors(stores, kind, nodes["id"].to_pylist(), nodes["vector_key"].to_pylist())
        if "missing_link" in kinds:
            _mark_short_lists(stores, kind)
    if kinds & {"missing_vector", "open_batch"}:
        fill_vectors(stores, progress=progress)
    for row in stores.graph.nodes(NodeLabel.BATCH, ["id", "state"]).to_pylist():
        if row["state"] != "done" and row["id"] != RESTORED:
            stores.graph.write_batch({"id": row["id"], "state": "done"})
    if kinds & {NOT_LINKED, "unlinked_node", "missing_link"}:
        link_memory(stores, progress=progress)


def mark_short_lists(stores: Stores) -> None:
    """Mark nodes with fewer links than neighbours as not linked, so that the next link call links them again."""
    for kind in VECTOR_KINDS:
        _mark_short_lists(stores, kind)


def _mark_short_lists(stores: Stores, kind: VectorKind) -> None:
    with stores.graph.linking():  # keeps lists that another process computed earlier from overwriting the mark
        if short := nodes_short_of_links(stores, kind):
            _mark_unlinked(stores, kind, short)


def _mark_unlinked(stores: Stores, kind: VectorKind, nodes: list[str]) -> None:
    """Mark nodes as not linked, so that the next link call links them again."""
    none = {"source": pa.string(), "target": pa.string(), "score": pa.float32()}
    edges = pa.table({name: pa.array([], column) for name, column in none.items()})
    stores.graph.replace_links(LinkUpdate(LABEL_OF[kind], [], edges, nodes, fingerprint=""))
