"""Content digests of a memory, to compare two memories after a crash, a move or another order of writes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

import pyarrow as pa

from memstore.snapshots.take import BOOKKEEPING, EDGE_NAMES
from memstore.types import VECTOR_KINDS
from memstore.vectors.labels import LABEL_OF
from memstore_schema.columns import NODE_COLUMNS, NodeLabel

if TYPE_CHECKING:
    from memstore.memory import Memory

WHEN = frozenset({"created_at", "scored_at", "verdict_at", "estimated_at"})


def memory_digest(memory: Memory) -> dict[str, str]:
    """A digest for each part of a memory: node tables, edges by ids with their properties, vectors bit for bit.

    Times and bookkeeping (which batch, which link settings) are left out.
    """
    graph = memory.graph
    digests: dict[str, str] = {}
    ids: dict[NodeLabel, list[str]] = {}
    for label, columns in NODE_COLUMNS.items():
        if label is NodeLabel.BATCH:
            continue
        table = graph.nodes(label, [name for name in columns if name not in BOOKKEEPING | WHEN])
        ids[label] = table["id"].to_pylist()
        digests[str(label)] = _digest(_rows(table))
    for name, (edge, source, target) in EDGE_NAMES.items():
        found = graph.edges(edge, source, target)
        kept = found.properties.select([c for c in found.properties.column_names if c not in WHEN])
        properties = _rows(kept) if kept.num_columns else [()] * len(found)
        ends = zip(found.source.tolist(), found.target.tolist(), properties, strict=True)
        digests[name] = _digest((ids[source][s], ids[target][t], *values) for s, t, values in ends)
    if memory.fingerprint is not None:
        for kind in VECTOR_KINDS:
            nodes = ids[LABEL_OF[kind]]
            fetched = memory.vectors.fetch(nodes)
            stored = sorted(node for block in memory.vectors.ids(kind) for node in block)
            rows = zip(nodes, fetched.found.tolist(), (row.tobytes() for row in fetched.vectors), strict=True)
            digests[f"{kind} vectors"] = _digest([*rows, *((node,) for node in stored)])
    return digests


def _rows(table: pa.Table) -> list[tuple[object, ...]]:
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


def _digest(rows: Iterable[tuple[object, ...]]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for row in sorted(rows, key=repr):
        digest.update(repr(row).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
