"""Delete: remove the rollouts of a run or of a dataset, or everything in a namespace.

What is left without rollouts goes too: queries, answers, policies and runs, with their edges, links, predictions and
vectors. A rollout belongs to the dataset of the row that brought it first. A dataset goes with its last rollout, and a
query that has rollouts of other datasets loses its names in this one, but stays an audit query. Labels that followed
from a deleted right answer are removed. A score that a deleted node influenced loses its
explanation, since the influences that are left would not add up.
Reward models stay, also those that were trained on deleted rollouts, unless the whole namespace is deleted. Vectors
stay in the embedding cache under the hash of their text, so that ingesting the same rollouts again is quick.

The order of the steps makes a kill harmless. The graph comes first, because vectors and links are derived from it: a
vector without its node is an `orphan_vector`, a node that lost a neighbour has a `missing_link`, an answer that lost
labels has a `stale_verdict`, and `memstore verify --repair` repairs them. The next call of `delete` removes nodes that
an interrupted one left without rollouts.
"""

from __future__ import annotations

import difflib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from memstore.errors import InputError
from memstore.graph.protocol import GraphStore, InfluenceUpdate
from memstore.labels.audit import audit_positions, mark_audit
from memstore.labels.implied import remove_unsupported_labels
from memstore.locations.stores import Stores
from memstore.pipeline.features import delete_orphan_features
from memstore.pipeline.link import link_memory
from memstore.pipeline.verify import mark_short_lists, orphan_vectors, stale_verdicts
from memstore.progress import Progress, Silent
from memstore.types import VECTOR_KINDS, BoolVector
from memstore_schema.columns import EDGE_ENDS, EdgeType, NodeLabel

BLOCK_NODES = 1_000
"""Nodes that are deleted in one transaction."""
_DELETE = "MATCH (n:{label}) WHERE n.id IN $ids DETACH DELETE n"
_OWNERS = {
    NodeLabel.QUERY: (EdgeType.GENERATES, True),
    NodeLabel.ANSWER: (EdgeType.LEADS_TO, False),
    NodeLabel.POLICY: (EdgeType.WROTE, True),
    NodeLabel.RUN: (EdgeType.PRODUCED, True),
}
"""Labels whose nodes need a rollout: the edge to it, and whether the edge leaves the node."""


@dataclass(frozen=True)
class DeleteSummary:
    """Numbers of deleted nodes, or of those that a dry run would delete."""

    dry_run: bool
    rollouts: int
    labelled: int
    """Rollouts with a ground truth among them."""
    queries: int
    answers: int
    runs: int
    models: int = 0
    vectors: int = 0
    """Deleted vectors; 0 for a dry run."""
    links: dict[str, int] = field(default_factory=dict)
    """Similarity edges in the memory afterwards, by kind of node; empty for a dry run."""

    def as_json(self) -> dict[str, Any]:
        """The document that the command prints with `--json`."""
        return asdict(self)


def delete_rollouts(
    stores: Stores,
    *,
    run: str | None = None,
    dataset: str | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> DeleteSummary:
    """Delete the rollouts of a run, of a dataset, or of a run on a dataset, and what is left without rollouts.

    Args:
        dry_run: only count.

    Raises:
        InputError: neither is given, or no rollout of the memory has this run or dataset.
    """
    if run is None and dataset is None:
        raise InputError("nothing to delete is named; pass a run or a dataset")
    progress, graph = progress or Silent(), stores.graph
    thinkings = graph.nodes(NodeLabel.THINKING, ["id", "run", "reward", "dataset"])
    doomed = _chosen(graph, thinkings, run, dataset)
    childless = {label: _left_without(graph, label, doomed) for label in _OWNERS}
    ids = thinkings["id"].filter(pa.array(doomed)).to_pylist()
    summary = DeleteSummary(
        dry_run=dry_run,
        rollouts=len(ids),
        labelled=int(pc.is_valid(thinkings["reward"]).to_numpy()[doomed].sum()),
        queries=len(childless[NodeLabel.QUERY]),
        answers=len(childless[NodeLabel.ANSWER]),
        runs=len(childless[NodeLabel.RUN]),
    )
    if dry_run:
        return summary
    progress.stage("delete", len(ids))
    _forget_explanations(graph, {NodeLabel.THINKING: ids, **childless})
    delete_nodes(graph, NodeLabel.THINKING, ids, progress)
    delete_nodes(graph, NodeLabel.QUERY, childless[NodeLabel.QUERY])
    delete_nodes(graph, NodeLabel.ANSWER, childless[NodeLabel.ANSWER])
    delete_nodes(graph, NodeLabel.POLICY, childless[NodeLabel.POLICY])
    remove_unsupported_labels(stores)
    _keep_audit_marks(stores, dataset)
    rest = [(NodeLabel.RUN, childless[NodeLabel.RUN]), (NodeLabel.DATASET, _finished_datasets(graph, dataset))]
    # What is named goes last, so that an interrupted call can be repeated.
    for label, nodes in rest if run is None else reversed(rest):
        delete_nodes(graph, label, nodes)
    graph.refresh_verdicts(stale_verdicts(graph))
    return _finish(stores, summary, progress)


def delete_namespace(stores: Stores, *, dry_run: bool = False, progress: Progress | None = None) -> DeleteSummary:
    """Delete all nodes, edges, vectors and reward models of the memory's namespace; the empty memory stays."""
    progress, graph = progress or Silent(), stores.graph
    thinkings = graph.nodes(NodeLabel.THINKING, ["id", "reward"])
    ids = {label: graph.nodes(label, ["id"])["id"].to_pylist() for label in NodeLabel}
    summary = DeleteSummary(
        dry_run=dry_run,
        rollouts=thinkings.num_rows,
        labelled=thinkings.num_rows - thinkings["reward"].null_count,
        queries=len(ids[NodeLabel.QUERY]),
        answers=len(ids[NodeLabel.ANSWER]),
        runs=len(ids[NodeLabel.RUN]),
        models=len(ids[NodeLabel.REWARD_MODEL]),
    )
    if dry_run:
        return summary
    progress.stage("delete", sum(map(len, ids.values())))
    # Rollouts first: a query or an answer without rollouts is harmless, a rollout without its query is not.
    for label in sorted(NodeLabel, key=lambda label: label is not NodeLabel.THINKING):
        delete_nodes(graph, label, ids[label], progress)
    shutil.rmtree(stores.location.folder / "models", ignore_errors=True)
    finished = _finish(stores, summary, progress)
    if stores.features_dimension is not None:
        stores.record_features(None)
    return finished


def _chosen(graph: GraphStore, thinkings: pa.Table, run: str | None, dataset: str | None) -> BoolVector:
    """bool [T]: the rollouts to delete; none if an interrupted call has deleted all of them already."""
    chosen = np.ones(thinkings.num_rows, np.bool_)
    if run is not None:
        _check_name("run", run, graph.nodes(NodeLabel.RUN, ["name"])["name"].to_pylist())
        chosen &= pc.fill_null(pc.equal(thinkings["run"], run), False).to_numpy()
    if dataset is not None:
        _check_name("dataset", dataset, graph.nodes(NodeLabel.DATASET, ["name"])["name"].to_pylist())
        chosen &= pc.fill_null(pc.equal(thinkings["dataset"], dataset), False).to_numpy()
    return chosen


def _keep_audit_marks(stores: Stores, dataset: str | None) -> None:
    """Mark the audit queries of a dataset whose last rollout is deleted in another of their datasets."""
    graph = stores.graph
    if dataset is None or dataset in set(graph.nodes(NodeLabel.THINKING, ["dataset"])["dataset"].to_pylist()):
        return
    marked = audit_positions(graph.edges(EdgeType.IN, NodeLabel.QUERY, NodeLabel.DATASET, ["split"]))
    ids = graph.nodes(NodeLabel.QUERY, ["id"])["id"].to_pylist()
    mark_audit(stores, [ids[position] for position in sorted(marked)], leaving=dataset)


def _finished_datasets(graph: GraphStore, dataset: str | None) -> list[str]:
    """Ids of the datasets to delete: those without queries, and `dataset` if none of its rollouts is left."""
    nodes = graph.nodes(NodeLabel.DATASET, ["id", "name"]).to_pylist()
    named = set(graph.edges(EdgeType.IN, NodeLabel.QUERY, NodeLabel.DATASET).target.tolist())
    finished = {node["id"] for position, node in enumerate(nodes) if position not in named}
    if dataset is not None and dataset not in set(graph.nodes(NodeLabel.THINKING, ["dataset"])["dataset"].to_pylist()):
        finished |= {node["id"] for node in nodes if node["name"] == dataset}
    return sorted(finished)


def _check_name(kind: str, name: str, known: Sequence[str | None]) -> None:
    names = sorted({value for value in known if value is not None})
    if name not in names:
        close = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(names[:5]) or 'none'}"
        raise InputError(f"the memory has no {kind} {name!r}; {hint}")


def _left_without(graph: GraphStore, label: NodeLabel, doomed: BoolVector) -> list[str]:
    """Ids of nodes that have no rollout other than the `doomed` ones (bool [T])."""
    edge, leaves = _OWNERS[label]
    ends = (label, NodeLabel.THINKING) if leaves else (NodeLabel.THINKING, label)
    edges = graph.edges(edge, *ends)
    owners, rollouts = (edges.source, edges.target) if leaves else (edges.target, edges.source)
    ids = graph.nodes(label, ["id"])["id"]
    kept = np.zeros(len(ids), np.bool_)
    kept[owners[~doomed[rollouts]]] = True
    return ids.filter(pa.array(~kept)).to_pylist()  # type: ignore[no-any-return]


def _forget_explanations(graph: GraphStore, gone: Mapping[NodeLabel, Sequence[str]]) -> None:
    """Delete the influences on each score that one of these nodes influenced: those that are left would not add up."""
    rollouts = graph.nodes(NodeLabel.THINKING, ["id"])["id"]
    lost: dict[str, set[str]] = {}
    for source, label in EDGE_ENDS[EdgeType.INFLUENCED_BY]:
        if gone.get(label):
            edges = graph.edges(EdgeType.INFLUENCED_BY, source, label)
            ids = graph.nodes(label, ["id"])["id"]
            hit = np.asarray(pc.is_in(ids, value_set=pa.array(gone[label], pa.string())))[edges.target]
            models = edges.properties["model"].filter(pa.array(hit)).to_pylist()
            for rollout, model in zip(rollouts.take(edges.source[hit]).to_pylist(), models, strict=True):
                lost.setdefault(model, set()).add(rollout)
    for model, names in sorted(lost.items()):
        graph.replace_influences(InfluenceUpdate(model, sorted(names), {}))


def delete_nodes(graph: GraphStore, label: NodeLabel, ids: Sequence[str], progress: Progress | None = None) -> None:
    """Delete nodes with their edges, block by block."""
    for start in range(0, len(ids), BLOCK_NODES):
        block = list(ids[start : start + BLOCK_NODES])
        graph.cypher(_DELETE.format(label=label), {"ids": block}, write=True)
        if progress is not None:
            progress.advance(len(block))


def _finish(stores: Stores, summary: DeleteSummary, progress: Progress) -> DeleteSummary:
    """Delete the vectors of deleted nodes, and link the nodes that lost a neighbour again."""
    if stores.fingerprint is None:
        stores.graph.checkpoint()
        return summary
    vectors = 0
    for kind in VECTOR_KINDS:
        orphans = orphan_vectors(stores, kind)
        stores.vectors.delete(orphans)
        vectors += len(orphans)
    stores.vectors.flush()
    delete_orphan_features(stores)
    mark_short_lists(stores)
    links = link_memory(stores, progress=progress).edges
    stores.graph.checkpoint()
    return DeleteSummary(**{**asdict(summary), "vectors": vectors, "links": links})
