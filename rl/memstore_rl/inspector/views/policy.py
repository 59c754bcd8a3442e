"""A policy at a step: how reliable it is estimated to be in each dataset."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from memstore_rl.inspector.source import Source
from memstore_rl.inspector.views.missing import NotThere
from memstore_schema.columns import EdgeType, NodeLabel


@dataclass(frozen=True)
class Reliability:
    """How often a policy is right in a dataset."""

    dataset: str
    reliability: float
    low: float
    """The 90 % interval begins here."""
    high: float
    votes: int
    judged: int
    estimated_at: dt.datetime | None


@dataclass(frozen=True)
class PolicyPage:
    """A policy at a step."""

    id: str
    name: str
    step: int | None
    reliabilities: tuple[Reliability, ...]


def policy_page(source: Source, policy: str) -> PolicyPage:
    """A policy and its reliabilities.

    Raises:
        NotThere: it does not exist.
    """
    found = source.nodes(NodeLabel.POLICY, ["name", "step"], ids=[policy]).to_pylist()
    if not found:
        raise NotThere(f"there is no policy {policy}; the page of the memory lists policies by run")
    columns = ["reliability", "low", "high", "votes", "judged", "estimated_at"]
    ends = EdgeType.RELIABLE_IN, NodeLabel.POLICY, NodeLabel.DATASET
    edges = source.edges_of(*ends, [policy], columns=columns).to_pylist()
    datasets = source.nodes(NodeLabel.DATASET, ["id", "name"], ids=[edge["target_id"] for edge in edges]).to_pylist()
    name_of = {row["id"]: row["name"] for row in datasets}
    rows = [Reliability(name_of[edge["target_id"]], *(edge[name] for name in columns)) for edge in edges]
    return PolicyPage(policy, found[0]["name"], found[0]["step"], tuple(sorted(rows, key=lambda row: row.dataset)))
