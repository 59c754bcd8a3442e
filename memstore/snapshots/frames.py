"""Convert a snapshot to pandas data frames, for notebooks."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from memstore.snapshots.snapshot import Snapshot
from memstore.snapshots.take import EDGE_NAMES, TABLES
from memstore_schema.columns import NodeLabel

if TYPE_CHECKING:
    import pandas as pd

_RENAMED = {"source": "score_source"}
"""Properties whose name an end of the edges has."""


class Frames(NamedTuple):
    """Data frames of a snapshot: `nodes` by label (`Query`, ...), `edges` by edge name (`generates`, ...)."""

    nodes: dict[str, pd.DataFrame]
    edges: dict[str, pd.DataFrame]

    def __repr__(self) -> str:
        sizes = [", ".join(f"{name} [{len(f)} x {len(f.columns)}]" for name, f in part.items()) for part in self]
        return f"Frames(nodes: {sizes[0]}; edges: {sizes[1]})"


def to_pandas(snapshot: Snapshot) -> Frames:
    """Convert a snapshot to data frames.

    Node frames are indexed by `id`. Thinkings also have `query_id` and `answer_id`, which is missing if the rollout has
    no answer. Edge frames have `source` and `target` (ids) and the properties of the relation. The property `source` of
    `scored_by` is in the column `score_source`.
    """
    tables = {label: getattr(snapshot, name) for label, name in TABLES.items()}
    ids = {label: table["id"].to_numpy(zero_copy_only=False) for label, table in tables.items()}
    nodes = {str(label): table.to_pandas().set_index("id") for label, table in tables.items()}
    edges = {}
    for name, (_, source, target) in EDGE_NAMES.items():
        edge = snapshot.edges[name]
        frame = edge.properties.to_pandas().rename(columns=_RENAMED)
        frame.insert(0, "source", ids[source][edge.source])
        frame.insert(1, "target", ids[target][edge.target])
        edges[name] = frame
    thinking = nodes[str(NodeLabel.THINKING)]
    generates = edges["generates"].set_index("target")["source"]
    leads_to = edges["leads_to"].set_index("source")["target"]
    thinking.insert(0, "query_id", generates.reindex(thinking.index))
    thinking.insert(1, "answer_id", leads_to.reindex(thinking.index))
    return Frames(nodes, edges)
