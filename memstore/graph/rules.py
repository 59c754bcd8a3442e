"""Input checks and merge rules that all graph backends share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from memstore.errors import InputError, SchemaError
from memstore.graph.protocol import GraphBlock, InfluenceUpdate
from memstore_schema.columns import (
    ALIAS_SCHEMA,
    EDGE_ENDS,
    NODE_COLUMNS,
    RETIRED_COLUMNS,
    SCHEMA_VERSION,
    EdgeOwner,
    EdgeType,
    NodeLabel,
)

ENDS = {"source": "source_id", "target": "target_id"}
"""Names of the ends of edges in updates, and in the tables of `Primitives.create_edges`, which may have a property
`source` beside them."""


def check_block(block: GraphBlock) -> None:
    """Refuse a block in which an id occurs twice or is missing."""
    for table in (block.queries, block.thinkings, block.answers, block.policies, block.runs, block.datasets):
        check_unique(table["id"])


def check_unique(ids: pa.ChunkedArray) -> None:
    """Refuse ids that repeat or are null."""
    if len(pc.unique(ids)) < len(ids) or ids.null_count:
        counts = pc.value_counts(ids).to_pylist()
        wrong = next(entry["values"] for entry in counts if entry["counts"] > 1 or entry["values"] is None)
        raise InputError(f"the id {wrong} occurs twice in one call or is null; give each node once, with an id")


def check_properties(label: NodeLabel, properties: Mapping[str, Any]) -> None:
    """Refuse properties that the label does not have, and those without an id."""
    if unknown := sorted(set(properties) - set(NODE_COLUMNS[label])):
        raise InputError(f"{label} has no property {unknown[0]}; it has {', '.join(NODE_COLUMNS[label])}")
    if not properties.get("id"):
        raise InputError(f"a {label} needs an id")


def check_columns(label: NodeLabel, columns: Sequence[str]) -> None:
    """Refuse columns that the label does not have, and that it had in no earlier schema."""
    known = NODE_COLUMNS[label].keys() | RETIRED_COLUMNS.get(label, {}).keys()
    if unknown := [name for name in columns if name not in known]:
        raise InputError(f"{label} has no column {unknown[0]}; it has {', '.join(NODE_COLUMNS[label])}")


def check_ends(edge: EdgeType, source: NodeLabel, target: NodeLabel) -> None:
    """Refuse labels that a relation does not connect."""
    if (source, target) not in EDGE_ENDS[edge]:
        raise InputError(f"{edge} does not connect {source} to {target}")


def check_owner(edge: EdgeType, source: NodeLabel, target: NodeLabel, by: EdgeOwner) -> None:
    """Refuse what `edges_of` cannot read."""
    check_ends(edge, source, target)
    if by == "query" and source is not NodeLabel.THINKING:
        raise InputError(f"{edge} leaves no rollout, so it cannot be read by the queries of rollouts; name its ends")


def check_influences(update: InfluenceUpdate) -> None:
    """Refuse influences on rollouts that are not replaced, and from labels that cannot influence a rollout."""
    for label, edges in update.edges.items():
        check_ends(EdgeType.INFLUENCED_BY, NodeLabel.THINKING, label)
        stray = edges.filter(pc.invert(pc.is_in(edges["source"], value_set=pa.array(update.rollouts, pa.string()))))
        if stray.num_rows:
            rollout = stray["source"][0].as_py()
            raise InputError(f"rollout {rollout} has an influence but is not among the rollouts to replace; add it")


def check_schema(version: int, where: str) -> None:
    """Refuse a store with a newer schema than this version of memstore supports."""
    if version > SCHEMA_VERSION:
        raise SchemaError(
            f"the graph in {where} has schema {version}, newer than this memstore supports ({SCHEMA_VERSION}); "
            "install a newer one: pip install -U memstore"
        )


def missing(label: NodeLabel, ids: Sequence[str]) -> InputError:
    """The error for ids that are not in the memory."""
    more = f", nor are {len(ids) - 1:,} more" if len(ids) > 1 else ""
    return InputError(f"the {label} {ids[0]} is not in the memory{more}; check the id")


def absent(ids: pa.ChunkedArray, known: pa.ChunkedArray) -> pa.ChunkedArray:
    """Mask of the `ids` that are not `known`."""
    return pc.invert(pc.is_in(ids.cast(pa.string()), value_set=known.cast(pa.string())))


def alias_rows(aliases: pa.Table) -> list[tuple[str | None, ...]]:
    """Rows of a table of aliases: query, dataset, key, split."""
    return list(zip(*(aliases[name].to_pylist() for name in ALIAS_SCHEMA.names), strict=True))


def changed_policies(runs: pa.Table, stored: pa.Table) -> pa.Table:
    """`id` and `policy` of stored runs that gain a policy from `runs`; both tables have these two columns."""
    before = dict(zip(stored["id"].to_pylist(), stored["policy"].to_pylist(), strict=True))
    united = {
        run: join_policies(before[run], policy)
        for run, policy in zip(runs["id"].to_pylist(), runs["policy"].to_pylist(), strict=True)
        if run in before
    }
    changed = {run: policy for run, policy in united.items() if policy != before[run]}
    return pa.table({"id": list(changed), "policy": list(changed.values())})


def join_policies(*policies: str | None) -> str:
    """The union of comma-joined policies, sorted."""
    return ",".join(sorted({name for policy in policies for name in (policy or "").split(",") if name}))
