"""Export a snapshot as PyTorch Geometric `HeteroData`, and take subgraphs of a snapshot.

PyG passes messages source -> target. SIMILAR_TO is directed: `(a)-[similar_to]->(b)` means that b is one of a's
nearest neighbours, so messages from the memory's node b reach the rollout a along `rev_similar_to` (b -> a). Every
relation is exported in both directions, each with its own edge type; no relation is made undirected:

    (query, generates, thinking)        (thinking, rev_generates, query)
    (thinking, leads_to, answer)        (answer, rev_leads_to, thinking)
    (policy, wrote, thinking)           (thinking, rev_wrote, policy)             on request: a policy at a step
    (query, similar_to, query)          (query, rev_similar_to, query)            edge_attr: cosine, float32 [E, 1]
    (thinking, similar_to, thinking)    (thinking, rev_similar_to, thinking)      edge_attr: cosine, float32 [E, 1]

An edge type without edges has an `edge_index` of shape [2, 0]. Positions are those of the snapshot, ordered by id.
Feature matrices share the snapshot's memory where that is writable: treat them as read-only.

`NeighborLoader` samples with pyg-lib or torch-sparse, `HGTLoader` with torch-sparse. Neither is on PyPI: install the
wheel for your PyTorch from https://data.pyg.org/whl. Without them, `subgraph` below takes the queries within some hops.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from memstore.errors import InputError
from memstore.graph.protocol import EdgeTable
from memstore.snapshots.aliases import in_dataset, with_keys
from memstore.snapshots.snapshot import Snapshot
from memstore.snapshots.take import EDGE_NAMES, TABLES
from memstore.types import BoolVector, FloatVector, IntVector
from memstore_gnn.data.groups import query_of_thinkings
from memstore_gnn.data.labels import rewards_of
from memstore_gnn.data.splits import Split, labelled_queries
from memstore_gnn.data.visibility import EVERYTHING, audit_queries, visible_split

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

_EDGES = {
    "generates": ("query", "generates", "thinking"),
    "leads_to": ("thinking", "leads_to", "answer"),
    "wrote": ("policy", "wrote", "thinking"),
    "query_similar": ("query", "similar_to", "query"),
    "thinking_similar": ("thinking", "similar_to", "thinking"),
}
_PYG_MASKS = {"select": "val_mask", "report": "test_mask"}
DEFAULT_BUDGET = 0.8
"""Share of the queries with ground truth in the train and select masks of an export without a split."""


class NodeIndex:
    """Map between the rows and the ids of one node type."""

    def __init__(self, ids: pa.ChunkedArray) -> None:
        self._ids = ids
        self.ids: NDArray[np.object_] = ids.to_numpy()

    def __len__(self) -> int:
        return len(self.ids)

    def positions(self, ids: Sequence[str]) -> IntVector:
        """Rows of these ids, int64 [len(ids)].

        Raises:
            InputError: an id that is not among the nodes.
        """
        found = pc.index_in(pa.array(ids, pa.string()), value_set=self._ids.combine_chunks())
        if found.null_count:
            unknown = ids[int(np.flatnonzero(found.is_null().to_numpy(zero_copy_only=False))[0])]
            raise InputError(f"the snapshot holds no node {unknown!r}; take the ids from the memory it was made of")
        return found.to_numpy().astype(np.int64)


def node_index(snapshot: Snapshot) -> dict[str, NodeIndex]:
    """Node index of `query`, `thinking`, `answer` and `policy`."""
    tables = {
        "query": snapshot.queries,
        "thinking": snapshot.thinkings,
        "answer": snapshot.answers,
        "policy": snapshot.policies,
    }
    return {name: NodeIndex(table["id"]) for name, table in tables.items()}


def to_hetero(
    snapshot: Snapshot, *, reward: FloatVector | None = None, splits: Split | None = None, policies: bool = False
) -> HeteroData:
    """Export a snapshot, in a form that PyG's loaders, transforms and models accept.

    Args:
        reward: float64 [T], NaN for hidden labels; None uses the snapshot's ground truth.
        splits: the queries of each mask (`memstore_gnn.data.splits.label_budget`), and through them their thinkings.
            None trains and selects on 80 % of the queries with ground truth, reports on the rest, and leaves
            thinkings without ground truth out of all masks.
        policies: export policies at their steps too, as nodes of type `policy` with the relation `wrote` and its
            reverse. Such a node reveals who wrote a rollout.

    Returns:
        every node type: `x` float32 [N, D], `has_x` bool [N] (False: zero row) and `node_index` int64 [N], the row in
            the snapshot. The x of an answer or a policy is the mean of the vectors of its thinkings.
        thinking: `y` float32 [T], NaN where unlabelled, and `y_mask` bool [T].
        query and thinking: `train_mask`, `select_mask` and `report_mask`, bool; `val_mask` and `test_mask` are PyG's
            names for the last two. Thinkings of audit queries (`memstore.labels.audit`) have no y, and neither they nor
            their queries are in a mask.
        the graph: `node_ids`, a dict from node type to ids, str [N]. Batches of a loader keep it whole.

    Example:
        >>> from memstore import Memory
        >>> with Memory.open("my-memory") as memory:
        ...     data = to_hetero(memory.snapshot())
        >>> ids = data.node_ids["thinking"][data["thinking"].node_index.numpy()]  # the same for a loader's batch
    """
    from torch_geometric.data import HeteroData  # takes seconds, and only an export needs it

    data = HeteroData()
    x, has_x = _features(snapshot, policies)
    index = {name: nodes for name, nodes in node_index(snapshot).items() if name in x}
    for name, nodes in index.items():
        data[name].x, data[name].has_x = _tensor(x[name]), _tensor(has_x[name])
        data[name].node_index = torch.arange(len(nodes))
        data[name].num_nodes = len(nodes)
    # PyG's loaders index every array of a node type with tensors, which numpy's arrays of str do not support.
    data.node_ids = {name: nodes.ids for name, nodes in index.items()}
    labels = rewards_of(snapshot) if reward is None else reward
    if labels.shape != (snapshot.thinkings.num_rows,):
        raise InputError(f"{labels.size} rewards for {snapshot.thinkings.num_rows} rollouts; pass one a rollout")
    audit = audit_queries(snapshot)
    labels = np.where(audit[query_of_thinkings(snapshot)], np.nan, labels)
    data["thinking"].y = torch.from_numpy(labels.astype(np.float32))
    data["thinking"].y_mask = ~torch.isnan(data["thinking"].y)
    for key, relation in _EDGES.items():
        if x.keys() >= {relation[0], relation[2]}:
            _add_relation(data, relation, snapshot.edges[key])
    _add_masks(data, snapshot, splits, ~audit)
    return data


def _features(snapshot: Snapshot, policies: bool) -> tuple[dict[str, NDArray[np.float32]], dict[str, BoolVector]]:
    """Vectors of each node type that is exported, and which rows have one."""
    x = {"query": snapshot.query_x, "thinking": snapshot.thinking_x}
    has_x = {"query": snapshot.query_has_x, "thinking": snapshot.thinking_has_x}
    ends = {"answer": (snapshot.edges["leads_to"], snapshot.answers.num_rows)}
    if policies:
        ends["policy"] = (_flip(snapshot.edges["wrote"]), snapshot.policies.num_rows)
    for name, (edges, count) in ends.items():
        x[name], has_x[name] = _mean_of_thinkings(snapshot, edges, count)
    return x, has_x


def _mean_of_thinkings(snapshot: Snapshot, edges: EdgeTable, count: int) -> tuple[NDArray[np.float32], BoolVector]:
    """Mean of the vectors of each node's thinkings, float32 [count, D], and which nodes have one, bool [count].

    Args:
        edges: thinking -> node.
    """
    known = snapshot.thinking_has_x[edges.source]
    source, target = edges.source[known], edges.target[known]
    votes = np.bincount(target, minlength=count)
    shape = (count, snapshot.thinkings.num_rows)
    mean = csr_matrix(((1.0 / np.maximum(votes, 1))[target].astype(np.float32), (target, source)), shape=shape)
    return np.asarray(mean @ snapshot.thinking_x, np.float32), votes > 0


def _tensor(array: NDArray[Any]) -> torch.Tensor:
    """A tensor that shares the array's memory, or a copy if the array is read-only."""
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def _add_relation(data: HeteroData, relation: tuple[str, str, str], edges: EdgeTable) -> None:
    source, name, target = relation
    reverse = (target, f"rev_{name}", source)
    data[relation].edge_index = torch.from_numpy(np.stack((edges.source, edges.target)))
    data[reverse].edge_index = torch.from_numpy(np.stack((edges.target, edges.source)))
    if name == "similar_to":
        score = torch.from_numpy(edges.properties["score"].to_numpy().astype(np.float32)[:, None])
        data[relation].edge_attr = data[reverse].edge_attr = score


def _add_masks(data: HeteroData, snapshot: Snapshot, splits: Split | None, kept: BoolVector) -> None:
    owner, labelled = query_of_thinkings(snapshot), np.ones(snapshot.thinkings.num_rows, np.bool_)
    if splits is None:
        splits = _default_split(snapshot)
        labelled = np.isfinite(rewards_of(snapshot))
    parts = {"train": splits.train, "select": splits.select, "report": splits.report}
    shared = np.sum([part.astype(np.int64) for part in parts.values()], axis=0) > 1
    if shared.any():
        both = data.node_ids["query"][int(shared.argmax())]
        raise InputError(f"query {both} is in two parts of the split; a query is trained on, selected on or reported")
    for name, part in parts.items():
        mask = part & kept
        masks = {"query": torch.from_numpy(mask), "thinking": torch.from_numpy(mask[owner] & labelled)}
        for kind, tensor in masks.items():
            data[kind][f"{name}_mask"] = tensor
            if name in _PYG_MASKS:
                data[kind][_PYG_MASKS[name]] = tensor


def _default_split(snapshot: Snapshot) -> Split:
    if labelled_queries(snapshot).any():
        return visible_split(snapshot, EVERYTHING, DEFAULT_BUDGET)
    none = np.zeros(snapshot.queries.num_rows, np.bool_)
    return Split(none, none, none)


def select_queries(
    snapshot: Snapshot, dataset: str | None = None, keys: Sequence[str] | None = None
) -> NDArray[np.object_]:
    """Ids of the queries of a dataset, of the source's keys, or of both; in the order of ids.

    Raises:
        InputError: a dataset or a key that the snapshot does not hold.
    """
    keep = np.ones(snapshot.queries.num_rows, np.bool_)
    if dataset is not None:
        keep &= in_dataset(snapshot, dataset)
        if not keep.any():
            known = ", ".join(sorted(snapshot.datasets["name"].to_pylist()))
            raise InputError(f"the snapshot holds no dataset {dataset!r}; it has {known or 'none at all'}")
    if keys is not None:
        edges = snapshot.edges["in"]
        known_keys = set(edges.properties["key"].filter(pa.array(keep[edges.source])).to_pylist())
        for key in keys:
            if key not in known_keys:
                raise InputError(f"the snapshot holds no query with the key {key!r}; see IN.key in the memory")
        keep &= with_keys(snapshot, keys)
    return snapshot.queries["id"].to_numpy()[keep]


def subgraph(snapshot: Snapshot, query_ids: Sequence[str], hops: int = 0) -> Snapshot:
    """Take some queries and those within `hops` SIMILAR_TO edges of them, in either direction.

    Their rollouts, the answers, policies and runs of these, every edge between two kept nodes and all reward models are
    kept. The manifest's `id` is a digest of the snapshot's id and the kept queries and rollouts.

    Raises:
        InputError: an id that the snapshot does not hold, or a negative number of hops.
    """
    if hops < 0:
        raise InputError(f"{hops} hops; pass 0 for the queries alone, or a positive number")
    index = node_index(snapshot)
    queries = np.zeros(len(index["query"]), np.bool_)
    queries[index["query"].positions(list(query_ids))] = True
    similar = snapshot.edges["query_similar"]
    for _ in range(hops):
        reached = np.concatenate((similar.target[queries[similar.source]], similar.source[queries[similar.target]]))
        queries[reached] = True
    return _cut(snapshot, queries, queries[query_of_thinkings(snapshot)])


def some_rollouts(snapshot: Snapshot, keep: BoolVector) -> Snapshot:
    """Take some rollouts (bool [T]) with their queries, answers, policies and runs, and the edges between them."""
    return _cut(snapshot, _touched(keep, _flip(snapshot.edges["generates"]), snapshot.queries.num_rows), keep)


def _flip(edges: EdgeTable) -> EdgeTable:
    return EdgeTable(edges.target, edges.source, edges.properties)


def _touched(sources: BoolVector, edges: EdgeTable, size: int) -> BoolVector:
    mask = np.zeros(size, np.bool_)
    mask[edges.target[sources[edges.source]]] = True
    return mask


ENDS = {name: (TABLES[source], TABLES[target]) for name, (_, source, target) in EDGE_NAMES.items()}
"""Node tables of the ends of each edge table of a snapshot."""


def _cut(snapshot: Snapshot, queries: BoolVector, thinkings: BoolVector) -> Snapshot:
    """Some queries (bool [Q]) and rollouts (bool [T]) with the answers, policies and runs of these rollouts.

    All reward models and datasets are kept, and every edge between two kept nodes. Rows stay ordered by id, edges by
    (source, target).
    """
    kept = {
        "queries": queries,
        "thinkings": thinkings,
        "answers": _touched(thinkings, snapshot.edges["leads_to"], snapshot.answers.num_rows),
        "runs": _touched(thinkings, _flip(snapshot.edges["produced"]), snapshot.runs.num_rows),
        "policies": _touched(thinkings, _flip(snapshot.edges["wrote"]), snapshot.policies.num_rows),
        "reward_models": np.ones(snapshot.reward_models.num_rows, np.bool_),
        "datasets": np.ones(snapshot.datasets.num_rows, np.bool_),
    }
    row = {name: np.cumsum(mask) - 1 for name, mask in kept.items()}
    edges: dict[str, EdgeTable] = {}
    for key, table in snapshot.edges.items():
        source, target = ENDS[key]
        inside = kept[source][table.source] & kept[target][table.target]
        properties = table.properties.filter(pa.array(inside)) if table.properties.num_columns else table.properties
        edges[key] = EdgeTable(row[source][table.source[inside]], row[target][table.target[inside]], properties)
    digest = hashlib.blake2b(snapshot.manifest.id.encode(), digest_size=12)
    digest.update(np.packbits(queries).tobytes() + np.packbits(thinkings).tobytes())
    return replace(
        snapshot,
        manifest=replace(snapshot.manifest, id=digest.hexdigest()),
        **{name: getattr(snapshot, name).filter(pa.array(mask)) for name, mask in kept.items()},
        edges=edges,
        query_x=snapshot.query_x[queries],
        thinking_x=snapshot.thinking_x[thinkings],
        query_has_x=snapshot.query_has_x[queries],
        thinking_has_x=snapshot.thinking_has_x[thinkings],
        features=None if snapshot.features is None else snapshot.features[thinkings],
        has_features=None if snapshot.has_features is None else snapshot.has_features[thinkings],
    )
