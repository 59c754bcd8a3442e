"""Writes of every graph backend: blocks of rollouts, labels, predictions, single nodes.

Each function runs inside one transaction of the caller and is written in terms of the backend's `Primitives`, the
module `memstore.graph.ladybug.statements` or `memstore.graph.neo4j.statements`. A rollout enters the graph together
with its edges; only new rollouts get edges, so writing a block twice gives the same graph. Only one writer is active
at a time, so a look-up and the write that depends on it do not race.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from memstore.errors import InputError
from memstore.graph.labels import LABEL_SCHEMA, check_labels, label_changes
from memstore.graph.protocol import GraphBlock, ScoreBatch, WriteCounts
from memstore.graph.rules import (
    ENDS,
    absent,
    alias_rows,
    changed_policies,
    check_block,
    check_properties,
    check_unique,
)
from memstore.graph.verdicts import with_verdicts
from memstore_schema.columns import ALIAS_SCHEMA, EDGE_COLUMNS, EDGE_ENDS, NODE_COLUMNS, EdgeType, NodeLabel


class Primitives(Protocol):
    """Statements of one backend. `connection` is whatever its driver runs statements on, inside a transaction."""

    def look_up(self, connection: Any, label: NodeLabel, ids: pa.ChunkedArray, columns: Sequence[str], /) -> pa.Table:
        """Columns of the nodes of `ids` that exist; `ids` must be unique."""
        ...

    def check_known(self, connection: Any, label: NodeLabel, ids: pa.ChunkedArray, /) -> None:
        """Refuse ids that are not in the graph.

        Raises:
            InputError: a node is missing.
        """
        ...

    def create_nodes(self, connection: Any, label: NodeLabel, table: pa.Table, /) -> int:
        """Create nodes whose ids are not in the graph; returns their number."""
        ...

    def put_node(self, connection: Any, label: NodeLabel, table: pa.Table, /) -> None:
        """Create or change the node of a table with one row; columns that are not given stay as they are."""
        ...

    def set_properties(self, connection: Any, label: NodeLabel, table: pa.Table, /) -> None:
        """Set the columns other than `id` on the nodes of those ids.

        Raises:
            InputError: a node is not in the graph.
        """
        ...

    def create_edges(
        self, connection: Any, edge: EdgeType, source: NodeLabel, target: NodeLabel, table: pa.Table, /
    ) -> None:
        """Create edges; `source_id` and `target_id` are the ends, the other columns properties.

        Raises:
            InputError: an end is not in the graph.
        """
        ...

    def delete_edges(self, connection: Any, edge: EdgeType, source: NodeLabel, target: NodeLabel, /) -> None:
        """Delete all edges of a type between two labels."""
        ...

    def aliases(self, connection: Any, queries: pa.ChunkedArray, /) -> pa.Table:
        """The IN edges of queries, with the dataset's name (`ALIAS_SCHEMA`); `queries` must be unique."""
        ...

    def answers_of(self, connection: Any, thinkings: pa.ChunkedArray, /) -> pa.ChunkedArray:
        """Ids of the answers that these rollouts lead to; both are unique."""
        ...

    def labels_of(self, connection: Any, answers: pa.ChunkedArray, /) -> pa.Table:
        """The labelled rollouts that lead to these answers (`ANSWER_LABELS`); `answers` must be unique."""
        ...

    def create_rollouts(self, connection: Any, new: pa.Table, /) -> None:
        """Create Thinking nodes with their edges from `query_id`, `policy_id` and `run_id` and to `answer_id`.

        All ids but the query's may be null.

        Raises:
            InputError: the query, policy, run or answer is not in the graph.
        """
        ...

    def scored(self, connection: Any, model: str, ids: pa.ChunkedArray, /) -> pa.ChunkedArray:
        """Ids of rollouts that the reward model has scored, at least those among `ids`."""
        ...

    def delete_scores(self, connection: Any, model: str, ids: pa.ChunkedArray, /) -> None:
        """Delete the SCORED_BY edges from these rollouts to a reward model."""
        ...


def write_block(statements: Primitives, connection: Any, block: GraphBlock, *, replace: bool) -> WriteCounts:
    """See `GraphStore.write_block`."""
    check_block(block)
    stored = statements.look_up(connection, NodeLabel.THINKING, block.thinkings["id"], LABEL_SCHEMA.names)
    changes = label_changes(stored, block.thinkings, replace=replace)
    new = block.thinkings.filter(absent(block.thinkings["id"], stored["id"]))

    queries = _write_queries(statements, connection, block.queries, replace)
    _write_aliases(statements, connection, block)
    answers = statements.look_up(connection, NodeLabel.ANSWER, block.answers["id"], ["id"])
    new_answers = block.answers.filter(absent(block.answers["id"], answers["id"]))
    statements.create_nodes(connection, NodeLabel.ANSWER, with_verdicts(new_answers, new))
    _create_missing(statements, connection, NodeLabel.POLICY, block.policies)
    _write_runs(statements, connection, block.runs)
    statements.create_rollouts(connection, new.append_column("run_id", _ids_of_names(new["run"], block.runs, "run")))
    statements.set_properties(connection, NodeLabel.THINKING, changes)
    labelled = new.filter(pc.is_valid(new["reward"]))["answer_id"].drop_null()
    relabelled = statements.answers_of(connection, changes["id"])
    old_answers = labelled.filter(absent(labelled, new_answers["id"]))
    _judge(statements, connection, pa.chunked_array([*old_answers.chunks, *relabelled.chunks], pa.string()))
    merge_node(statements, connection, NodeLabel.BATCH, block.batch)
    return WriteCounts(queries, new.num_rows, changes.num_rows, new_answers.num_rows)


def _create_missing(statements: Primitives, connection: Any, label: NodeLabel, nodes: pa.Table) -> int:
    """Create the nodes that the graph lacks; returns their number."""
    stored = statements.look_up(connection, label, nodes["id"], ["id"])
    return statements.create_nodes(connection, label, nodes.filter(absent(nodes["id"], stored["id"])))


def _write_queries(statements: Primitives, connection: Any, queries: pa.Table, replace: bool) -> int:
    """Create the new queries and set gold answers that are new or, with `replace`, different."""
    stored = statements.look_up(connection, NodeLabel.QUERY, queries["id"], ["id", "gold"])
    given = queries.select(["id", "gold"]).filter(pc.is_valid(queries["gold"]))
    both = given.join(stored.rename_columns(["id", "old"]), keys="id", join_type="inner")
    wanted = pc.is_null(both["old"])
    if replace:
        wanted = pc.or_(wanted, pc.fill_null(pc.not_equal(both["gold"], both["old"]), False))
    statements.set_properties(connection, NodeLabel.QUERY, both.filter(wanted).select(["id", "gold"]))
    return statements.create_nodes(connection, NodeLabel.QUERY, queries.filter(absent(queries["id"], stored["id"])))


def _write_aliases(statements: Primitives, connection: Any, block: GraphBlock) -> None:
    """Create the datasets and IN edges that the graph lacks."""
    _create_missing(statements, connection, NodeLabel.DATASET, block.datasets)
    if not block.aliases.num_rows:
        return
    queries = pa.chunked_array([pc.unique(block.aliases["query_id"])])
    statements.check_known(connection, NodeLabel.QUERY, queries)
    known = set(alias_rows(statements.aliases(connection, queries)))
    rows = [row for row in dict.fromkeys(alias_rows(block.aliases)) if row not in known]
    aliases = pa.Table.from_pylist([dict(zip(ALIAS_SCHEMA.names, row, strict=True)) for row in rows], ALIAS_SCHEMA)
    targets = _ids_of_names(aliases["dataset"], block.datasets, "dataset")
    edges = {"source_id": aliases["query_id"], "target_id": targets, "key": aliases["key"], "split": aliases["split"]}
    statements.create_edges(connection, EdgeType.IN, NodeLabel.QUERY, NodeLabel.DATASET, pa.table(edges))


def _write_runs(statements: Primitives, connection: Any, runs: pa.Table) -> None:
    stored = statements.look_up(connection, NodeLabel.RUN, runs["id"], ["id", "policy"])
    statements.create_nodes(connection, NodeLabel.RUN, runs.filter(absent(runs["id"], stored["id"])))
    statements.set_properties(connection, NodeLabel.RUN, changed_policies(runs, stored))


def _ids_of_names(names: pa.ChunkedArray, nodes: pa.Table, noun: str) -> pa.ChunkedArray:
    """The id of each name among the block's runs or datasets, null where the name is null.

    Raises:
        InputError: a name is not among them.
    """
    position = pc.index_in(names, value_set=nodes["name"])
    unknown = pc.and_(pc.is_valid(names), pc.is_null(position))
    if pc.any(unknown).as_py():
        name = names.filter(unknown)[0].as_py()
        raise InputError(f"the {noun} {name} is named in a block but is not among its {noun}s; add it to them")
    return nodes["id"].take(position)


def set_labels(statements: Primitives, connection: Any, labels: pa.Table, *, replace: bool) -> int:
    """See `GraphStore.set_labels`."""
    labels = check_labels(labels)
    statements.check_known(connection, NodeLabel.THINKING, labels["id"])
    stored = statements.look_up(connection, NodeLabel.THINKING, labels["id"], LABEL_SCHEMA.names)
    changes = label_changes(stored, labels, replace=replace)
    statements.set_properties(connection, NodeLabel.THINKING, changes)
    _judge(statements, connection, statements.answers_of(connection, changes["id"]))
    return int(changes.num_rows)


def clear_labels(statements: Primitives, connection: Any, ids: Sequence[str]) -> int:
    """See `GraphStore.clear_labels`."""
    wanted = pa.chunked_array([pa.array(sorted(set(ids)), pa.string())])
    statements.check_known(connection, NodeLabel.THINKING, wanted)
    stored = statements.look_up(connection, NodeLabel.THINKING, wanted, LABEL_SCHEMA.names)
    labelled = stored.filter(pc.is_valid(stored["reward"]))["id"]
    empty = {
        "reward": _repeat(None, len(labelled), pa.float64()),
        "reward_source": _repeat(None, len(labelled), pa.string()),
    }
    statements.set_properties(connection, NodeLabel.THINKING, pa.table({"id": labelled} | empty))
    _judge(statements, connection, statements.answers_of(connection, labelled))
    return len(labelled)


def refresh_verdicts(statements: Primitives, connection: Any, answers: Sequence[str]) -> None:
    """See `GraphStore.refresh_verdicts`."""
    wanted = pa.chunked_array([pa.array(answers, pa.string())])
    statements.check_known(connection, NodeLabel.ANSWER, wanted)
    _judge(statements, connection, wanted)


def _judge(statements: Primitives, connection: Any, answers: pa.ChunkedArray) -> None:
    """Set the verdicts of these answers to what the stored labels say."""
    if len(answers):
        unique = pa.chunked_array([pc.unique(answers)])
        judged = with_verdicts(pa.table({"id": unique}), statements.labels_of(connection, unique))
        statements.set_properties(connection, NodeLabel.ANSWER, judged)


def append_scores(statements: Primitives, connection: Any, batch: ScoreBatch) -> None:
    """See `GraphStore.append_scores`."""
    scores, model = batch.scores, batch.model["id"]
    check_unique(scores["id"])
    statements.check_known(connection, NodeLabel.THINKING, scores["id"])
    if not statements.look_up(connection, NodeLabel.REWARD_MODEL, pa.chunked_array([[model]]), ["id"]).num_rows:
        merge_node(statements, connection, NodeLabel.REWARD_MODEL, batch.model)
    if batch.replace:
        statements.delete_scores(connection, model, scores["id"])
    else:
        scores = scores.filter(absent(scores["id"], statements.scored(connection, model, scores["id"])))
    columns = {"source_id": scores["id"], "target_id": _repeat(model, scores.num_rows, pa.string())}
    properties = {"scored_at": dt.datetime.now(dt.UTC), **batch.properties}
    for name, kind in EDGE_COLUMNS[EdgeType.SCORED_BY].items():
        given = name in scores.column_names
        columns[name] = scores[name] if given else _repeat(properties.get(name), scores.num_rows, kind)
    statements.create_edges(
        connection, EdgeType.SCORED_BY, NodeLabel.THINKING, NodeLabel.REWARD_MODEL, pa.table(columns)
    )


def replace_reliabilities(statements: Primitives, connection: Any, edges: pa.Table) -> None:
    """See `GraphStore.replace_reliabilities`."""
    edge, (ends,) = EdgeType.RELIABLE_IN, EDGE_ENDS[EdgeType.RELIABLE_IN]
    for label, name in zip(ends, ENDS, strict=True):
        statements.check_known(connection, label, edges[name])
    statements.delete_edges(connection, edge, *ends)
    statements.create_edges(connection, edge, *ends, edges.rename_columns(ENDS))


def merge_node(statements: Primitives, connection: Any, label: NodeLabel, properties: Mapping[str, Any]) -> None:
    """Create or change one node; only the given properties are set.

    Raises:
        InputError: no id, or a property that the label does not have.
    """
    check_properties(label, properties)
    columns = {name: pa.array([value], NODE_COLUMNS[label][name]) for name, value in properties.items()}
    statements.put_node(connection, label, pa.table(columns))


def _repeat(value: Any, length: int, kind: pa.DataType) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array([value] * length, kind)])
