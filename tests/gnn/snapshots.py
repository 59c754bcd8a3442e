"""Build snapshots from plain rows, without a store.

Node order, edge order and columns are those of `memstore.snapshots.snapshot`. A row is a mapping with `query`, `value`
(the canonical answer, "" for none) and `reward` (None for unlabelled); all other keys have a default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from memstore.graph.protocol import EdgeTable
from memstore.records.ids import answer_id, query_id, rollout_id, run_id
from memstore.snapshots.snapshot import Manifest, Snapshot
from memstore.types import FloatMatrix, IntVector
from memstore_schema.columns import EdgeType, NodeLabel, edge_schema, node_schema

Row = Mapping[str, Any]


def build_snapshot(
    rows: Sequence[Row],
    query_x: Mapping[str, Any] | None = None,
    thinking_x: Sequence[Any] | None = None,
    dimension: int = 4,
) -> Snapshot:
    """A snapshot of `rows`. `query_x` maps a query's text to its vector, `thinking_x` has one a row; zero if absent."""
    queries: dict[str, dict[str, Any]] = {}
    answers: dict[str, dict[str, Any]] = {}
    runs: dict[str, dict[str, Any]] = {}
    thinkings: list[dict[str, Any]] = []
    links: list[tuple[str, str | None, str, str]] = []
    for position, row in enumerate(rows):
        query = query_id(row.get("dataset", "toy"), row.get("key"), row["query"])
        queries[query] = {
            "id": query,
            "key": row.get("key"),
            "text": row["query"],
            "dataset": row.get("dataset", "toy"),
            "domain": row.get("domain", "math"),
            "gold": row.get("gold"),
        }
        run = row.get("run", "run")
        runs[run_id(run)] = {"id": run_id(run), "name": run, "policy": row.get("policy", "policy")}
        text = row.get("answer", row["value"])
        thinking = _thinking(query, position, row, text, run)
        thinkings.append(thinking)
        answer = answer_id(query, row["value"]) if row["value"] else None
        if answer is not None:
            answers[answer] = {"id": answer, "text": row["value"], "value": row["value"]}
        links.append((thinking["id"], answer, text, run_id(run)))
    order = sorted(range(len(thinkings)), key=lambda i: thinkings[i]["id"])
    tables = {
        NodeLabel.QUERY: _table(NodeLabel.QUERY, sorted(queries.values(), key=_by_id)),
        NodeLabel.THINKING: _table(NodeLabel.THINKING, [thinkings[i] for i in order]),
        NodeLabel.ANSWER: _table(NodeLabel.ANSWER, sorted(answers.values(), key=_by_id)),
        NodeLabel.RUN: _table(NodeLabel.RUN, sorted(runs.values(), key=_by_id)),
        NodeLabel.REWARD_MODEL: _table(NodeLabel.REWARD_MODEL, []),
    }
    edges = _edges(tables, [links[i] for i in order], [thinkings[i]["query"] for i in order])
    query_texts = tables[NodeLabel.QUERY]["text"].to_pylist()
    q_x = _matrix([(query_x or {}).get(text) for text in query_texts], dimension)
    t_x = _matrix([thinking_x[i] if thinking_x is not None else None for i in order], dimension)
    return Snapshot(
        manifest=Manifest("s-test", 1, "test", "test", "k=5 floor=0", "default", "2026-01-01T00:00:00Z"),
        queries=tables[NodeLabel.QUERY],
        thinkings=tables[NodeLabel.THINKING],
        answers=tables[NodeLabel.ANSWER],
        runs=tables[NodeLabel.RUN],
        reward_models=tables[NodeLabel.REWARD_MODEL],
        edges=edges,
        query_x=q_x,
        thinking_x=t_x,
        query_has_x=np.linalg.norm(q_x, axis=1) > 0,
        thinking_has_x=np.linalg.norm(t_x, axis=1) > 0,
    )


def _by_id(node: Mapping[str, Any]) -> str:
    return str(node["id"])


def _thinking(query: str, position: int, row: Row, answer: str, run: str) -> dict[str, Any]:
    identity = rollout_id(
        query,
        policy=row.get("policy", "policy"),
        run=run,
        step=row.get("step"),
        sample_index=row.get("sample_index", position),
        occurrence=0,
        thinking=row.get("thinking", ""),
        answer=answer,
    )
    return {
        "id": identity,
        "query": query,
        "text": row.get("thinking", ""),
        "query_key": row.get("key"),
        "policy": row.get("policy", "policy"),
        "run": run,
        "step": row.get("step"),
        "sample_index": row.get("sample_index", position),
        "mean_logprob": row.get("mean_logprob"),
        "reward": row.get("reward"),
        "reward_source": None if row.get("reward") is None else "ground_truth",
        "metadata": row.get("metadata"),
    }


def _table(label: NodeLabel, nodes: Sequence[Mapping[str, Any]]) -> pa.Table:
    schema = node_schema(label)
    names = [name for name in schema.names if name not in ("linked", "batch")]
    return pa.table({name: pa.array([node.get(name) for node in nodes], schema.field(name).type) for name in names})


def _edges(
    tables: Mapping[NodeLabel, pa.Table], links: Sequence[tuple[str, str | None, str, str]], parents: Sequence[str]
) -> dict[str, EdgeTable]:
    at = {label: {key: i for i, key in enumerate(table["id"].to_pylist())} for label, table in tables.items()}
    query = np.array([at[NodeLabel.QUERY][parent] for parent in parents], np.int64)
    order = np.lexsort((np.arange(len(query)), query))
    answered = [i for i, link in enumerate(links) if link[1] is not None]
    texts = pa.table({"text": pa.array([links[i][2] for i in answered], pa.string())})
    run = np.array([at[NodeLabel.RUN][link[3]] for link in links], np.int64)
    by_run = np.lexsort((np.arange(len(run)), run))
    none = np.zeros(0, np.int64)
    similar = pa.table({"score": pa.array([], pa.float32())})
    return {
        "generates": EdgeTable(query[order], order.astype(np.int64), _no_columns(len(query))),
        "leads_to": EdgeTable(
            np.array(answered, np.int64),
            np.array([at[NodeLabel.ANSWER][str(links[i][1])] for i in answered], np.int64),
            texts,
        ),
        "query_similar": EdgeTable(none, none, similar),
        "thinking_similar": EdgeTable(none, none, similar),
        "produced": EdgeTable(run[by_run], by_run.astype(np.int64), _no_columns(len(run))),
        "scored_by": EdgeTable(none, none, edge_schema(EdgeType.SCORED_BY).empty_table()),
    }


def _no_columns(rows: int) -> pa.Table:
    return pa.table({"row": np.arange(rows)}).select([])


def _matrix(vectors: Sequence[Any], dimension: int) -> FloatMatrix:
    known = [v for v in vectors if v is not None]
    width = len(known[0]) if known else dimension
    matrix = np.zeros((len(vectors), width), np.float32)
    for i, vector in enumerate(vectors):
        if vector is not None:
            matrix[i] = np.asarray(vector, np.float32)
    return matrix


def rewards(snapshot: Snapshot) -> np.ndarray:
    """float64 [T], NaN where a rollout has no label."""
    return snapshot.thinkings["reward"].to_numpy(zero_copy_only=False).astype(np.float64)


def parents(snapshot: Snapshot) -> IntVector:
    """int64 [T]: the query each thinking belongs to."""
    out = np.zeros(snapshot.thinkings.num_rows, np.int64)
    out[snapshot.edges["generates"].target] = snapshot.edges["generates"].source
    return out
