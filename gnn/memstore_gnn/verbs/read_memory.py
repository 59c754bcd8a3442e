"""Read a memory for a reward model: in full, or its outline if it is large."""

from __future__ import annotations

from functools import partial

from memstore.memory import Memory
from memstore.snapshots.snapshot import Snapshot
from memstore.snapshots.take import Contents, take_outline, with_contents, with_digest
from memstore_schema.columns import NodeLabel

WHOLE_UP_TO = 100_000
"""Rollouts of the largest memory that is read in full."""


def read_memory(memory: Memory) -> tuple[Snapshot, Contents | None]:
    """The memory's snapshot, and None; of a large memory its outline, and what adds texts and vectors to a part of it.

    Both have the id of the memory's content.
    """
    if len(memory.graph.nodes(NodeLabel.THINKING, ["step"])) <= WHOLE_UP_TO:
        return memory.snapshot(), None
    return with_digest(memory.stores, take_outline(memory.stores)), partial(with_contents, memory.stores)
