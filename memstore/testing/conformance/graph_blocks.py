"""Small literal graphs for tests: blocks from lists of rollouts, and a graph's content as plain Python."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from memstore.graph.protocol import GraphBlock, GraphStore, InfluenceUpdate, LinkUpdate, ScoreBatch
from memstore.records.ids import dataset_id, run_id
from memstore.records.policies import policies_of
from memstore_schema.columns import (
    ALIAS_SCHEMA,
    EDGE_COLUMNS,
    EDGE_ENDS,
    NODE_COLUMNS,
    EdgeType,
    NodeLabel,
    edge_schema,
    node_schema,
)

NOW = dt.datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=dt.UTC)
THINKING_BLOCK = pa.schema(
    [*node_schema(NodeLabel.THINKING), *((name, pa.string()) for name in ("query_id", "answer_id", "answer_text"))]
)


@dataclass(frozen=True)
class Rollout:
    """A rollout of a test: its id, its query's id, the answer's value and other properties."""

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


THREE = (Rollout("t1", "q1", "4", 1.0), Rollout("t2", "q1", "4"), Rollout("t3", "q2"))
"""Two rollouts that agree, one of them labelled, and one without an answer."""


def make_block(
    *rollouts: Rollout,
    golds: Mapping[str, str] | None = None,
    datasets: Mapping[str, str] | None = None,
    batch: Mapping[str, Any] | None = None,
) -> GraphBlock:
    """A block of these rollouts with their queries, answers, policies and runs."""
    golds, datasets = golds or {}, datasets or {}
    in_dataset = {rollout.query: datasets.get(rollout.query, "sums") for rollout in rollouts}
    queries = {
        rollout.query: {
            "id": rollout.query,
            "text": f"what is {rollout.query}?",
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
    thinkings = pa.Table.from_pylist(
        [_thinking(rollout, in_dataset[rollout.query]) for rollout in rollouts], schema=THINKING_BLOCK
    )
    policies, policy_ids = policies_of(thinkings)
    return GraphBlock(
        queries=pa.Table.from_pylist(list(queries.values()), schema=node_schema(NodeLabel.QUERY)),
        thinkings=thinkings.append_column("policy_id", policy_ids),
        answers=pa.Table.from_pylist(list(answers.values()), schema=node_schema(NodeLabel.ANSWER)),
        runs=pa.Table.from_pylist(runs, schema=node_schema(NodeLabel.RUN)),
        policies=policies,
        batch=batch or {"id": "batch", "state": "graph", "rows": len(rollouts), "created_at": NOW},
        datasets=pa.Table.from_pylist(
            [{"id": dataset_id(name), "name": name} for name in sorted(set(in_dataset.values()))],
            schema=node_schema(NodeLabel.DATASET),
        ),
        aliases=pa.Table.from_pylist(
            [{"query_id": query, "dataset": name} for query, name in in_dataset.items()], schema=ALIAS_SCHEMA
        ),
    )


def answer_key(rollout: Rollout) -> str | None:
    """Id of the answer that a rollout leads to."""
    return None if rollout.answer is None else f"{rollout.query}={rollout.answer}"


def _thinking(rollout: Rollout, dataset: str) -> dict[str, Any]:
    return {
        "id": rollout.id,
        "text": rollout.text,
        "dataset": dataset,
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


_INFLUENCERS = {
    "q": NodeLabel.QUERY,
    "t": NodeLabel.THINKING,
    "a": NodeLabel.ANSWER,
    "p": NodeLabel.POLICY,
    "m": NodeLabel.REWARD_MODEL,
}


def make_influences(model: str, weights: Mapping[str, Mapping[str, float]]) -> InfluenceUpdate:
    """Influences on the model's scores of the keys of `weights`; each effect is half of the weight.

    The label of a target follows from its id: q1, t1, q1=4 or a-... (an answer), m1 (a reward model), p-... (a policy).
    """
    rows: dict[NodeLabel, list[dict[str, Any]]] = {target: [] for _, target in EDGE_ENDS[EdgeType.INFLUENCED_BY]}
    for rollout, found in weights.items():
        for target, weight in found.items():
            label = NodeLabel.ANSWER if "=" in target else _INFLUENCERS[target[0]]
            rows[label].append({"source": rollout, "target": target, "weight": weight, "effect": weight / 2})
    columns = {"source": pa.string(), "target": pa.string(), "weight": pa.float64(), "effect": pa.float64()}
    schema = pa.schema(columns.items())
    return InfluenceUpdate(
        model, list(weights), {label: pa.Table.from_pylist(found, schema=schema) for label, found in rows.items()}
    )


def make_reliabilities(known: Mapping[tuple[str, str], float]) -> pa.Table:
    """Reliabilities by the ids of policy and dataset, estimated `NOW` from 8 queries and 2 verdicts."""
    values = list(known.values())
    columns = {
        "source": [policy for policy, _ in known],
        "target": [dataset for _, dataset in known],
        "reliability": values,
        "low": [value / 2 for value in values],
        "high": [(1 + value) / 2 for value in values],
        "votes": [8] * len(known),
        "judged": [2] * len(known),
        "estimated_at": [NOW] * len(known),
    }
    ends = [("source", pa.string()), ("target", pa.string())]
    return pa.table(columns, schema=pa.schema([*ends, *edge_schema(EdgeType.RELIABLE_IN)]))


def one_of_each(graph: GraphStore) -> dict[str, float]:
    """Weights of influences on the first rollout: the last node of each label that can influence a score."""
    targets = [target for _, target in EDGE_ENDS[EdgeType.INFLUENCED_BY]]
    return {graph.nodes(label, ["id"])["id"][-1].as_py(): 2.0**-at for at, label in enumerate(targets)}


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


def make_scores(model: str, version: int, scores: Mapping[str, float]) -> ScoreBatch:
    """Scores of a model, made `NOW`."""
    values = list(scores.values())
    table = pa.table({"id": list(scores), "probability": values, "reward": values})
    return ScoreBatch({"id": model, "version": version}, table, {"scored_at": NOW})


def make_labels(rewards: Mapping[str, float | None]) -> pa.Table:
    """Ground-truth labels."""
    values = pa.array(list(rewards.values()), pa.float64())
    return pa.table({"id": list(rewards), "reward": values, "reward_source": ["ground_truth"] * len(rewards)})
