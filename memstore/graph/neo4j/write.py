"""What writes: blocks of rollouts, labels, predictions, settings. Each function runs inside one transaction.

A rollout enters the graph together with its edges, so one that is there has them; only new rollouts get edges, and
the same block twice is the same graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from memstore.errors import InputError
from memstore.graph.labels import LABEL_SCHEMA, check_labels, label_changes
from memstore.graph.neo4j.connection import Statements
from memstore.graph.neo4j.statements import absent, create_edges, create_nodes, look_up, set_properties
from memstore.graph.protocol import GraphBlock, ScoreBatch, WriteCounts
from memstore.graph.rules import check_block, check_properties, check_unique, join_policies, missing
from memstore_schema.columns import EDGE_COLUMNS, NODE_COLUMNS, EdgeType, NodeLabel


def write_block(tx: Statements, block: GraphBlock, *, replace: bool) -> WriteCounts:
    """See `GraphStore.write_block`."""
    check_block(block)
    stored = look_up(tx, NodeLabel.THINKING, block.thinkings["id"], LABEL_SCHEMA.names)
    changes = label_changes(stored, block.thinkings, replace=replace)
    new = block.thinkings.filter(absent(block.thinkings["id"], stored["id"]))

    queries = _write_queries(tx, block.queries, replace)
    answers = look_up(tx, NodeLabel.ANSWER, block.answers["id"], ["id"])
    new_answers = block.answers.filter(absent(block.answers["id"], answers["id"]))
    create_nodes(tx, NodeLabel.ANSWER, new_answers)
    _write_runs(tx, block.runs)
    create_nodes(tx, NodeLabel.THINKING, new)
    _connect(tx, new, block.runs)
    set_properties(tx, NodeLabel.THINKING, changes)
    merge_node(tx, NodeLabel.BATCH, block.batch)
    return WriteCounts(queries, new.num_rows, changes.num_rows, new_answers.num_rows)


def _write_queries(tx: Statements, queries: pa.Table, replace: bool) -> int:
    stored = look_up(tx, NodeLabel.QUERY, queries["id"], ["id", "gold"])
    given = queries.select(["id", "gold"]).filter(pc.is_valid(queries["gold"]))
    both = given.join(stored.rename_columns(["id", "old"]), keys="id", join_type="inner")
    wanted = pc.is_null(both["old"])
    if replace:
        wanted = pc.or_(wanted, pc.fill_null(pc.not_equal(both["gold"], both["old"]), False))
    set_properties(tx, NodeLabel.QUERY, both.filter(wanted).select(["id", "gold"]))
    return create_nodes(tx, NodeLabel.QUERY, queries.filter(absent(queries["id"], stored["id"])))


def _write_runs(tx: Statements, runs: pa.Table) -> None:
    stored = look_up(tx, NodeLabel.RUN, runs["id"], ["id", "policy"])
    create_nodes(tx, NodeLabel.RUN, runs.filter(absent(runs["id"], stored["id"])))
    before = dict(zip(stored["id"].to_pylist(), stored["policy"].to_pylist(), strict=True))
    united = {
        run: join_policies(before[run], policy)
        for run, policy in zip(runs["id"].to_pylist(), runs["policy"].to_pylist(), strict=True)
        if run in before
    }
    changed = {run: policy for run, policy in united.items() if policy != before[run]}
    set_properties(tx, NodeLabel.RUN, pa.table({"id": list(changed), "policy": list(changed.values())}))


def _connect(tx: Statements, new: pa.Table, runs: pa.Table) -> None:
    """Edges of new rollouts.

    Raises:
        InputError: a rollout names a query, answer or run that is neither in the block nor in the graph.
    """
    _check_known(tx, NodeLabel.QUERY, new["query_id"])
    generates = pa.table({"source": new["query_id"], "target": new["id"]})
    create_edges(tx, EdgeType.GENERATES, NodeLabel.QUERY, NodeLabel.THINKING, generates)

    answered = new.filter(pc.is_valid(new["answer_id"]))
    _check_known(tx, NodeLabel.ANSWER, answered["answer_id"])
    leads = pa.table({"source": answered["id"], "target": answered["answer_id"], "text": answered["answer_text"]})
    create_edges(tx, EdgeType.LEADS_TO, NodeLabel.THINKING, NodeLabel.ANSWER, leads)

    ran = new.filter(pc.is_valid(new["run"]))
    place = pc.index_in(ran["run"], value_set=runs["name"])
    if place.null_count:
        name = ran.filter(pc.is_null(place))["run"][0].as_py()
        raise InputError(f"the run {name} of a rollout is not among the block's runs; add it to them")
    produced = pa.table({"source": runs["id"].take(place), "target": ran["id"]})
    create_edges(tx, EdgeType.PRODUCED, NodeLabel.RUN, NodeLabel.THINKING, produced)


def set_labels(tx: Statements, labels: pa.Table, *, replace: bool) -> int:
    """See `GraphStore.set_labels`."""
    labels = check_labels(labels)
    _check_known(tx, NodeLabel.THINKING, labels["id"])
    stored = look_up(tx, NodeLabel.THINKING, labels["id"], LABEL_SCHEMA.names)
    changes = label_changes(stored, labels, replace=replace)
    set_properties(tx, NodeLabel.THINKING, changes)
    return int(changes.num_rows)


def append_scores(tx: Statements, batch: ScoreBatch) -> None:
    """See `GraphStore.append_scores`: a rollout that this model has scored keeps its score."""
    scores = batch.scores
    check_unique(scores["id"])
    _check_known(tx, NodeLabel.THINKING, scores["id"])
    if look_up(tx, NodeLabel.REWARD_MODEL, pa.chunked_array([[batch.model["id"]]]), ["id"]).num_rows == 0:
        merge_node(tx, NodeLabel.REWARD_MODEL, batch.model)
    scored = tx.run(
        f"UNWIND $ids AS id MATCH (n:{NodeLabel.THINKING} {{id: id}})-[:{EdgeType.SCORED_BY}]->"
        f"(m:{NodeLabel.REWARD_MODEL} {{id: $model}}) RETURN collect(n.id)",
        ids=scores["id"].to_pylist(),
        model=batch.model["id"],
    )[0][0]
    scores = scores.filter(absent(scores["id"], pa.chunked_array([pa.array(scored, pa.string())])))
    columns = {"source": scores["id"], "target": _repeat(batch.model["id"], scores.num_rows, pa.string())}
    for name, kind in EDGE_COLUMNS[EdgeType.SCORED_BY].items():
        given = name in scores.column_names
        columns[name] = scores[name] if given else _repeat(batch.properties.get(name), scores.num_rows, kind)
    create_edges(tx, EdgeType.SCORED_BY, NodeLabel.THINKING, NodeLabel.REWARD_MODEL, pa.table(columns))


def merge_node(tx: Statements, label: NodeLabel, properties: Mapping[str, Any]) -> None:
    """Add or change one node; only the given properties are touched.

    Raises:
        InputError: no id, or a property the label does not have.
    """
    check_properties(label, properties)
    table = pa.table({name: pa.array([value], NODE_COLUMNS[label][name]) for name, value in properties.items()})
    if look_up(tx, label, table["id"], ["id"]).num_rows == 0:
        tx.run(f"CREATE (:{label} {{id: $id}})", id=properties["id"])
    if table.num_columns > 1:
        set_properties(tx, label, table)


def _repeat(value: Any, length: int, kind: pa.DataType) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array([value] * length, kind)])


def _check_known(tx: Statements, label: NodeLabel, ids: pa.ChunkedArray) -> None:
    ids = pc.unique(ids).cast(pa.string())
    known = look_up(tx, label, pa.chunked_array([ids]), ["id"])
    if known.num_rows < len(ids):
        raise missing(label, ids.filter(absent(ids, known["id"])).to_pylist())
