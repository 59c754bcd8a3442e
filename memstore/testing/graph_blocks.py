"""Small literal graphs for tests: blocks from lists of rollouts, and a graph's content as plain Python."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from memstore.graph.protocol import GraphBlock, GraphStore, InfluenceUpdate, LinkUpdate
from memstore.records.ids import run_id
from memstore_schema.columns import EDGE_COLUMNS, EDGE_ENDS, NODE_COLUMNS, NodeLabel, node_schema

NOW = dt.datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=dt.UTC)
THINKING_BLOCK = pa.schema(
    [*node_schema(NodeLabel.THINKING), *((name, pa.string()) for name in ("query_id", "answer_id", "answer_text"))]
)


@dataclass(frozen=True)
class Rollout:
    """A rollout of a test: id, its query's id, the answer's value, and what else matters."""

    id: str
    query: str
    answer: str | None = None
    reward: float | None = None
    source: str | None = "ground_truth"
    text: str | None = "so it must be"
    policy: str = "small"
    run: str = "first"
    step: int | None = None
    mean_logprob: float | None = None


def make_block(
    *rollouts: Rollout,
    golds: Mapping[str, str] | None = None,
    datasets: Mapping[str, str] | None = None,
    batch: Mapping[str, Any] | None = None,
) -> GraphBlock:
    """A block of these rollouts with their queries, answers and runs."""
    golds, datasets = golds or {}, datasets or {}
    queries = {
        rollout.query: {
            "id": rollout.query,
            "text": f"what is {rollout.query}?",
            "dataset": datasets.get(rollout.query, "sums"),
            "domain": "math",
            "gold": golds.get(rollout.query),
        }
        for rollout in rollouts
    }
    answers = {
        answer_key(rollout): {"id": answer_key(rollout), "text": rollout.answer, "value": rollout.answer}
        for rollout in rollouts
        if rollout.answer is not None
    }
    policies: dict[str, set[str]] = {}
    for rollout in rollouts:
        policies.setdefault(rollout.run, set()).add(rollout.policy)
    runs = [{"id": run_id(name), "name": name, "policy": ",".join(sorted(p))} for name, p in policies.items()]
    return GraphBlock(
        queries=pa.Table.from_pylist(list(queries.values()), schema=node_schema(NodeLabel.QUERY)),
        thinkings=pa.Table.from_pylist([_thinking(rollout) for rollout in rollouts], schema=THINKING_BLOCK),
        answers=pa.Table.from_pylist(list(answers.values()), schema=node_schema(NodeLabel.ANSWER)),
        runs=pa.Table.from_pylist(runs, schema=node_schema(NodeLabel.RUN)),
        batch=batch or {"id": "batch", "state": "graph", "rows": len(rollouts), "created_at": NOW},
    )


def answer_key(rollout: Rollout) -> str | None:
    """Id of the answer that a rollout leads to."""
    return None if rollout.answer is None else f"{rollout.query}={rollout.answer}"


def _thinking(rollout: Rollout) -> dict[str, Any]:
    return {
        "id": rollout.id,
        "text": rollout.text,
        "policy": rollout.policy,
        "run": rollout.run,
        "step": rollout.step,
        "mean_logprob": rollout.mean_logprob,
        "reward": rollout.reward,
        "reward_source": rollout.source if rollout.reward is not None else None,
        "created_at": NOW,
        "query_id": rollout.query,
        "answer_id": answer_key(rollout),
        "answer_text": None if rollout.answer is None else f"The answer is {rollout.answer}.",
    }


def make_links(
    label: NodeLabel, neighbours: Mapping[str, Mapping[str, float]], *, fingerprint: str = "k=5"
) -> LinkUpdate:
    """New neighbour lists for the keys of `neighbours`, all of them marked as linked."""
    rows = [(a, b, score) for a, found in neighbours.items() for b, score in found.items()]
    sources, targets, scores = zip(*rows, strict=True) if rows else ((), (), ())
    edges = pa.table(
        {
            "source": pa.array(sources, pa.string()),
            "target": pa.array(targets, pa.string()),
            "score": pa.array(scores, pa.float32()),
        }
    )
    return LinkUpdate(label, list(neighbours), edges, list(neighbours), fingerprint)


def make_influences(model: str, weights: Mapping[str, Mapping[str, float]]) -> InfluenceUpdate:
    """What moved the model's scores of the keys of `weights`; an id that begins with a q is a query's."""
    edges = {}
    for label in (NodeLabel.QUERY, NodeLabel.THINKING):
        rows = [
            {"source": rollout, "target": target, "weight": weight}
            for rollout, found in weights.items()
            for target, weight in found.items()
            if target.startswith("q") == (label is NodeLabel.QUERY)
        ]
        columns = [("source", pa.string()), ("target", pa.string()), ("weight", pa.float64())]
        edges[label] = pa.Table.from_pylist(rows, schema=pa.schema(columns))
    return InfluenceUpdate(model, list(weights), edges)


def dump(graph: GraphStore) -> dict[str, Any]:
    """All nodes and edges of a graph, ends as ids; equal graphs have equal dumps."""
    ids = {label: graph.nodes(label, ["id"])["id"].to_pylist() for label in NodeLabel}
    content: dict[str, Any] = {str(label): graph.nodes(label, list(NODE_COLUMNS[label])).to_pylist() for label in ids}
    for edge, ends in EDGE_ENDS.items():
        for source, target in ends:
            found = graph.edges(edge, source, target)
            properties = found.properties.to_pylist() if EDGE_COLUMNS[edge] else [{}] * len(found)
            content[f"{source} {edge} {target}"] = [
                (ids[source][a], ids[target][b], values)
                for a, b, values in zip(found.source.tolist(), found.target.tolist(), properties, strict=True)
            ]
    return content
