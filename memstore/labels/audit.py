"""Marks of audit queries: queries that are kept for measuring.

Their labels are never learned from or remembered (`memstore_gnn.data.visibility`), and no training batch has them
(`memstore verl data`). The mark is a further name of the query in one of its datasets, an IN edge with the split
`audit`. So it is stored with the graph, is part of every snapshot and restored with it. Rows of an ingest and of a file
of labels that have `split: audit` set it, too; exported labels have it. A mark is never removed by adding rollouts or
names, and a query that stays when its dataset is deleted keeps it in another one.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from memstore.errors import InputError
from memstore.graph.protocol import EdgeTable, GraphBlock
from memstore.locations.stores import Stores
from memstore.records.ids import dataset_id
from memstore.types import AUDIT_SPLIT
from memstore_schema.columns import ALIAS_SCHEMA, NodeLabel, node_schema

BATCH = "b-audit"
"""Id of the Batch node of all marks."""
_NO_DATASET = "default"
"""Dataset of a query without a name."""
_ROLLOUT_COLUMNS = ("query_id", "answer_id", "answer_text", "policy_id")


def is_audit_split(value: object, where: str) -> bool:
    """Whether the `split` of a row of labels marks an audit query; case and blanks around it do not count.

    Raises:
        InputError: it is another split.
    """
    split = "" if value is None else str(value).strip().lower()
    if split not in ("", AUDIT_SPLIT):
        raise InputError(f"{where}the split is {value!r}; write {AUDIT_SPLIT}, or leave it empty")
    return split == AUDIT_SPLIT


def mark_audit(stores: Stores, queries: Sequence[str], *, leaving: str | None = None) -> int:
    """Mark queries (ids) as audit queries, in one transaction; return how many were not marked before.

    Args:
        leaving: a dataset that is about to be deleted: marks and names in it do not count.

    Raises:
        ReadOnlyError: the memory cannot be written to.
        InputError: an id is not in the memory; nothing is marked.
    """
    stores.check_writable()
    rows: dict[str, tuple[str, str | None]] = {}
    marked = set()
    for row in stores.graph.aliases(sorted(set(queries))).to_pylist():
        if row["dataset"] == leaving:
            continue
        if row["split"] == AUDIT_SPLIT:
            marked.add(row["query_id"])
        name = (row["dataset"], row["key"])
        known = rows.setdefault(row["query_id"], name)
        rows[row["query_id"]] = min(known, name, key=lambda one: (one[0], one[1] is None, one[1] or ""))
    new = [query for query in dict.fromkeys(queries) if query not in marked]
    if new:
        names = [(query, *rows.get(query, (_NO_DATASET, None)), AUDIT_SPLIT) for query in new]
        stores.graph.write_block(_block(names))
    return len(new)


def audit_positions(names: EdgeTable) -> set[int]:
    """Positions of the marked queries.

    Args:
        names: the IN edges of a memory, with `split`.
    """
    marked = pc.equal(names.properties["split"], AUDIT_SPLIT).fill_null(False).to_numpy()
    return set(names.source[marked].tolist())


def _block(names: Sequence[tuple[str, str, str | None, str]]) -> GraphBlock:
    """A block that adds names to stored queries and nothing else."""
    aliases = pa.Table.from_pylist([dict(zip(ALIAS_SCHEMA.names, row, strict=True)) for row in names], ALIAS_SCHEMA)
    datasets = sorted({row[1] for row in names})
    thinkings = node_schema(NodeLabel.THINKING)
    for name in _ROLLOUT_COLUMNS:
        thinkings = thinkings.append(pa.field(name, pa.string()))
    return GraphBlock(
        queries=node_schema(NodeLabel.QUERY).empty_table(),
        thinkings=thinkings.empty_table(),
        answers=node_schema(NodeLabel.ANSWER).empty_table(),
        runs=node_schema(NodeLabel.RUN).empty_table(),
        batch={"id": BATCH, "source": "memstore queue", "state": "done"},
        datasets=pa.table({"id": [dataset_id(name) for name in datasets], "name": datasets}),
        aliases=aliases,
    )
