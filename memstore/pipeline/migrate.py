"""Migrate: convert a memory of schema 1 to schema 2, in which a query is its text (`memstore.snapshots.upgrade`).

A migration that is killed at any instant is finished by running it again.

**In a folder**, the new graph is built in `graph.converted` while the old one stays as it is. Two renames put it in
place, and the old graph remains as `graph.schema1`. A memory that was killed between the renames is refused until the
migration is finished; one that was killed before them is still the old memory.

**On servers**, the new nodes are written beside the old ones, whose ids differ. Then the old ones are deleted, rollouts
first and queries last, and the namespace is recorded to have schema 2. Old queries have a property `dataset`, by which
a second run knows them. Nothing is deleted before all of it exists in the new form.

Vectors are cached by the hash of their text and are not computed again. The vector store gets them under the new ids,
and all nodes are linked, because merged nodes have other neighbours. These last steps work on a memory of schema 2;
the setting `migration` records that they are pending.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from memstore.embedding.protocol import Embedder
from memstore.errors import InputError, ReadOnlyError
from memstore.graph.protocol import GraphStore
from memstore.locations.location import FolderLocation, Location, ServerLocation
from memstore.locations.opening import CONVERTED, open_graph, open_server_graph, prepare_folder
from memstore.locations.settings import Settings
from memstore.locations.stores import Stores
from memstore.pipeline.content import read_schema_1, write_influences, write_nodes, write_scores
from memstore.pipeline.delete import BLOCK_NODES, delete_nodes
from memstore.pipeline.link import link_memory
from memstore.pipeline.vectors import fill_vectors
from memstore.pipeline.verify import orphan_vectors
from memstore.progress import Progress, Silent
from memstore.snapshots.upgrade import Content, Prefer, Upgrade, upgrade
from memstore.text import SPLITTER_VERSION
from memstore.types import VECTOR_KINDS
from memstore_schema.columns import SCHEMA_VERSION, EdgeType, NodeLabel

BACKUP = "graph.schema1"
"""Folder that the graph of schema 1 is kept in."""
PENDING = "migration"
"""Setting of a graph whose vectors and links a migration has yet to bring up to date."""
_BATCH = "b-migrated"
_KEPT_SETTINGS = ("embedder", "links", "replaced_embedder")


class Contradictions(InputError):
    """What becomes one query or rollout has two values; nothing has been written."""

    def __init__(self, found: list[str]) -> None:
        self.found = found
        count = f"{len(found)} contradictions stop" if len(found) > 1 else "a contradiction stops"
        listed = "; ".join(found)
        super().__init__(
            f"{count} the migration; keep the values of the older rollouts with --prefer first, or those of the newer "
            f"ones with --prefer second: {listed}"
        )


@dataclass
class MigrateSummary:
    """What a migration has changed."""

    schema: dict[str, int]
    """Schema `before` and `after`."""
    queries: dict[str, int] = field(default_factory=dict)
    """Queries `before` and `after`."""
    rollouts: dict[str, int] = field(default_factory=dict)
    answers: dict[str, int] = field(default_factory=dict)
    models: int = 0
    """Reward models, which stay."""
    contradictions: list[str] = field(default_factory=list)
    """Contradictions of which one side was kept, one sentence each."""
    unrecovered: int = 0
    """Rollouts whose row could not be told from their id: ingesting their file again adds them a second time."""
    backup: str | None = None
    """Folder of the graph as it was; None on servers."""
    vectors: int = 0
    """Vectors that were written under a new id."""
    links: dict[str, int] = field(default_factory=dict)
    """Similarity edges in the memory afterwards, by kind of node."""

    def as_json(self) -> dict[str, Any]:
        """The document that the command prints with `--json`."""
        return asdict(self)


def migrate_memory(
    location: Location,
    settings: Settings,
    *,
    prefer: Prefer | None = None,
    embedder: Embedder | None = None,
    progress: Progress | None = None,
) -> MigrateSummary:
    """Convert the memory at a location to the present schema, or finish an interrupted conversion.

    A memory that has the present schema is left as it is.

    Args:
        prefer: the side of a contradiction to keep; None refuses to convert a memory with contradictions.
        embedder: the embedder to use for texts whose vector is not cached; None loads the memory's own.

    Raises:
        Contradictions: the memory has some, and `prefer` is None.
        LocationError, LockedError, SchemaError, StoreError: the memory cannot be opened.
    """
    progress = progress or Silent()
    location = replace(location, folder=location.folder.absolute())
    if isinstance(location, ServerLocation):
        summary = _convert_servers(location, prefer, progress)
    else:
        summary = _convert_folder(location, settings, prefer, progress)
    with closing(Stores.open(location, settings, embedder=embedder, create=False)) as stores:
        _finish(stores, summary, progress)
    return summary


def _finish(stores: Stores, summary: MigrateSummary, progress: Progress) -> None:
    """Bring vectors and links up to date if that is pending."""
    if stores.graph.read_only or not stores.graph.read_meta().get(PENDING):
        return
    if stores.fingerprint is not None:
        progress.stage("vectors")
        summary.vectors = fill_vectors(stores, progress=progress)
        for kind in VECTOR_KINDS:
            stores.vectors.delete(orphan_vectors(stores, kind))
        stores.vectors.flush()
        summary.links = link_memory(stores, progress=progress).edges
    stores.graph.write_meta({PENDING: ""})
    stores.graph.checkpoint()


def _converted(graph: GraphStore, prefer: Prefer | None, progress: Progress) -> tuple[Upgrade, MigrateSummary]:
    """The content of a graph of schema 1 in the present schema.

    Raises:
        Contradictions: there are some, and `prefer` is None.
    """
    progress.stage("read the graph")
    old = read_schema_1(graph)
    progress.stage("convert")
    splitter = graph.read_meta().get("splitter", SPLITTER_VERSION)
    made = upgrade(old, prefer=prefer or "first", read_again=splitter != SPLITTER_VERSION)
    if made.contradictions and prefer is None:
        raise Contradictions(made.contradictions)

    def count(label: NodeLabel) -> dict[str, int]:
        return {"before": len(old.nodes[label]), "after": len(made.content.nodes[label])}

    return made, MigrateSummary(
        schema={"before": 1, "after": SCHEMA_VERSION},
        queries=count(NodeLabel.QUERY),
        rollouts=count(NodeLabel.THINKING),
        answers=count(NodeLabel.ANSWER),
        models=len(old.nodes[NodeLabel.REWARD_MODEL]),
        contradictions=made.contradictions,
        unrecovered=made.unrecovered,
    )


def _write(graph: GraphStore, content: Content, progress: Progress) -> None:
    """Write everything but the links; existing nodes stay, so that this can be repeated."""
    batches = content.nodes[NodeLabel.BATCH].to_pylist()
    for batch in batches:
        graph.write_batch({name: value for name, value in batch.items() if value is not None})
    batch = {"id": batches[0]["id"]} if batches else {"id": _BATCH, "state": "done"}
    progress.stage("write the graph", len(content.nodes[NodeLabel.THINKING]))
    write_nodes(graph, content, batch, progress)
    write_scores(graph, content)
    write_influences(graph, content)


# -- in a folder ------------------------------------------------------------------------------------------------


def _convert_folder(
    location: FolderLocation, settings: Settings, prefer: Prefer | None, progress: Progress
) -> MigrateSummary:
    prepare_folder(location, create=False)
    folder, converted = location.folder / "graph", location.folder / CONVERTED
    backup = _backup_folder(location.folder)
    if not folder.exists() and converted.exists():  # killed between the two renames
        converted.rename(folder)
    with closing(open_graph(location, settings, create=False).graph) as graph:
        version = graph.schema_version()
        if version in (0, SCHEMA_VERSION):
            shutil.rmtree(converted, ignore_errors=True)
            return MigrateSummary({"before": version or SCHEMA_VERSION, "after": SCHEMA_VERSION})
        if graph.read_only:
            raise ReadOnlyError(
                f"the memory {location} cannot be written to, so it cannot be converted; convert a copy in a folder "
                "that can be written to"
            )
        made, summary = _converted(graph, prefer, progress)
        _build(graph, converted, made.content, settings, progress)
    folder.rename(backup)
    converted.rename(folder)
    summary.backup = str(backup)
    return summary


def _backup_folder(memory: Path) -> Path:
    """The folder to keep the old graph in; an earlier backup is not overwritten."""
    backup, number = memory / BACKUP, 2
    while backup.exists():
        backup, number = memory / f"{BACKUP}.{number}", number + 1
    return backup


def _build(old: GraphStore, folder: Path, content: Content, settings: Settings, progress: Progress) -> None:
    """Build the new graph in `folder`, from nothing; what an interrupted call left there is removed."""
    from memstore.graph.ladybug import LadybugGraph

    shutil.rmtree(folder, ignore_errors=True)
    buffer = settings.graph_buffer_mb * 2**20
    with closing(LadybugGraph.open(folder, create=True, buffer_pool_bytes=buffer)) as graph:
        meta = old.read_meta()
        kept = {name: meta[name] for name in _KEPT_SETTINGS if name in meta}
        graph.write_meta(kept | {"splitter": SPLITTER_VERSION, PENDING: "vectors and links"})
        _write(graph, content, progress)
        graph.checkpoint()


# -- on servers -------------------------------------------------------------------------------------------------


def _convert_servers(location: ServerLocation, prefer: Prefer | None, progress: Progress) -> MigrateSummary:
    from memstore.graph.neo4j import Neo4jGraph

    with closing(open_server_graph(location, create=False)) as graph:
        version = graph.schema_version()
        if version in (0, SCHEMA_VERSION):
            return MigrateSummary({"before": version or SCHEMA_VERSION, "after": SCHEMA_VERSION})
        made, summary = _converted(graph, prefer, progress)
        assert isinstance(graph, Neo4jGraph)
        graph.add_constraints()
        _write(graph, made.content, progress)
        graph.write_meta({"splitter": SPLITTER_VERSION, PENDING: "vectors and links"})
        _delete_old(graph, progress)
        graph.migrate()
    return summary


def _delete_old(graph: GraphStore, progress: Progress) -> None:
    """Delete the nodes of schema 1: rollouts, then answers, then queries, by which a second run finds the rollouts."""
    content = read_schema_1(graph)
    old = content.nodes
    progress.stage("delete the old nodes", len(old[NodeLabel.THINKING]) + len(old[NodeLabel.QUERY]))
    for block in _rollouts_of_whole_queries(content):
        delete_nodes(graph, NodeLabel.THINKING, block, progress)
    given = graph.edges(EdgeType.LEADS_TO, NodeLabel.THINKING, NodeLabel.ANSWER).target
    answers = graph.nodes(NodeLabel.ANSWER, ["id"])["id"].to_pylist()
    unused = np.setdiff1d(np.arange(len(answers)), given)
    delete_nodes(graph, NodeLabel.ANSWER, [answers[row] for row in unused.tolist()])
    delete_nodes(graph, NodeLabel.QUERY, old[NodeLabel.QUERY]["id"].to_pylist(), progress)


def _rollouts_of_whole_queries(old: Content) -> Iterator[list[str]]:
    """Ids of the rollouts in blocks of whole queries; first those without a query.

    The new id of a rollout is found by the number of equal rollouts of its query. A second run must not count those
    that an interrupted deletion left.
    """
    generates, ids = old.edges["generates"], old.nodes[NodeLabel.THINKING]["id"]
    order = np.argsort(generates.source, kind="stable")
    starts = np.flatnonzero(np.diff(generates.source[order], prepend=-1))
    block: list[str] = ids.take(pa.array(np.setdiff1d(np.arange(len(ids)), generates.target))).to_pylist()
    for rows in np.split(generates.target[order], starts[1:]):
        if block and len(block) + len(rows) > BLOCK_NODES:
            yield block
            block = []
        block += ids.take(pa.array(rows)).to_pylist()
    yield block
