"""The content of an in-memory graph, and the changes to it that several writes share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from memstore.errors import InputError
from memstore.graph.labels import LABEL_SCHEMA
from memstore.graph.protocol import GraphBlock
from memstore.graph.rules import alias_rows, check_properties, missing
from memstore.graph.verdicts import ANSWER_LABELS, with_verdicts
from memstore_schema.columns import EDGE_COLUMNS, NODE_COLUMNS, EdgeType, NodeLabel, node_schema

Properties = dict[str, Any]


@dataclass
class GraphContent:
    """Content of an in-memory graph. Pass it to another store to open the same graph again."""

    nodes: dict[NodeLabel, dict[str, Properties]] = field(default_factory=lambda: {label: {} for label in NodeLabel})
    edges: dict[tuple[EdgeType, NodeLabel], dict[tuple[str, ...], Properties]] = field(default_factory=dict)
    """By type and source label, then by endpoints (and model, if edges of several models may share endpoints)."""
    meta: dict[str, str] = field(default_factory=dict)
    applied: list[str] = field(default_factory=list)


def labels_of(rollouts: Mapping[str, Properties]) -> pa.Table:
    """The labels of rollouts as a table."""
    return pa.Table.from_pylist([{"id": node, **row} for node, row in rollouts.items()], schema=LABEL_SCHEMA)


def add_nodes(content: GraphContent, label: NodeLabel, table: pa.Table) -> int:
    """Add the nodes that do not exist; return their number."""
    before = len(content.nodes[label])
    for row in table.select(node_schema(label).names).to_pylist():
        content.nodes[label].setdefault(row["id"], row)
    return len(content.nodes[label]) - before


def set_verdicts(content: GraphContent) -> None:
    """Set the verdicts of all answers."""
    answers, rollouts = content.nodes[NodeLabel.ANSWER], content.nodes[NodeLabel.THINKING]
    leads = content.edges.get((EdgeType.LEADS_TO, NodeLabel.THINKING), {})
    labels = [{**rollouts[rollout], "answer_id": answer} for rollout, answer, *_ in leads]
    ids = pa.table({"id": pa.array(list(answers), pa.string())})
    for row in with_verdicts(ids, pa.Table.from_pylist(labels, schema=ANSWER_LABELS)).to_pylist():
        answers[row["id"]].update(row)


def add_aliases(content: GraphContent, block: GraphBlock) -> None:
    """Add the datasets and IN edges that do not exist; a query may have several edges to one dataset."""
    add_nodes(content, NodeLabel.DATASET, block.datasets)
    ids = {row["name"]: row["id"] for row in block.datasets.to_pylist()}
    edges = content.edges.setdefault((EdgeType.IN, NodeLabel.QUERY), {})
    for query, dataset, key, split in alias_rows(block.aliases):
        if query not in content.nodes[NodeLabel.QUERY]:
            raise missing(NodeLabel.QUERY, [str(query)])
        if dataset not in ids:
            raise InputError(f"the dataset {dataset} of an alias is not among the block's datasets; add it to them")
        ends = (str(query), ids[dataset], repr((key, split)))
        edges.setdefault(ends, {"key": key, "split": split})


def merge_node(content: GraphContent, label: NodeLabel, properties: Mapping[str, Any]) -> None:
    """Add a node, or update its properties."""
    check_properties(label, properties)
    content.nodes[label].setdefault(properties["id"], dict.fromkeys(NODE_COLUMNS[label])).update(properties)


def connect_rollout(content: GraphContent, row: Properties, run_ids: Mapping[str, str]) -> None:
    """Add the edges of a new rollout to its query, answer, policy and run."""
    here = {"target_id": row["id"]}
    connect(content, EdgeType.GENERATES, NodeLabel.QUERY, NodeLabel.THINKING, {**here, "source_id": row["query_id"]})
    if row["answer_id"] is not None:
        leads = {"source_id": row["id"], "target_id": row["answer_id"], "text": row["answer_text"]}
        connect(content, EdgeType.LEADS_TO, NodeLabel.THINKING, NodeLabel.ANSWER, leads)
    if row["policy_id"] is not None:
        connect(content, EdgeType.WROTE, NodeLabel.POLICY, NodeLabel.THINKING, {**here, "source_id": row["policy_id"]})
    if row["run"] is not None:
        if row["run"] not in run_ids:
            raise InputError(f"the run {row['run']} of a rollout is not among the block's runs; add it to them")
        connect(
            content, EdgeType.PRODUCED, NodeLabel.RUN, NodeLabel.THINKING, {**here, "source_id": run_ids[row["run"]]}
        )


def connect(content: GraphContent, edge: EdgeType, source: NodeLabel, target: NodeLabel, row: Properties) -> None:
    """Add an edge between nodes that exist."""
    for label, end in ((source, row["source_id"]), (target, row["target_id"])):
        if end not in content.nodes[label]:
            raise missing(label, [end])
    properties = {name: row.get(name) for name in EDGE_COLUMNS[edge]}
    content.edges.setdefault((edge, source), {})[row["source_id"], row["target_id"]] = properties
