"""Node labels, relationship types and their columns, declared once for every backend.

Types are Arrow types. `id` is the key of every label; all other columns are nullable. Times are UTC microseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Literal, TypeAlias

import pyarrow as pa

SCHEMA_VERSION = 2
"""Number of the newest migration of this version of memstore."""


class NodeLabel(StrEnum):
    """Node labels of the graph. Labels in statements always come from this enum, never from user input."""

    QUERY = "Query"
    DATASET = "Dataset"
    THINKING = "Thinking"
    ANSWER = "Answer"
    RUN = "Run"
    POLICY = "Policy"
    REWARD_MODEL = "RewardModel"
    BATCH = "Batch"


class EdgeType(StrEnum):
    """Relationship types of the graph."""

    GENERATES = "GENERATES"
    IN = "IN"
    LEADS_TO = "LEADS_TO"
    PRODUCED = "PRODUCED"
    WROTE = "WROTE"
    RELIABLE_IN = "RELIABLE_IN"
    SIMILAR_TO = "SIMILAR_TO"
    SCORED_BY = "SCORED_BY"
    INFLUENCED_BY = "INFLUENCED_BY"


EdgeEnd: TypeAlias = Literal["source", "target"]
"""One of the two ends of an edge."""
EdgeOwner: TypeAlias = Literal[EdgeEnd, "query"]
"""Whose edges are read: those of nodes at one of their ends, or those that leave the rollouts of queries."""

TIME = pa.timestamp("us", tz="UTC")

NODE_COLUMNS: dict[NodeLabel, dict[str, pa.DataType]] = {
    NodeLabel.QUERY: {
        "id": pa.string(),  # a hash of the normalised text
        "text": pa.string(),  # as first read, without chat template
        "domain": pa.string(),  # math | qa | code | other
        "gold": pa.string(),  # the reference answer or tests, if known
        "vector_key": pa.string(),  # content hash of the embedded text; null where there is nothing to embed
        "linked": pa.string(),  # fingerprint of the link settings; null: not linked yet
        "batch": pa.string(),
    },
    NodeLabel.DATASET: {
        "id": pa.string(),
        "name": pa.string(),
    },
    NodeLabel.THINKING: {
        "id": pa.string(),
        "text": pa.string(),
        "dataset": pa.string(),  # dataset and query's key of the row that brought the rollout first
        "query_key": pa.string(),
        "policy": pa.string(),
        "run": pa.string(),
        "step": pa.int64(),
        "sample_index": pa.int64(),
        "mean_logprob": pa.float64(),
        "finish_reason": pa.string(),
        "reward": pa.float64(),  # ground truth only, 0..1; predictions live on SCORED_BY
        "reward_source": pa.string(),  # ground_truth | person
        "metadata": pa.string(),  # JSON object
        "created_at": TIME,
        "vector_key": pa.string(),
        "linked": pa.string(),
        "batch": pa.string(),
    },
    NodeLabel.ANSWER: {
        "id": pa.string(),
        "text": pa.string(),  # the value in readable form; a function of query and value
        "value": pa.string(),  # the canonical value, by which votes are counted
        "verdict": pa.float64(),  # 0 (wrong) .. 1 (right), as the labels of its rollouts say; null where unknown
        "verdict_source": pa.string(),  # ground_truth | person
        "verdict_at": TIME,  # when the first rollout with a label that counts was stored
    },
    NodeLabel.RUN: {
        "id": pa.string(),
        "name": pa.string(),
        "policy": pa.string(),  # the run's policies, sorted, comma-joined
    },
    NodeLabel.POLICY: {
        "id": pa.string(),
        "name": pa.string(),
        "step": pa.int64(),  # the training step; null where rows give none
    },
    NodeLabel.REWARD_MODEL: {
        "id": pa.string(),
        "version": pa.int64(),
        "snapshot": pa.string(),
        "metrics": pa.string(),  # JSON object
        "path": pa.string(),
        "created_at": TIME,
    },
    NodeLabel.BATCH: {
        "id": pa.string(),
        "source": pa.string(),
        "state": pa.string(),  # graph: in the graph, vectors may be missing | done
        "rows": pa.int64(),
        "rejected": pa.int64(),
        "created_at": TIME,
    },
}

EDGE_COLUMNS: dict[EdgeType, dict[str, pa.DataType]] = {
    EdgeType.GENERATES: {},
    EdgeType.IN: {"key": pa.string(), "split": pa.string()},  # a name under which a source knows the query
    EdgeType.LEADS_TO: {"text": pa.string()},  # the answer as this rollout wrote it
    EdgeType.PRODUCED: {},
    EdgeType.WROTE: {},
    EdgeType.RELIABLE_IN: {
        "reliability": pa.float64(),  # estimated probability that a rollout of the policy is right
        "low": pa.float64(),  # 90 % interval
        "high": pa.float64(),
        "votes": pa.int64(),  # queries of the dataset that the policy answered
        "judged": pa.int64(),  # its answers to them with a verdict that counted
        "estimated_at": TIME,
    },
    EdgeType.SIMILAR_TO: {"score": pa.float32()},  # cosine
    EdgeType.SCORED_BY: {
        "probability": pa.float64(),
        "reward": pa.float64(),
        "source": pa.string(),  # predicted | remembered: the verdict on the rollout's answer
        "scored_at": TIME,
    },
    EdgeType.INFLUENCED_BY: {
        "weight": pa.float64(),  # share of the score's logit
        "effect": pa.float64(),  # the probability less the probability without the node
        "model": pa.string(),
    },
}

EDGE_ENDS: dict[EdgeType, tuple[tuple[NodeLabel, NodeLabel], ...]] = {
    EdgeType.GENERATES: ((NodeLabel.QUERY, NodeLabel.THINKING),),
    EdgeType.IN: ((NodeLabel.QUERY, NodeLabel.DATASET),),
    EdgeType.LEADS_TO: ((NodeLabel.THINKING, NodeLabel.ANSWER),),
    EdgeType.PRODUCED: ((NodeLabel.RUN, NodeLabel.THINKING),),
    EdgeType.WROTE: ((NodeLabel.POLICY, NodeLabel.THINKING),),
    EdgeType.RELIABLE_IN: ((NodeLabel.POLICY, NodeLabel.DATASET),),
    EdgeType.SIMILAR_TO: ((NodeLabel.QUERY, NodeLabel.QUERY), (NodeLabel.THINKING, NodeLabel.THINKING)),
    EdgeType.SCORED_BY: ((NodeLabel.THINKING, NodeLabel.REWARD_MODEL),),
    EdgeType.INFLUENCED_BY: (
        (NodeLabel.THINKING, NodeLabel.QUERY),
        (NodeLabel.THINKING, NodeLabel.THINKING),
        (NodeLabel.THINKING, NodeLabel.ANSWER),
        (NodeLabel.THINKING, NodeLabel.POLICY),
        (NodeLabel.THINKING, NodeLabel.REWARD_MODEL),
    ),
}


RETIRED_COLUMNS: dict[NodeLabel, dict[str, pa.DataType]] = {
    NodeLabel.QUERY: {"key": pa.string(), "dataset": pa.string()},
}
"""Columns of schema 1 that schema 2 has on IN instead; only the migration reads them."""

ALIAS_SCHEMA = pa.schema(
    [("query_id", pa.string()), ("dataset", pa.string()), ("key", pa.string()), ("split", pa.string())]
)
"""Names under which sources know queries: an IN edge each, with the dataset's name. `key` and `split` may be null."""

ANSWER_TEXTS = pa.schema([("id", pa.string()), ("text", pa.string())])
"""Answers as rollouts wrote them: the id of the rollout and the text of its LEADS_TO edge."""


def column_type(label: NodeLabel, name: str) -> pa.DataType:
    """Arrow type of a label's column, also of a retired one."""
    found = NODE_COLUMNS[label].get(name)
    return RETIRED_COLUMNS[label][name] if found is None else found


def node_schema(label: NodeLabel) -> pa.Schema:
    """Arrow schema of a label's full node table."""
    return pa.schema(NODE_COLUMNS[label].items())


def ends_schema(edge: EdgeType, columns: Sequence[str]) -> pa.Schema:
    """Arrow schema of edges with the ids of their ends (`source_id`, `target_id`) and these properties."""
    ends = [pa.field("source_id", pa.string()), pa.field("target_id", pa.string())]
    return pa.schema([*ends, *edge_schema(edge, columns)])


def edge_schema(edge: EdgeType, columns: Sequence[str] | None = None) -> pa.Schema:
    """Arrow schema of these properties of an edge type; None: of all."""
    found = EDGE_COLUMNS[edge]
    return pa.schema([(name, found[name]) for name in (found if columns is None else columns)])
