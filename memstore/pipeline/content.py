"""Read the whole content of a graph, and write content into one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from memstore.graph.protocol import EdgeTable, GraphBlock, GraphStore, InfluenceUpdate, ScoreBatch
from memstore.graph.verdicts import VERDICT_COLUMNS
from memstore.progress import Progress
from memstore.records.policies import policies_of
from memstore.snapshots.take import EDGE_NAMES
from memstore.snapshots.upgrade import Content
from memstore.snapshots.upgrade_edges import ADDED, CARRIED
from memstore.types import BoolVector
from memstore_schema.columns import EDGE_COLUMNS, NODE_COLUMNS, RETIRED_COLUMNS, EdgeType, NodeLabel

RESTORED = "b-restored"
"""Id of the Batch node of restored rollouts; it is open until the restore is complete."""
IMPORTED = "imported"
"""State of this batch after `neo4j-admin` has imported the graph of a snapshot (`memstore.pipeline.neo4j_files`)."""
BLOCK_ROWS = 8192
"""Rollouts that are written to the graph in one transaction."""
_INFLUENCES = {name: target for name, (edge, _, target) in EDGE_NAMES.items() if edge is EdgeType.INFLUENCED_BY}
"""Names of the INFLUENCED_BY edges, and the labels that they lead to."""
_STRUCTURE = {name: EDGE_NAMES[name] for name in ("generates", "leads_to")}


def read_schema_1(graph: GraphStore) -> Content:
    """The content of schema 1 in a graph, without similarity edges.

    A migration that was interrupted on a server has left content of schema 2 beside it, which is not read: its queries
    have no dataset of their own.
    """
    nodes: dict[NodeLabel, pa.Table] = {}
    for label in NodeLabel:
        if label not in _NEW_LABELS:
            names = [*NODE_COLUMNS[label], *RETIRED_COLUMNS.get(label, {})]
            nodes[label] = graph.nodes(label, [name for name in names if name not in _NEW_COLUMNS.get(label, ())])
    edges = {
        name: graph.edges(*ends, [column for column in EDGE_COLUMNS[ends[0]] if column not in ADDED.get(ends[0], ())])
        for name, ends in {**_STRUCTURE, **CARRIED}.items()
        if ends[0] is not EdgeType.SIMILAR_TO
    }
    old = pc.is_valid(nodes[NodeLabel.QUERY]["dataset"]).to_numpy(zero_copy_only=False)
    return Content(nodes, edges) if old.all() else _restricted(Content(nodes, edges), old)


_NEW_COLUMNS = {NodeLabel.THINKING: ("dataset",), NodeLabel.ANSWER: VERDICT_COLUMNS}
"""Columns that schema 1 lacks."""
_NEW_LABELS = (NodeLabel.DATASET, NodeLabel.POLICY)
"""Labels that schema 1 lacks."""


def _restricted(content: Content, queries: BoolVector) -> Content:
    """The content of some queries (bool [Q])."""
    keep = {label: np.ones(len(table), np.bool_) for label, table in content.nodes.items()}
    keep[NodeLabel.QUERY] = np.asarray(queries, np.bool_)
    for name, (_, source, target) in _STRUCTURE.items():
        edge = content.edges[name]
        keep[target] = np.zeros(len(keep[target]), np.bool_)
        keep[target][edge.target[keep[source][edge.source]]] = True
    nodes = {label: table.filter(pa.array(keep[label])) for label, table in content.nodes.items()}
    row = {label: np.cumsum(mask) - 1 for label, mask in keep.items()}
    edges = {}
    for name, edge in content.edges.items():
        _, source, target = {**_STRUCTURE, **CARRIED}[name]
        inside = keep[source][edge.source] & keep[target][edge.target]
        properties = edge.properties.filter(pa.array(inside)) if edge.properties.num_columns else edge.properties
        edges[name] = EdgeTable(row[source][edge.source[inside]], row[target][edge.target[inside]], properties)
    return Content(nodes, edges)


def write_nodes(graph: GraphStore, content: Content, batch: Mapping[str, Any], progress: Progress) -> int:
    """Write queries, rollouts, answers, policies, runs and datasets with their edges; return the rollouts added.

    Args:
        content: complete node tables; rollouts have a query each. Policies follow from the rollouts.
        batch: properties of the Batch node that the blocks are written with.
    """
    nodes, edges = content.nodes, content.edges
    queries, answers, runs = nodes[NodeLabel.QUERY], nodes[NodeLabel.ANSWER], nodes[NodeLabel.RUN]
    total = len(nodes[NodeLabel.THINKING])
    query_of = np.empty(total, dtype=np.int64)
    query_of[edges["generates"].target] = edges["generates"].source
    leads = edges["leads_to"]
    answer_of, written = np.full(total, -1, dtype=np.int64), np.full(total, -1, dtype=np.int64)
    answer_of[leads.source], written[leads.source] = leads.target, np.arange(len(leads))
    thinkings = nodes[NodeLabel.THINKING].append_column("query_id", _pick(queries["id"], query_of))
    thinkings = thinkings.append_column("answer_id", _pick(answers["id"], answer_of))
    thinkings = thinkings.append_column("answer_text", _pick(leads.properties["text"], written))
    thinkings = thinkings.append_column("policy_id", policies_of(thinkings)[1])
    aliases, named = alias_table(content), edges["in"].source
    # Rollouts of one query stand together, so that a block contains few queries.
    order = np.argsort(query_of, kind="stable")
    added = 0
    for start in range(0, total, BLOCK_ROWS):
        rows = order[start : start + BLOCK_ROWS]
        reached = np.unique(answer_of[rows])
        names = thinkings["run"].take(pa.array(rows))
        block = GraphBlock(
            queries=queries.take(pa.array(np.unique(query_of[rows]))),
            thinkings=thinkings.take(pa.array(rows)),
            answers=answers.take(pa.array(reached[reached >= 0])),
            runs=runs.filter(pc.is_in(runs["name"], value_set=pc.unique(names))),
            batch=batch,
            policies=policies_of(thinkings.take(pa.array(rows)))[0],
            datasets=nodes[NodeLabel.DATASET],
            aliases=aliases.take(pa.array(np.flatnonzero(np.isin(named, query_of[rows])))),
        )
        added += graph.write_block(block).thinkings_added
        progress.advance(len(rows))
    return added


def alias_table(content: Content) -> pa.Table:
    """The IN edges as rows of `ALIAS_SCHEMA`."""
    edge = content.edges["in"]
    return pa.table(
        {
            "query_id": _pick(content.nodes[NodeLabel.QUERY]["id"], edge.source),
            "dataset": _pick(content.nodes[NodeLabel.DATASET]["name"], edge.target),
            "key": edge.properties["key"],
            "split": edge.properties["split"],
        }
    )


def write_scores(graph: GraphStore, content: Content) -> None:
    """Write the reward models and their predictions."""
    edges, ids = content.edges["scored_by"], content.nodes[NodeLabel.THINKING]["id"]
    for position, model in enumerate(content.nodes[NodeLabel.REWARD_MODEL].to_pylist()):
        rows = np.flatnonzero(edges.target == position)
        scores = pa.table({"id": ids.take(pa.array(edges.source[rows]))})
        for name in edges.properties.column_names:
            scores = scores.append_column(name, edges.properties[name].take(pa.array(rows)))
        graph.append_scores(ScoreBatch(model={k: v for k, v in model.items() if v is not None}, scores=scores))


def write_influences(graph: GraphStore, content: Content) -> None:
    """Write the INFLUENCED_BY edges of each model, but for rollouts whose influences on its score the graph has.

    These stay, as the score does (`write_scores`): the graph's own may be newer.
    """
    stored = _influenced(graph)
    ids = content.nodes[NodeLabel.THINKING]["id"]
    tables: dict[str, dict[NodeLabel, pa.Table]] = {}
    for name, label in _INFLUENCES.items():
        edges = content.edges[name]
        table = _named(edges, ids, content.nodes[label]["id"])
        for model in pc.unique(table["model"]).to_pylist():
            own = table.filter(pc.equal(table["model"], model)).drop_columns(["model"])
            known = pc.is_in(own["source"], value_set=pa.array(sorted(stored.get(model, ())), pa.string()))
            tables.setdefault(model, {})[label] = own.filter(pc.invert(known))
    for model, of_label in tables.items():
        rollouts = sorted({node for own in of_label.values() for node in own["source"].to_pylist()})
        if rollouts:
            graph.replace_influences(InfluenceUpdate(model, rollouts, of_label))


def _influenced(graph: GraphStore) -> dict[str, set[str]]:
    """Ids of the rollouts that have INFLUENCED_BY edges of each model."""
    found: dict[str, set[str]] = {}
    ids = graph.nodes(NodeLabel.THINKING, ["id"])["id"]
    for name in _INFLUENCES:
        edges = graph.edges(*EDGE_NAMES[name], ["model"])
        rollouts = ids.take(pa.array(edges.source)).to_pylist()
        for rollout, model in zip(rollouts, edges.properties["model"].to_pylist(), strict=True):
            found.setdefault(model, set()).add(rollout)
    return found


def write_reliabilities(graph: GraphStore, content: Content) -> None:
    """Write the RELIABLE_IN edges; those that the graph has of the same policies and datasets stay."""
    edge, source, target = EDGE_NAMES["reliable_in"]
    stored = graph.edges(edge, source, target)
    own = {label: graph.nodes(label, ["id"])["id"] for label in (source, target)}
    parts = (
        _named(stored, own[source], own[target]),
        _named(content.edges["reliable_in"], content.nodes[source]["id"], content.nodes[target]["id"]),
    )
    both = pa.concat_tables([part.select(parts[0].column_names).cast(parts[0].schema) for part in parts])
    ends = list(zip(both["source"].to_pylist(), both["target"].to_pylist(), strict=True))
    first = {pair: row for row, pair in reversed(list(enumerate(ends)))}
    if len(first) > len(stored):
        graph.replace_reliabilities(both.take(pa.array(sorted(first.values()))))


def _named(edges: EdgeTable, sources: pa.ChunkedArray, targets: pa.ChunkedArray) -> pa.Table:
    """Edges with the ids of their ends as the columns `source` and `target`."""
    ends = {"source": sources.take(pa.array(edges.source)), "target": targets.take(pa.array(edges.target))}
    return pa.table(ends | {name: edges.properties[name] for name in edges.properties.column_names})


def _pick(values: pa.ChunkedArray, positions: np.ndarray) -> pa.ChunkedArray:
    """Values at these positions, null where the position is -1."""
    return values.take(pa.array(positions, mask=positions < 0))
