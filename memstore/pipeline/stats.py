"""Stats: count the nodes, edges and labels of a memory, in total and by dataset."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from memstore.graph.protocol import EdgeTable
from memstore.locations.stores import Stores
from memstore.snapshots.take import EDGE_NAMES
from memstore_schema.columns import SCHEMA_VERSION, EdgeType, NodeLabel

POSITIVE = 0.5
"""A rollout is positive if its ground truth exceeds this reward (0..1)."""


@dataclass(frozen=True)
class DatasetStats:
    """Counts of one dataset."""

    dataset: str
    queries: int
    """Queries with a name in this dataset; a query may be in several."""
    thinkings: int
    """Rollouts that a row of this dataset brought."""
    labelled: int
    """Rollouts with a ground truth."""
    positive: int
    """Rollouts whose ground truth exceeds `POSITIVE`."""


@dataclass(frozen=True)
class Stats:
    """Counts of a memory."""

    queries: int
    thinkings: int
    answers: int
    runs: int
    policies: int
    labelled_queries: int
    """Queries with at least one rollout that has a ground truth."""
    labelled_thinkings: int
    """Rollouts with a ground truth."""
    predicted_thinkings: int
    """Rollouts that at least one reward model has scored."""
    edges: dict[str, int]
    """Edges by type."""
    datasets: list[DatasetStats]
    namespace: str
    embedder: str | None
    """Fingerprint of the embedder; None before the first ingest."""
    schema_version: int

    def as_json(self) -> dict[str, Any]:
        """The document that the command prints with `--json`."""
        return asdict(self)


def memory_stats(stores: Stores) -> Stats:
    """Count the content of an open memory."""
    graph = stores.graph
    queries = graph.nodes(NodeLabel.QUERY, ["id"])
    thinkings = graph.nodes(NodeLabel.THINKING, ["id", "policy", "reward", "dataset"])
    names = graph.nodes(NodeLabel.DATASET, ["name"])["name"].to_pylist()
    edges = {name: graph.edges(*ends) for name, ends in EDGE_NAMES.items()}
    query_of = np.zeros(len(thinkings), dtype=np.int64)
    query_of[edges["generates"].target] = edges["generates"].source
    reward = thinkings["reward"].to_numpy(zero_copy_only=False).astype(np.float64)
    counts = dict.fromkeys((str(edge) for edge in EdgeType), 0)
    for name, (edge, _, _) in EDGE_NAMES.items():
        counts[str(edge)] += len(edges[name])
    fingerprint = stores.fingerprint
    return Stats(
        queries=len(queries),
        thinkings=len(thinkings),
        answers=len(graph.nodes(NodeLabel.ANSWER, ["id"])),
        runs=len(graph.nodes(NodeLabel.RUN, ["id"])),
        policies=len(pc.unique(thinkings["policy"])),
        labelled_queries=len(np.unique(query_of[~np.isnan(reward)])),
        labelled_thinkings=int((~np.isnan(reward)).sum()),
        predicted_thinkings=len(np.unique(edges["scored_by"].source)),
        edges=counts,
        datasets=_datasets(names, edges["in"], thinkings["dataset"], reward),
        namespace=stores.namespace,
        embedder=str(fingerprint) if fingerprint else None,
        schema_version=SCHEMA_VERSION,
    )


def _datasets(
    names: list[str], named: EdgeTable, of_thinking: pa.ChunkedArray, reward: np.ndarray
) -> list[DatasetStats]:
    queries = np.bincount(np.unique(np.stack((named.target, named.source)), axis=1)[0], minlength=len(names))
    position = pc.index_in(of_thinking, value_set=pa.array(names, pa.string())).fill_null(len(names)).to_numpy()

    def count(rows: np.ndarray) -> list[int]:
        return [int(number) for number in np.bincount(position[rows], minlength=len(names) + 1)]

    columns = (
        queries.tolist(),
        count(np.ones(len(reward), bool))[:-1],
        count(~np.isnan(reward))[:-1],
        count(reward > POSITIVE)[:-1],
    )
    return sorted((DatasetStats(*row) for row in zip(names, *columns, strict=True)), key=lambda row: row.dataset)
