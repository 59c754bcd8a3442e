"""What made a model's score of a rollout: its INFLUENCED_BY edges, checked by removal when they were written.

The weight of a piece is its share of the score's log odds. Its effect is the score less the score without the piece.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from memstore_rl.inspector.source import Source
from memstore_rl.inspector.texts import one_line
from memstore_schema.columns import EDGE_ENDS, EdgeType, NodeLabel

_TARGETS = tuple(target for _, target in EDGE_ENDS[EdgeType.INFLUENCED_BY])
_COLUMNS: dict[NodeLabel, tuple[str, ...]] = {
    NodeLabel.QUERY: ("text",),
    NodeLabel.THINKING: ("text", "policy", "step", "reward"),
    NodeLabel.ANSWER: ("text", "verdict"),
    NodeLabel.POLICY: ("name", "step"),
    NodeLabel.REWARD_MODEL: ("version",),
}
_NOUNS = {
    NodeLabel.QUERY: "labelled query",
    NodeLabel.THINKING: "rollout",
    NodeLabel.ANSWER: "answer",
    NodeLabel.POLICY: "policy",
    NodeLabel.REWARD_MODEL: "model",
}


@dataclass(frozen=True)
class Evidence:
    """A node that moved a score."""

    label: NodeLabel
    id: str
    kind: str
    text: str
    """What the node says."""
    known: float | None
    """Its label or verdict."""
    weight: float
    effect: float
    model: str


def evidence_of(
    source: Source, rollouts: Sequence[str], model: str | None, most: int, query: str | None = None
) -> dict[str, list[Evidence]]:
    """The nodes that moved a model's scores of some rollouts, by decreasing weight, at most `most` of each.

    Args:
        query: the query of all of them; it is faster for many than to read each one's.
    """
    found: dict[str, list[tuple[NodeLabel, dict[str, Any]]]] = {}
    wanted, columns = set(rollouts), ["weight", "effect", "model"]
    for label in _TARGETS:
        ends = EdgeType.INFLUENCED_BY, NodeLabel.THINKING, label
        edges = (
            source.edges_of(*ends, rollouts, columns=columns)
            if query is None
            else source.edges_of(*ends, [query], by="query", columns=columns)
        )
        for edge in edges.to_pylist():
            if edge["model"] == model and edge["source_id"] in wanted:
                found.setdefault(edge["source_id"], []).append((label, edge))
    kept = {
        rollout: sorted(edges, key=lambda one: (-abs(one[1]["weight"]), one[1]["target_id"]))[:most]
        for rollout, edges in found.items()
    }
    nodes = _nodes(source, {(label, edge["target_id"]) for edges in kept.values() for label, edge in edges})
    return {
        rollout: [_evidence(label, edge, nodes[label, edge["target_id"]]) for label, edge in edges]
        for rollout, edges in kept.items()
    }


def _nodes(source: Source, wanted: set[tuple[NodeLabel, str]]) -> dict[tuple[NodeLabel, str], dict[str, Any]]:
    found = {}
    for label in {label for label, _ in wanted}:
        ids = [name for of, name in wanted if of is label]
        for node in source.nodes(label, ["id", *_COLUMNS[label]], ids=ids).to_pylist():
            found[label, node["id"]] = node
    return found


def _evidence(label: NodeLabel, edge: dict[str, Any], node: dict[str, Any]) -> Evidence:
    known = node.get("reward", node.get("verdict"))
    return Evidence(
        label=label,
        id=node["id"],
        kind=_NOUNS[label],
        text=_text(label, node),
        known=known,
        weight=edge["weight"],
        effect=edge["effect"],
        model=edge["model"],
    )


def _text(label: NodeLabel, node: dict[str, Any]) -> str:
    if label is NodeLabel.POLICY:
        return str(node["name"]) if node["step"] is None else f"{node['name']} at step {node['step']}"
    if label is NodeLabel.REWARD_MODEL:
        return f"version {node['version']}: its prior and the labels of far queries"
    if label is NodeLabel.THINKING:
        who = ", ".join(str(part) for part in (node["policy"], node["step"]) if part is not None)
        return f"{who}: {one_line(node['text'], 100)}" if who else one_line(node["text"], 100)
    return one_line(node["text"], 120)
