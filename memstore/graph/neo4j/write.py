"""What writes: blocks of rollouts, labels, predictions, settings. Each function runs inside one transaction.

A rollout enters the graph together with its edges, so one that is there has them; only new rollouts get edges, and
the same block twice is the same graph. The writers' lock (see `connection`) makes it safe to look first and create
then, which costs the server about half of what a MERGE for every node and edge does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from memstore.errors import InputError
from memstore.graph.labels import LABEL_SCHEMA, check_labels, label_changes
from memstore.graph.neo4j.connection import Statements
from memstore.graph.neo4j.statements import (
    Values,
    absent,
    by_id,
    check_known,
    create_edges,
    create_nodes,
    listed,
    look_up,
    set_properties,
)
from memstore.graph.protocol import GraphBlock, ScoreBatch, WriteCounts
from memstore.graph.rules import changed_policies, check_block, check_properties, check_unique
from memstore_schema.columns import EDGE_COLUMNS, NODE_COLUMNS, EdgeType, NodeLabel, node_schema


def write_block(tx: Statements, block: GraphBlock, *, replace: bool) -> WriteCounts:
    """See `GraphStore.write_block`."""
    check_block(block)
    stored = look_up(tx, NodeLabel.THINKING, block.thinkings["id"], LABEL_SCHEMA.names)
    changes = label_changes(stored, block.thinkings, replace=replace)
    new = block.thinkings.filter(absent(block.thinkings["id"], stored["id"]))

    queries = _write_queries(tx, block.queries, replace)
    answers = _write_answers(tx, block.answers)
    _write_runs(tx, block.runs)
    _write_rollouts(tx, new, block.runs)
    set_properties(tx, NodeLabel.THINKING, changes)
    merge_node(tx, NodeLabel.BATCH, block.batch)
    return WriteCounts(queries, new.num_rows, changes.num_rows, answers)


def _write_queries(tx: Statements, queries: pa.Table, replace: bool) -> int:
    stored = look_up(tx, NodeLabel.QUERY, queries["id"], ["id", "gold"])
    given = queries.select(["id", "gold"]).filter(pc.is_valid(queries["gold"]))
    both = given.join(stored.rename_columns(["id", "old"]), keys="id", join_type="inner")
    wanted = pc.is_null(both["old"])
    if replace:
        wanted = pc.or_(wanted, pc.fill_null(pc.not_equal(both["gold"], both["old"]), False))
    set_properties(tx, NodeLabel.QUERY, both.filter(wanted).select(["id", "gold"]))
    return create_nodes(tx, NodeLabel.QUERY, queries.filter(absent(queries["id"], stored["id"])))


def _write_answers(tx: Statements, answers: pa.Table) -> int:
    stored = look_up(tx, NodeLabel.ANSWER, answers["id"], ["id"])
    return create_nodes(tx, NodeLabel.ANSWER, answers.filter(absent(answers["id"], stored["id"])))


def _write_runs(tx: Statements, runs: pa.Table) -> None:
    stored = look_up(tx, NodeLabel.RUN, runs["id"], ["id", "policy"])
    create_nodes(tx, NodeLabel.RUN, runs.filter(absent(runs["id"], stored["id"])))
    set_properties(tx, NodeLabel.RUN, changed_policies(runs, stored))


def _write_rollouts(tx: Statements, new: pa.Table, runs: pa.Table) -> None:
    """New rollouts with their edges.

    Raises:
        InputError: a rollout names a query, answer or run that is neither in the block nor in the graph.
    """
    ran, answered = pc.is_valid(new["run"]), pc.is_valid(new["answer_id"])
    place = pc.index_in(new["run"], value_set=runs["name"])
    if pc.any(pc.and_(ran, pc.is_null(place))).as_py():
        name = new.filter(pc.and_(ran, pc.is_null(place)))["run"][0].as_py()
        raise InputError(f"the run {name} of a rollout is not among the block's runs; add it to them")
    new = new.append_column("run_id", runs["id"].take(place))
    for has_answer in (True, False):
        for has_run in (True, False):
            ends = [_QUERY_END, *([_ANSWER_END] if has_answer else []), *([_RUN_END] if has_run else [])]
            alike = pc.and_(pc.equal(answered, has_answer), pc.equal(ran, has_run))
            _create_rollouts(tx, new.filter(alike), ends)


class _End(NamedTuple):
    """Another end of a rollout's edges: its label, the column of its id, and the edge's CREATE."""

    name: str
    label: NodeLabel
    column: str
    edge: str


_QUERY_END = _End("query", NodeLabel.QUERY, "query_id", f"CREATE (query)-[:{EdgeType.GENERATES}]->(t)")
_ANSWER_END = _End(
    "answer", NodeLabel.ANSWER, "answer_id", f"CREATE (t)-[:{EdgeType.LEADS_TO} {{text: r[0]}}]->(answer)"
)
_RUN_END = _End("run", NodeLabel.RUN, "run_id", f"CREATE (run)-[:{EdgeType.PRODUCED}]->(t)")


def _create_rollouts(tx: Statements, new: pa.Table, ends: Sequence[_End]) -> None:
    """Create rollouts that all have these ends, which are looked up once and then named by their place in a list."""
    if new.num_rows == 0:
        return
    ids = {end.name: pc.unique(new[end.column]) for end in ends}
    places = [pc.index_in(new[end.column], value_set=ids[end.name]).to_pylist() for end in ends]
    schema = node_schema(NodeLabel.THINKING)
    values = Values(new.select(schema.names).cast(schema), first=1 + len(ends))
    lists = [listed(end.name, end.label, [other.name for other in ends[:at]]) for at, end in enumerate(ends)]
    named = ", ".join(f"{end.name}_nodes[r[{at}]] AS {end.name}" for at, end in enumerate(ends, start=1))
    statement = (
        f"{' '.join(lists)} UNWIND $rows AS r WITH r, {named} CREATE (t:{NodeLabel.THINKING} {values.map}) "
        f"{' '.join(end.edge for end in ends)} RETURN count(*)"
    )
    parameters = {f"{name}_ids": found.to_pylist() for name, found in ids.items()} | values.constants
    batches = values.batches(new["answer_text"].to_pylist(), *places)
    made = [tx.start(statement, rows=rows, **parameters) for rows in batches]
    if sum(rows()[0][0] for rows in made) != new.num_rows:
        for end in ends:
            check_known(tx, end.label, new[end.column])


def set_labels(tx: Statements, labels: pa.Table, *, replace: bool) -> int:
    """See `GraphStore.set_labels`."""
    labels = check_labels(labels)
    check_known(tx, NodeLabel.THINKING, labels["id"])
    stored = look_up(tx, NodeLabel.THINKING, labels["id"], LABEL_SCHEMA.names)
    changes = label_changes(stored, labels, replace=replace)
    set_properties(tx, NodeLabel.THINKING, changes)
    return int(changes.num_rows)


def append_scores(tx: Statements, batch: ScoreBatch) -> None:
    """See `GraphStore.append_scores`: a rollout that this model has scored keeps its score."""
    scores = batch.scores
    check_unique(scores["id"])
    check_known(tx, NodeLabel.THINKING, scores["id"])
    if look_up(tx, NodeLabel.REWARD_MODEL, pa.chunked_array([[batch.model["id"]]]), ["id"]).num_rows == 0:
        merge_node(tx, NodeLabel.REWARD_MODEL, batch.model)
    scored = tx.run(
        f"{by_id('m', NodeLabel.REWARD_MODEL, '$model')} UNWIND $ids AS id {by_id('n', NodeLabel.THINKING, 'id')} "
        f"WITH n, m WHERE EXISTS {{ (n)-[:{EdgeType.SCORED_BY}]->(m) }} RETURN collect(n.id)",
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
    given = pa.table({name: table[name] for name in table.column_names if name != "id"})
    values = Values(given)
    sets = ", ".join(f"n.`{name}` = {value}" for name, value in values.expressions.items())
    tx.run(f"MERGE (n:{label} {{id: $id}}) {'SET ' + sets if sets else ''}", id=properties["id"], **values.constants)


def _repeat(value: Any, length: int, kind: pa.DataType) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array([value] * length, kind)])
