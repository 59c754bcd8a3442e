"""A wall clock that jumps back and ahead changes recorded times, and neither order nor waits."""

from __future__ import annotations

import ast
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import memstore
import memstore_cli
import memstore_gnn
import memstore_rl
from memstore.graph.ladybug.database import QUARANTINE, _quarantine
from memstore.memory import Memory
from memstore.runtime.retry import RetryPolicy
from memstore.snapshots.files import load_snapshot, save_snapshot
from memstore.testing.conformance.digest import memory_digest
from memstore.testing.doubles.embedder import HashEmbedder

RECORDED = {
    "memstore/graph/ladybug/database.py": "name of a damaged log that is kept",
    "memstore/graph/ladybug/store.py": "time of a migration",
    "memstore/graph/lock.py": "since when a process owns a memory, in its error",
    "memstore/graph/neo4j/schema.py": "time of a namespace and of a migration",
    "memstore/graph/writes.py": "scored_at",
    "memstore/labels/journal.py": "when a batch of labels was given",
    "memstore/pipeline/ingest.py": "created_at",
    "memstore/runtime/retry.py": "until when a server asks to wait, if it does not say its own time",
    "memstore/snapshots/from_rollouts.py": "created_at",
    "memstore/snapshots/take.py": "created_at of a manifest",
    "memstore_gnn/evaluation/kept.py": "when an evaluation was made",
    "memstore_gnn/scoring/reliability.py": "estimated_at",
    "memstore_gnn/training/fit.py": "created_at of a model",
    "memstore_rl/inspector/export.py": "when a page was exported",
    "memstore_rl/inspector/security.py": "when a login ends, which holds over restarts",
    "memstore_rl/inspector/site.py": "the time that a page shows beside recorded times",
    "memstore_rl/rewards/memory_model.py": "created_at of rollouts that are scored",
    "memstore_rl/rewards/verdicts.py": "judged_at of a verdict that is bought",
}
"""The modules that read the wall clock, and what they record."""
READS = {"time.time", "time.time_ns", "dt.datetime.now", "datetime.now", "dt.datetime.utcnow", "dt.date.today"}


def test_only_recorded_times_come_from_the_wall_clock() -> None:
    """Everything else, such as timeouts, intervals and rates, uses the monotonic clock."""
    found = set()
    for package in (memstore, memstore_gnn, memstore_rl, memstore_cli):
        assert package.__file__ is not None
        folder = Path(package.__file__).parent
        for path in folder.rglob("*.py"):
            if "testing" in path.parts:
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Attribute) and ast.unparse(node) in READS:
                    found.add(path.relative_to(folder.parent).as_posix())
    assert found == set(RECORDED)


def rollouts(path: Path, queries: range) -> Path:
    rows = [
        {"query": f"{n}+2?", "thinking": f"Add ({k}).", "answer": str(n + k), "reward": float(k == 2), "run": "r"}
        for n in queries
        for k in range(3)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def build(folder: Path) -> tuple[dict[str, str], str, str]:
    """Digest of a memory of two ingests, and the ids of its snapshot before and after it is saved."""
    files = [rollouts(folder / "a.jsonl", range(6)), rollouts(folder / "b.jsonl", range(4, 9))]
    with Memory.open(folder / "memory", create=True, embedder=HashEmbedder()) as memory:
        for file in files:
            memory.ingest([file])
        assert memory.ingest([files[0]]).added == 0
        memory.label({memory.snapshot().thinkings["id"][0].as_py(): 0.5}, replace=True)
        snapshot = memory.snapshot()
        save_snapshot(snapshot, folder / "snapshot")
    with Memory.open(folder / "memory", embedder=HashEmbedder()) as memory:
        assert memory.verify().ok
        return memory_digest(memory), snapshot.manifest.id, load_snapshot(folder / "snapshot").manifest.id


def test_a_memory_is_the_same_whatever_the_clock_does(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    for name in ("steady", "jumping"):
        (tmp_path / name).mkdir()
    steady = build(tmp_path / "steady")
    request.getfixturevalue("jumping_clock")
    assert build(tmp_path / "jumping") == steady


def test_deadlines_of_retries_ignore_the_wall_clock(jumping_clock: Callable[[], float]) -> None:
    failures, before = iter(range(20)), jumping_clock()

    def work() -> str:
        if next(failures, None) is not None:
            raise ConnectionError
        return "done"

    policy = RetryPolicy(deadline_s=60.0, first_pause_s=0.0, longest_pause_s=0.0)
    assert policy.call(work, retryable=lambda error: True) == "done"
    assert abs(time.time() - before) > 60, "the clock has not jumped"


def test_damaged_logs_that_are_kept_at_one_time_have_names_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import memstore.graph.ladybug.database as module

    class Stopped(module.dt.datetime):
        @classmethod
        def now(cls, tz: object = None) -> Stopped:
            return cls(2026, 1, 1)

    monkeypatch.setattr(module.dt, "datetime", Stopped)
    kept = []
    for content in ("one", "two", "three"):
        (tmp_path / "graph.lbdb.wal").write_text(content)
        kept.append(_quarantine(tmp_path))
    assert [path.read_text() for path in kept] == ["one", "two", "three"]
    assert set((tmp_path / QUARANTINE).iterdir()) == set(kept)
