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
from memstore.graph.ladybug.statements import absent, check_known, create_edges, create_nodes, look_up, set_properties
from memstore.graph.protocol import GraphBlock, ScoreBatch, WriteCounts
from memstore.graph.rules import changed_policies, check_block, check_properties, check_unique
from memstore_schema.columns import EDGE_COLUMNS, NODE_COLUMNS, EdgeType, NodeLabel


def write_block(connection: Any, block: GraphBlock, *, replace: bool) -> WriteCounts:
    """See `GraphStore.write_block`."""
    check_block(block)
    stored = look_up(connection, NodeLabel.THINKING, block.thinkings["id"], LABEL_SCHEMA.names)
    changes = label_changes(stored, block.thinkings, replace=replace)
    new = block.thinkings.filter(absent(block.thinkings["id"], stored["id"]))

    queries = _write_queries(connection, block.queries, replace)
    answers = look_up(connection, NodeLabel.ANSWER, block.answers["id"], ["id"])
    new_answers = block.answers.filter(absent(block.answers["id"], answers["id"]))
    create_nodes(connection, NodeLabel.ANSWER, new_answers)
    _write_runs(connection, block.runs)
    create_nodes(connection, NodeLabel.THINKING, new)
    _connect(connection, new, block.runs)
    set_properties(connection, NodeLabel.THINKING, changes)
    merge_node(connection, NodeLabel.BATCH, block.batch)
    return WriteCounts(queries, new.num_rows, changes.num_rows, new_answers.num_rows)


def _write_queries(connection: Any, queries: pa.Table, replace: bool) -> int:
    stored = look_up(connection, NodeLabel.QUERY, queries["id"], ["id", "gold"])
    given = queries.select(["id", "gold"]).filter(pc.is_valid(queries["gold"]))
    both = given.join(stored.rename_columns(["id", "old"]), keys="id", join_type="inner")
    wanted = pc.is_null(both["old"])
    if replace:
        wanted = pc.or_(wanted, pc.fill_null(pc.not_equal(both["gold"], both["old"]), False))
    set_properties(connection, NodeLabel.QUERY, both.filter(wanted).select(["id", "gold"]))
    return create_nodes(connection, NodeLabel.QUERY, queries.filter(absent(queries["id"], stored["id"])))


def _write_runs(connection: Any, runs: pa.Table) -> None:
    stored = look_up(connection, NodeLabel.RUN, runs["id"], ["id", "policy"])
    create_nodes(connection, NodeLabel.RUN, runs.filter(absent(runs["id"], stored["id"])))
    set_properties(connection, NodeLabel.RUN, changed_policies(runs, stored))


def _connect(connection: Any, new: pa.Table, runs: pa.Table) -> None:
    """Edges of new rollouts.

    Raises:
        InputError: a rollout names a query, answer or run that is neither in the block nor in the graph.
    """
    check_known(connection, NodeLabel.QUERY, new["query_id"])
    generates = pa.table({"source": new["query_id"], "target": new["id"]})
    create_edges(connection, EdgeType.GENERATES, NodeLabel.QUERY, NodeLabel.THINKING, generates)

    answered = new.filter(pc.is_valid(new["answer_id"]))
    check_known(connection, NodeLabel.ANSWER, answered["answer_id"])
    leads = pa.table({"source": answered["id"], "target": answered["answer_id"], "text": answered["answer_text"]})
    create_edges(connection, EdgeType.LEADS_TO, NodeLabel.THINKING, NodeLabel.ANSWER, leads)

    ran = new.filter(pc.is_valid(new["run"]))
    place = pc.index_in(ran["run"], value_set=runs["name"])
    if place.null_count:
        name = ran.filter(pc.is_null(place))["run"][0].as_py()
        raise InputError(f"the run {name} of a rollout is not among the block's runs; add it to them")
    produced = pa.table({"source": runs["id"].take(place), "target": ran["id"]})
    create_edges(connection, EdgeType.PRODUCED, NodeLabel.RUN, NodeLabel.THINKING, produced)


def set_labels(connection: Any, labels: pa.Table, *, replace: bool) -> int:
    """See `GraphStore.set_labels`."""
    labels = check_labels(labels)
    check_known(connection, NodeLabel.THINKING, labels["id"])
    stored = look_up(connection, NodeLabel.THINKING, labels["id"], LABEL_SCHEMA.names)
    changes = label_changes(stored, labels, replace=replace)
    set_properties(connection, NodeLabel.THINKING, changes)
    return int(changes.num_rows)


def append_scores(connection: Any, batch: ScoreBatch) -> None:
    """See `GraphStore.append_scores`: a rollout that this model has scored keeps its score."""
    scores = batch.scores
    check_unique(scores["id"])
    check_known(connection, NodeLabel.THINKING, scores["id"])
    if look_up(connection, NodeLabel.REWARD_MODEL, pa.chunked_array([[batch.model["id"]]]), ["id"]).num_rows == 0:
        merge_node(connection, NodeLabel.REWARD_MODEL, batch.model)
    scored = connection.execute(
        f"MATCH (n:{NodeLabel.THINKING})-[:{EdgeType.SCORED_BY}]->(m:{NodeLabel.REWARD_MODEL}) "
        "WHERE m.id = $model RETURN n.id AS id",
        {"model": batch.model["id"]},
    ).get_as_arrow(chunk_size=-1)
    scores = scores.filter(absent(scores["id"], scored["id"].cast(pa.string())))
    columns = {"source": scores["id"], "target": _repeat(batch.model["id"], scores.num_rows, pa.string())}
    for name, kind in EDGE_COLUMNS[EdgeType.SCORED_BY].items():
        given = name in scores.column_names
        columns[name] = scores[name] if given else _repeat(batch.properties.get(name), scores.num_rows, kind)
    create_edges(connection, EdgeType.SCORED_BY, NodeLabel.THINKING, NodeLabel.REWARD_MODEL, pa.table(columns))


def merge_node(connection: Any, label: NodeLabel, properties: Mapping[str, Any]) -> None:
    """Add or change one node; only the given properties are touched.

    Raises:
        InputError: no id, or a property the label does not have.
    """
    check_properties(label, properties)
    table = pa.table({name: pa.array([value], NODE_COLUMNS[label][name]) for name, value in properties.items()})
    if look_up(connection, label, table["id"], ["id"]).num_rows == 0:
        connection.execute(f"CREATE (:{label} {{id: $id}})", {"id": properties["id"]})
    if table.num_columns > 1:
        set_properties(connection, label, table)


def _repeat(value: Any, length: int, kind: pa.DataType) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array([value] * length, kind)])
