"""Read a memory for a reward model: in full, or its outline if it is large."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from memstore.memory import Memory
from memstore.snapshots.snapshot import Snapshot
from memstore.snapshots.take import Contents, take_outline, with_contents
from memstore_gnn.data.drawn import MOST_LABELLED, MOST_OTHERS, draw_queries
from memstore_gnn.data.groups import query_of_thinkings
from memstore_gnn.data.hetero import some_rollouts
from memstore_gnn.data.splits import labelled_queries
from memstore_schema.columns import NodeLabel

WHOLE_UP_TO = 100_000
"""Rollouts of the largest memory that is read in full."""


def read_memory(memory: Memory) -> tuple[Snapshot, Contents | None]:
    """The memory's snapshot, and None; of a large memory its outline, and what adds texts and vectors to a part of it.

    An outline has no id; `memstore.snapshots.take.with_digest` adds it.
    """
    graph = memory.graph
    if len(graph.nodes(NodeLabel.THINKING, ["step"])) <= WHOLE_UP_TO:
        return memory.snapshot(), None
    outline = take_outline(memory.stores)
    keys = graph.nodes(NodeLabel.THINKING, ["query_key"])["query_key"]  # lines of scores name their query by its key
    outline = replace(outline, thinkings=outline.thinkings.append_column("query_key", keys))
    return outline, partial(with_contents, memory.stores)


def read_part(memory: Memory) -> Snapshot:
    """The memory's snapshot; of a large memory some labelled and other queries, with texts and vectors."""
    snapshot, contents = read_memory(memory)
    if contents is None:
        return snapshot
    labelled = labelled_queries(snapshot)
    read = draw_queries(snapshot, labelled, MOST_LABELLED) | draw_queries(snapshot, ~labelled, MOST_OTHERS)
    return contents(some_rollouts(snapshot, read[query_of_thinkings(snapshot)]))
