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
from memstore.records.ids import answer_id, dataset_id, query_id, rollout_id, run_id, vector_key
from memstore.records.policies import policies_of
from memstore.snapshots.snapshot import Manifest, Snapshot
from memstore.snapshots.take import complete_edges
from memstore.snapshots.upgrade_edges import edge_table
from memstore.types import FloatMatrix, IntVector
from memstore_schema.columns import EdgeType, NodeLabel, node_schema

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
        query = query_id(row["query"])
        queries[query] = {
            "id": query,
            "text": row["query"],
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
    datasets = sorted({thinking["dataset"] for thinking in thinkings}, key=dataset_id)
    order = sorted(range(len(thinkings)), key=lambda i: thinkings[i]["id"])
    tables = {
        NodeLabel.QUERY: _table(NodeLabel.QUERY, sorted(queries.values(), key=_by_id)),
        NodeLabel.THINKING: _table(NodeLabel.THINKING, [thinkings[i] for i in order]),
        NodeLabel.ANSWER: _table(NodeLabel.ANSWER, sorted(answers.values(), key=_by_id)),
        NodeLabel.RUN: _table(NodeLabel.RUN, sorted(runs.values(), key=_by_id)),
        NodeLabel.REWARD_MODEL: _table(NodeLabel.REWARD_MODEL, []),
        NodeLabel.DATASET: _table(NodeLabel.DATASET, [{"id": dataset_id(n), "name": n} for n in datasets]),
    }
    tables[NodeLabel.POLICY], policies = policies_of(tables[NodeLabel.THINKING])
    wrote = edge_table(
        EdgeType.WROTE,
        tables,
        [(node, thinkings[i]["id"], {}) for node, i in zip(policies.to_pylist(), order, strict=True) if node],
    )
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
        datasets=tables[NodeLabel.DATASET],
        policies=tables[NodeLabel.POLICY],
        edges=complete_edges({**edges, "wrote": wrote}),
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
        "dataset": row.get("dataset", "toy"),
        "query_key": row.get("key"),
        "policy": row.get("policy", "policy"),
        "run": run,
        "step": row.get("step"),
        "sample_index": row.get("sample_index", position),
        "mean_logprob": row.get("mean_logprob"),
        "reward": row.get("reward"),
        "reward_source": None if row.get("reward") is None else row.get("reward_source", "ground_truth"),
        "metadata": row.get("metadata"),
        "vector_key": vector_key(row["thinking"]) if row.get("thinking", "").strip() else None,
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
    return {
        "generates": EdgeTable(query[order], order.astype(np.int64), _no_columns(len(query))),
        "leads_to": EdgeTable(
            np.array(answered, np.int64),
            np.array([at[NodeLabel.ANSWER][str(links[i][1])] for i in answered], np.int64),
            texts,
        ),
        "in": _names(tables, parents),
        "produced": EdgeTable(run[by_run], by_run.astype(np.int64), _no_columns(len(run))),
    }


def _names(tables: Mapping[NodeLabel, pa.Table], parents: Sequence[str]) -> EdgeTable:
    """The IN edges: dataset and key of each rollout's row."""
    query = {node: row for row, node in enumerate(tables[NodeLabel.QUERY]["id"].to_pylist())}
    dataset = {name: row for row, name in enumerate(tables[NodeLabel.DATASET]["name"].to_pylist())}
    names = [tables[NodeLabel.THINKING][name].to_pylist() for name in ("dataset", "query_key")]
    rows = sorted({(query[p], dataset[d], k) for p, d, k in zip(parents, *names, strict=True)}, key=repr)
    rows.sort(key=lambda row: row[:2])
    source, target = (np.array([row[end] for row in rows], np.int64) for end in (0, 1))
    keys = pa.array([row[2] for row in rows], pa.string())
    return EdgeTable(source, target, pa.table({"key": keys, "split": pa.nulls(len(rows), pa.string())}))


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
