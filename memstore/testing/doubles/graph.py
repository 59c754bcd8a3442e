"""`MemoryGraph`: an in-memory graph store without Cypher, for tests.

A write changes a copy of the content, which replaces the original when all of it has succeeded.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa

from memstore.errors import InputError
from memstore.graph.find_queries import find_in
from memstore.graph.labels import check_labels, label_changes
from memstore.graph.protocol import (
    CypherResult,
    EdgeTable,
    GraphBlock,
    InfluenceUpdate,
    LinkUpdate,
    ScoreBatch,
    WriteCounts,
)
from memstore.graph.query_filter import QueryFilter
from memstore.graph.rules import (
    ENDS,
    check_block,
    check_columns,
    check_ends,
    check_influences,
    check_owner,
    check_schema,
    check_unique,
    join_policies,
    missing,
)
from memstore.testing.doubles.graph_content import (
    GraphContent,
    add_aliases,
    add_nodes,
    connect,
    connect_rollout,
    labels_of,
    merge_node,
    set_verdicts,
)
from memstore_schema import migrations
from memstore_schema.columns import (
    ALIAS_SCHEMA,
    ANSWER_TEXTS,
    NODE_COLUMNS,
    EdgeOwner,
    EdgeType,
    NodeLabel,
    edge_schema,
    ends_schema,
)


class MemoryGraph:
    """A graph store on dictionaries."""

    backend = "memory"
    speaks_cypher = False
    read_only = False

    def __init__(self, content: GraphContent | None = None) -> None:
        self._content = content or GraphContent()
        self.migrate()

    def version(self) -> None:
        """See `GraphStore`."""

    def schema_version(self) -> int:
        """See `GraphStore`."""
        return max((migrations.number_of(name) for name in self._content.applied), default=0)

    def migrate(self) -> list[str]:
        """See `GraphStore`; the columns are those of `memstore_schema.columns` whatever is applied."""
        check_schema(self.schema_version(), "this process")
        return migrations.apply(
            "ladybug", list(self._content.applied), lambda one: self._content.applied.append(one.name)
        )

    def read_meta(self) -> dict[str, str]:
        """See `GraphStore`."""
        return dict(self._content.meta)

    def write_meta(self, values: Mapping[str, str]) -> None:
        """See `GraphStore`."""
        self._content.meta.update(values)

    # -- writing ------------------------------------------------------------------------------------------------

    def write_block(self, block: GraphBlock, *, replace: bool = False) -> WriteCounts:
        """See `GraphStore`."""
        check_block(block)
        draft = copy.deepcopy(self._content)
        rollouts = draft.nodes[NodeLabel.THINKING]
        changes = label_changes(labels_of(rollouts), block.thinkings, replace=replace).to_pylist()
        queries = add_nodes(draft, NodeLabel.QUERY, block.queries)
        for row in block.queries.to_pylist():
            stored = draft.nodes[NodeLabel.QUERY][row["id"]]
            if row["gold"] is not None and (replace or stored["gold"] is None):
                stored["gold"] = row["gold"]
        add_aliases(draft, block)
        answers = add_nodes(draft, NodeLabel.ANSWER, block.answers)
        add_nodes(draft, NodeLabel.POLICY, block.policies)
        add_nodes(draft, NodeLabel.RUN, block.runs)
        for row in block.runs.to_pylist():
            stored = draft.nodes[NodeLabel.RUN][row["id"]]
            stored["policy"] = join_policies(stored["policy"], row["policy"])
        new = [row for row in block.thinkings.to_pylist() if row["id"] not in rollouts]
        added = add_nodes(draft, NodeLabel.THINKING, block.thinkings)
        run_ids = {row["name"]: row["id"] for row in block.runs.to_pylist()}
        for row in new:
            connect_rollout(draft, row, run_ids)
        for change in changes:
            rollouts[change["id"]].update(change)
        set_verdicts(draft)
        merge_node(draft, NodeLabel.BATCH, block.batch)
        self._keep(draft)
        return WriteCounts(queries, added, len(changes), answers)

    def replace_links(self, update: LinkUpdate) -> None:
        """See `GraphStore`."""
        draft, sources = copy.deepcopy(self._content), set(update.sources)
        edges = draft.edges.setdefault((EdgeType.SIMILAR_TO, update.label), {})
        for ends in [ends for ends in edges if ends[0] in sources]:
            del edges[ends]
        for row in update.edges.to_pylist():
            if row["source"] not in sources:
                raise InputError(f"an edge leaves {update.label} {row['source']}, which is not among the sources")
            link = {"source_id": row["source"], "target_id": row["target"], "score": row["score"]}
            connect(draft, EdgeType.SIMILAR_TO, update.label, update.label, link)
        for node in update.linked:
            if node not in draft.nodes[update.label]:
                raise missing(update.label, [node])
            draft.nodes[update.label][node]["linked"] = update.fingerprint
        self._keep(draft)

    def linking(self) -> AbstractContextManager[None]:
        """See `GraphStore`."""
        return nullcontext()

    def append_scores(self, batch: ScoreBatch) -> None:
        """See `GraphStore`."""
        check_unique(batch.scores["id"])
        draft, model = copy.deepcopy(self._content), batch.model["id"]
        if model not in draft.nodes[NodeLabel.REWARD_MODEL]:
            merge_node(draft, NodeLabel.REWARD_MODEL, batch.model)
        scored = draft.edges.setdefault((EdgeType.SCORED_BY, NodeLabel.THINKING), {})
        for row in batch.scores.to_pylist():
            if batch.replace:
                scored.pop((row["id"], model), None)
            if (row["id"], model) not in scored:
                score = {**batch.properties, **row, "source_id": row["id"], "target_id": model}
                connect(draft, EdgeType.SCORED_BY, NodeLabel.THINKING, NodeLabel.REWARD_MODEL, score)
        self._keep(draft)

    def replace_influences(self, update: InfluenceUpdate) -> None:
        """See `GraphStore`."""
        check_influences(update)
        draft, rollouts = copy.deepcopy(self._content), set(update.rollouts)
        if unknown := sorted(rollouts - set(draft.nodes[NodeLabel.THINKING])):
            raise missing(NodeLabel.THINKING, unknown)
        edges = draft.edges.setdefault((EdgeType.INFLUENCED_BY, NodeLabel.THINKING), {})
        for ends in [ends for ends in edges if ends[0] in rollouts and ends[2] == update.model]:
            del edges[ends]
        for label, table in update.edges.items():
            for row in table.to_pylist():
                if row["target"] not in draft.nodes[label]:
                    raise missing(label, [row["target"]])
                ends = (row["source"], row["target"], update.model)
                edges[ends] = {"weight": row["weight"], "effect": row["effect"], "model": update.model}
        self._keep(draft)

    def replace_reliabilities(self, edges: pa.Table) -> None:
        """See `GraphStore`."""
        draft = copy.deepcopy(self._content)
        draft.edges[EdgeType.RELIABLE_IN, NodeLabel.POLICY] = {}
        for row in edges.rename_columns(ENDS).to_pylist():
            connect(draft, EdgeType.RELIABLE_IN, NodeLabel.POLICY, NodeLabel.DATASET, row)
        self._keep(draft)

    def set_labels(self, labels: pa.Table, *, replace: bool = False) -> int:
        """See `GraphStore`."""
        labels, rollouts = check_labels(labels), self._content.nodes[NodeLabel.THINKING]
        if unknown := [node for node in labels["id"].to_pylist() if node not in rollouts]:
            raise missing(NodeLabel.THINKING, unknown)
        changes = label_changes(labels_of(rollouts), labels, replace=replace).to_pylist()
        for change in changes:
            rollouts[change["id"]].update(change)
        set_verdicts(self._content)
        return len(changes)

    def clear_labels(self, ids: Sequence[str]) -> int:
        """See `GraphStore`."""
        rollouts = self._content.nodes[NodeLabel.THINKING]
        if unknown := [node for node in ids if node not in rollouts]:
            raise missing(NodeLabel.THINKING, unknown)
        labelled = {node for node in ids if rollouts[node].get("reward") is not None}
        for node in labelled:
            rollouts[node].update({"reward": None, "reward_source": None})
        set_verdicts(self._content)
        return len(labelled)

    def refresh_verdicts(self, answers: Sequence[str]) -> None:
        """See `GraphStore`; the verdicts of all answers follow the labels."""
        if unknown := [node for node in answers if node not in self._content.nodes[NodeLabel.ANSWER]]:
            raise missing(NodeLabel.ANSWER, unknown)
        set_verdicts(self._content)

    def write_batch(self, batch: Mapping[str, Any]) -> None:
        """See `GraphStore`."""
        merge_node(self._content, NodeLabel.BATCH, batch)

    def _keep(self, draft: GraphContent) -> None:
        self._content.nodes, self._content.edges = draft.nodes, draft.edges

    # -- reading ------------------------------------------------------------------------------------------------

    def nodes(self, label: NodeLabel, columns: Sequence[str], *, ids: Sequence[str] | None = None) -> pa.Table:
        """See `GraphStore`."""
        check_columns(label, columns)
        stored = self._content.nodes[label]
        wanted = sorted(stored if ids is None else {node for node in ids if node in stored}, key=str.encode)
        fields = {name: NODE_COLUMNS[label][name] for name in columns}
        return pa.table({name: pa.array([stored[i][name] for i in wanted], kind) for name, kind in fields.items()})

    def edges(
        self, edge: EdgeType, source: NodeLabel, target: NodeLabel, columns: Sequence[str] | None = None
    ) -> EdgeTable:
        """See `GraphStore`."""
        check_ends(edge, source, target)
        place = {
            label: {node: i for i, node in enumerate(self.nodes(label, ["id"])["id"].to_pylist())}
            for label in {source, target}
        }
        rows = sorted(
            (
                (place[source][a], place[target][b], properties)
                for (a, b, *_), properties in self._content.edges.get((edge, source), {}).items()
                if b in place[target]
            ),
            key=lambda row: row[:2],
        )
        ends = np.array([row[:2] for row in rows], dtype=np.int64).reshape(-1, 2)
        properties = pa.Table.from_pylist([row[2] for row in rows], schema=edge_schema(edge, columns))
        return EdgeTable(ends[:, 0], ends[:, 1], properties)

    def edges_of(
        self,
        edge: EdgeType,
        source: NodeLabel,
        target: NodeLabel,
        ids: Sequence[str],
        *,
        by: EdgeOwner = "source",
        columns: Sequence[str] = (),
    ) -> pa.Table:
        """See `GraphStore`."""
        check_owner(edge, source, target, by)
        if by == "query":
            rollouts = self.edges_of(EdgeType.GENERATES, NodeLabel.QUERY, NodeLabel.THINKING, ids)["target_id"]
            return self.edges_of(edge, source, target, rollouts.to_pylist(), columns=columns)
        wanted, end = set(ids), ("source", "target").index(by)
        rows = [
            {"source_id": ends[0], "target_id": ends[1], **properties}
            for ends, properties in self._content.edges.get((edge, source), {}).items()
            if ends[end] in wanted and ends[1] in self._content.nodes[target]
        ]
        return pa.Table.from_pylist(rows, schema=ends_schema(edge, columns))

    def find_queries(self, wanted: QueryFilter, after: str, limit: int, *, timeout_s: float) -> list[str]:
        """See `GraphStore`."""
        return find_in(self, wanted, after, limit)

    def aliases(self, queries: Sequence[str]) -> pa.Table:
        """See `GraphStore`."""
        names, wanted = self._content.nodes[NodeLabel.DATASET], set(queries)
        edges = self._content.edges.get((EdgeType.IN, NodeLabel.QUERY), {})
        rows = [
            {"query_id": query, "dataset": names[dataset]["name"], **properties}
            for (query, dataset, *_), properties in edges.items()
            if query in wanted
        ]
        return pa.Table.from_pylist(rows, schema=ALIAS_SCHEMA)

    def answer_texts(self, thinkings: Sequence[str]) -> pa.Table:
        """See `GraphStore`."""
        edges, wanted = self._content.edges.get((EdgeType.LEADS_TO, NodeLabel.THINKING), {}), set(thinkings)
        rows = [{"id": ends[0], **properties} for ends, properties in edges.items() if ends[0] in wanted]
        return pa.Table.from_pylist(rows, schema=ANSWER_TEXTS)

    def cypher(
        self,
        query: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        write: bool = False,
        timeout_s: float | None = None,
    ) -> CypherResult:
        """Always an error."""
        raise InputError("the in-memory graph does not support Cypher; use an embedded memory")

    def checkpoint(self) -> None:
        """Nothing to do."""

    def drop_cache(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
