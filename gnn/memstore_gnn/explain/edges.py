"""INFLUENCED_BY edges: what each node contributes to a score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from memstore.graph.protocol import InfluenceUpdate
from memstore.memory import Memory
from memstore_schema.columns import NodeLabel

NEAR = 1e-6
"""Nodes whose weight and effect are up to this size are rounding and are not written."""


@dataclass(frozen=True)
class Edge:
    """The influence of a node, with all items that it carries."""

    node: NodeLabel
    id: str
    weight: float
    """Share of the score's log odds; the weights add up to them."""
    effect: float
    """The score less the score without the node."""


def record_influences(memory: Memory, model: str, rollout: str, edges: Sequence[Edge]) -> int:
    """Store the nodes that influenced a model's score of a rollout as INFLUENCED_BY edges; return their number.

    Earlier edges of this model and rollout are replaced, so that writing again changes nothing.
    """
    moved = [edge for edge in edges if max(abs(edge.weight), abs(edge.effect)) > NEAR]
    tables = {
        label: _table(rollout, [edge for edge in moved if edge.node is label])
        for label in {edge.node for edge in moved}
    }
    memory.graph.replace_influences(InfluenceUpdate(model, [rollout], tables))
    return len(moved)


def _table(rollout: str, edges: Sequence[Edge]) -> pa.Table:
    return pa.table(
        {
            "source": pa.array([rollout] * len(edges), pa.string()),
            "target": pa.array([edge.id for edge in edges], pa.string()),
            "weight": pa.array([edge.weight for edge in edges], pa.float64()),
            "effect": pa.array([edge.effect for edge in edges], pa.float64()),
        }
    )
