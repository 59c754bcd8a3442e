"""A restore that is killed with SIGKILL before a given call is finished by the next one, with the same digest."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from memstore.memory import Memory
from memstore.snapshots.files import load_snapshot, save_snapshot
from memstore.testing.conformance.digest import memory_digest
from memstore.testing.doubles.embedder import HashEmbedder

_RESTORE_AND_DIE = """
import os, signal, sys
from pathlib import Path
from memstore.embedding.cache import VectorCache
from memstore.memory import Memory
from memstore.pipeline import content, restore
from memstore.snapshots.files import load_snapshot
from memstore.testing.doubles.embedder import HashEmbedder
step, count, source, target = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])
content.BLOCK_ROWS = restore.VECTOR_ROWS = 8
snapshot = load_snapshot(source)
with Memory.open(target, create=True, embedder=HashEmbedder()) as memory:
    owner = {"append": VectorCache, "upsert": type(memory.vectors), "flush": type(memory.vectors)}
    owner = owner.get(step, type(memory.graph))
    call, left = getattr(owner, step), [count]
    def dying(*arguments, **options):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **options)
    setattr(owner, step, dying)
    memory.restore(snapshot)
"""


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A saved snapshot and the digest of the memory that it was taken from."""
    folder = tmp_path_factory.mktemp("original")
    rows = [
        {"query": f"{n}+2?", "thinking": f"Add ({k}).", "answer": str(n + k), "reward": float(k == 2)}
        for n in range(8)
        for k in range(4)
    ]
    (folder / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with Memory.open(folder / "m", create=True, embedder=HashEmbedder()) as memory:
        memory.ingest([folder / "r.jsonl"])
        save_snapshot(memory.snapshot(), folder / "s")
        return folder / "s", memory_digest(memory)


@pytest.mark.parametrize(
    ("step", "count"),
    [("write_block", 1), ("append", 1), ("append", 2), ("upsert", 1), ("upsert", 4)],
)
def test_a_killed_restore_is_finished_by_the_next(
    original: tuple[Path, dict[str, str]], tmp_path: Path, step: str, count: int
) -> None:
    source, digest = original
    command = [sys.executable, "-c", _RESTORE_AND_DIE, step, str(count), str(source), str(tmp_path / "m")]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    with Memory.open(tmp_path / "m", create=True, embedder=HashEmbedder()) as memory:
        memory.restore(load_snapshot(source))
        assert memory_digest(memory) == digest
