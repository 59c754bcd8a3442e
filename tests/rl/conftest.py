"""A memory that a reward model was trained on: part of the sample, embedded for real."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memstore.memory import Memory
from memstore.sample import sample_path
from memstore_gnn.memory_verbs import train_memory
from memstore_rl.rewards import Group, Query, Rollout

QUERIES = 50
"""Of the sample's 400."""
HELD = 40
"""Of those, the ones that the memory holds."""
ROLLOUTS = 12
"""Of the sixteen that each query has."""
Rows = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="session")
def sample_rows() -> Rows:
    """Rows of the sample by query key: eight of each of the late checkpoint, then four of the early one."""
    found: Rows = {}
    with gzip.open(sample_path(), "rt", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            if len(found) < QUERIES or row["query_id"] in found:
                found.setdefault(row["query_id"], []).append(row)
    return {key: rows[:ROLLOUTS] for key, rows in found.items()}


@pytest.fixture(scope="session")
def trained_folder(sample_rows: Rows, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed memory with a model that saw half of the labels; leave it as it is."""
    folder = tmp_path_factory.mktemp("rewards")
    lines = [json.dumps(row) for rows in list(sample_rows.values())[:HELD] for row in rows]
    (folder / "rollouts.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with Memory.open(folder / "memory", create=True) as memory:
        memory.ingest([folder / "rollouts.jsonl"])
        train_memory(memory, budget=0.5, epochs=3, device="cpu")
    return folder / "memory"


@pytest.fixture(scope="session")
def trained_memory(trained_folder: Path) -> Iterator[Memory]:
    """The memory, open; leave it as it is."""
    with Memory.open(trained_folder) as memory:
        yield memory


@pytest.fixture(scope="session")
def groups(sample_rows: Rows) -> list[Group]:
    """Eight rollouts of each query, none labelled, as a trainer sends them; the memory lacks the last queries."""
    return [group_of(rows) for rows in sample_rows.values()]


def group_of(rows: list[dict[str, Any]], gold: str | None = "") -> Group:
    """The first eight rows as a group of a new run."""
    first = rows[0]
    query = Query(first["query"], dataset=first["dataset"], key=first["query_id"], domain="math", gold=gold)
    return Group(query, [Rollout(response=row["response"], policy="new", run="r", step=1) for row in rows[:8]])
