"""Labels that follow from a right answer, and are removed with it.

Where a query has one right answer, a right answer labels the others 0. Such a label is implied as long as the journal
records no verdict on the answer itself and the label's source is still `person`: an ingest that brings the same ground
truth makes it its own. An implied label is supported while a rollout of its query is labelled right. Without support it
is removed, and it contradicts nothing. In journals of versions that did not record it, no label is implied.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pyarrow as pa

from memstore.graph.labels import LABEL_SCHEMA
from memstore.graph.protocol import GraphStore
from memstore.graph.verdicts import PERSON, RIGHT
from memstore.labels.journal import Journal
from memstore.locations.stores import Stores
from memstore_schema.columns import EdgeType, NodeLabel

_ENDS = EdgeType.GENERATES, NodeLabel.QUERY, NodeLabel.THINKING


def unsupported_labels(
    graph: GraphStore, journal: Journal, rollouts: Collection[str], rewards: Mapping[str, float | None] | None = None
) -> set[str]:
    """Rollouts whose implied label has no support.

    Args:
        rollouts: ids of rollouts; all rollouts of their queries are looked at.
        rewards: rewards by rollout that take the place of the stored ones; None removes the label. What is given here
            is not implied.
    """
    rewards, implied = rewards or {}, journal.implied()
    if not implied or not rollouts:
        return set()
    queries = graph.edges_of(*_ENDS, sorted(rollouts), by="target")["source_id"].unique().to_pylist()
    edges = graph.edges_of(*_ENDS, queries)
    query_of = dict(zip(edges["target_id"].to_pylist(), edges["source_id"].to_pylist(), strict=True))
    stored = graph.nodes(NodeLabel.THINKING, LABEL_SCHEMA.names, ids=list(query_of)).to_pylist()
    supported = {query_of[row["id"]] for row in stored if is_right(rewards.get(row["id"], row["reward"]))}
    return {
        row["id"]
        for row in stored
        if row["id"] in implied
        and row["id"] not in rewards
        and row["reward"] is not None
        and row["reward_source"] == PERSON
        and query_of[row["id"]] not in supported
    }


def remove_unsupported_labels(stores: Stores, rollouts: Collection[str] | None = None) -> None:
    """Remove the implied labels without support in the queries of these rollouts, by default everywhere."""
    journal = Journal(stores.location.folder)
    looked_at = journal.implied() if rollouts is None else rollouts
    if found := unsupported_labels(stores.graph, journal, looked_at):
        stores.graph.clear_labels(sorted(found))


def confirm_labels(stores: Stores, rewards: Mapping[str, float], source: str) -> None:
    """Give this source to those of these labels that are implied; they are implied no longer."""
    if names := sorted(Journal(stores.location.folder).implied() & rewards.keys()):
        rows = {"id": names, "reward": [rewards[name] for name in names], "reward_source": [source] * len(names)}
        stores.graph.set_labels(pa.table(rows, LABEL_SCHEMA), replace=True)


def is_right(reward: float | None) -> bool:
    """Whether a label says that the answer is right."""
    return reward is not None and reward > RIGHT
