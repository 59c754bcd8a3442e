"""Node labels, relationship types and their columns, declared once for every backend.

Types are Arrow types. `id` is the key of every label; all other columns are nullable. Times are UTC microseconds.
"""

from __future__ import annotations

from enum import StrEnum

import pyarrow as pa

SCHEMA_VERSION = 1
"""Number of the newest migration of this version of memstore."""


class NodeLabel(StrEnum):
    """Node labels of the graph. Labels in statements always come from this enum, never from user input."""

    QUERY = "Query"
    THINKING = "Thinking"
    ANSWER = "Answer"
    RUN = "Run"
    REWARD_MODEL = "RewardModel"
    BATCH = "Batch"


class EdgeType(StrEnum):
    """Relationship types of the graph."""

    GENERATES = "GENERATES"
    LEADS_TO = "LEADS_TO"
    PRODUCED = "PRODUCED"
    SIMILAR_TO = "SIMILAR_TO"
    SCORED_BY = "SCORED_BY"
    INFLUENCED_BY = "INFLUENCED_BY"


TIME = pa.timestamp("us", tz="UTC")

NODE_COLUMNS: dict[NodeLabel, dict[str, pa.DataType]] = {
    NodeLabel.QUERY: {
        "id": pa.string(),
        "key": pa.string(),  # key in the source
        "text": pa.string(),
        "dataset": pa.string(),
        "domain": pa.string(),  # math | qa | code | other
        "gold": pa.string(),  # the reference answer or tests, if known
        "vector_key": pa.string(),  # content hash of the embedded text; null where there is nothing to embed
        "linked": pa.string(),  # fingerprint of the link settings; null: not linked yet
        "batch": pa.string(),
    },
    NodeLabel.THINKING: {
        "id": pa.string(),
        "text": pa.string(),
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
    },
    NodeLabel.RUN: {
        "id": pa.string(),
        "name": pa.string(),
        "policy": pa.string(),  # the run's policies, sorted, comma-joined
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
    EdgeType.LEADS_TO: {"text": pa.string()},  # the answer as this rollout wrote it
    EdgeType.PRODUCED: {},
    EdgeType.SIMILAR_TO: {"score": pa.float32()},  # cosine
    EdgeType.SCORED_BY: {"probability": pa.float64(), "reward": pa.float64(), "scored_at": TIME},
    EdgeType.INFLUENCED_BY: {"weight": pa.float64(), "model": pa.string()},
}

EDGE_ENDS: dict[EdgeType, tuple[tuple[NodeLabel, NodeLabel], ...]] = {
    EdgeType.GENERATES: ((NodeLabel.QUERY, NodeLabel.THINKING),),
    EdgeType.LEADS_TO: ((NodeLabel.THINKING, NodeLabel.ANSWER),),
    EdgeType.PRODUCED: ((NodeLabel.RUN, NodeLabel.THINKING),),
    EdgeType.SIMILAR_TO: ((NodeLabel.QUERY, NodeLabel.QUERY), (NodeLabel.THINKING, NodeLabel.THINKING)),
    EdgeType.SCORED_BY: ((NodeLabel.THINKING, NodeLabel.REWARD_MODEL),),
    EdgeType.INFLUENCED_BY: ((NodeLabel.THINKING, NodeLabel.QUERY), (NodeLabel.THINKING, NodeLabel.THINKING)),
}


def node_schema(label: NodeLabel) -> pa.Schema:
    """Arrow schema of a label's full node table."""
    return pa.schema(NODE_COLUMNS[label].items())


def edge_schema(edge: EdgeType) -> pa.Schema:
    """Arrow schema of an edge type's properties."""
    return pa.schema(EDGE_COLUMNS[edge].items())
