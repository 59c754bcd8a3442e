"""Keys under which a source names queries with different texts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Set

from memstore.graph.protocol import GraphStore
from memstore_schema.columns import EdgeType, NodeLabel


def shared_keys(graph: GraphStore, names: Set[tuple[str, str]]) -> str | None:
    """A sentence about those of these names that several queries of the memory have; None without any.

    A query is its text, so that a key whose text changes, such as by another prompt template, names several queries.

    Args:
        names: pairs of dataset and key.
    """
    if not names:
        return None
    edges = graph.edges(EdgeType.IN, NodeLabel.QUERY, NodeLabel.DATASET, ["key"])
    datasets = graph.nodes(NodeLabel.DATASET, ["name"])["name"].to_pylist()
    queries: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
    for query, dataset, key in zip(
        edges.source.tolist(), edges.target.tolist(), edges.properties["key"].to_pylist(), strict=True
    ):
        queries[datasets[dataset], key].add(query)
    shared = sorted(name for name in names if len(queries[name]) > 1)
    if not shared:
        return None
    dataset, key = shared[0]
    more = f", and {len(shared) - 1:,} more keys name several" if len(shared) > 1 else ""
    return (
        f"the key {key} of dataset {dataset} names {len(queries[shared[0]]):,} different texts{more}; each text is a "
        "query of its own, so give the question without its prompt template if only the template differs"
    )
