"""A memory on a read-only mount is read: counted, queried, scored to a file, snapshotted. Writes are refused."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from memstore.embedding.cache import VectorCache
from memstore.errors import LocationError, LockedError, ReadOnlyError, StoreError
from memstore.graph.ladybug import LadybugGraph
from memstore.graph.lock import FILE, OwnerLock
from memstore.memory import Memory
from memstore.snapshots.files import load_snapshot
from memstore.testing.conformance.digest import memory_digest
from memstore.testing.doubles.embedder import HashEmbedder
from memstore.vectors.embedded import EmbeddedVectors
from memstore_gnn.verbs import train_memory

MOUNTED = """
import json, subprocess, sys
from pathlib import Path
from memstore.errors import ReadOnlyError
from memstore.memory import Memory
from memstore.snapshots.files import save_snapshot
from memstore.testing.conformance.digest import memory_digest
from memstore.testing.doubles.embedder import HashEmbedder
from memstore_gnn.verbs import score_file, score_memory_rollouts, train_memory

folder, rollouts, out = (Path(argument) for argument in sys.argv[1:])
COUNT = "MATCH (t:Thinking) WHERE t.reward IS NOT NULL RETURN count(*)"
found = {}
with Memory.open(folder, embedder=HashEmbedder()) as memory:
    found["rollouts"] = memory.stats().thinkings
    found["labelled"] = next(memory.cypher(COUNT).rows)[0]
    found["digest"] = memory_digest(memory)
    found["ok"] = memory.verify().ok
    found["scored"] = score_memory_rollouts(memory, output=out / "scores.jsonl").scored
    found["new"] = score_file(memory, rollouts, output=out / "new.jsonl").scored
    save_snapshot(memory.snapshot(), out / "snapshot")
    found["beside"] = subprocess.run(
        [sys.executable, "-c", "import sys; from memstore.memory import Memory; "
         "print(Memory.open(sys.argv[1]).stats().thinkings)", str(folder)],
        capture_output=True, text=True, check=True,
    ).stdout.strip()
    rollout = memory.graph.nodes("Thinking", ["id"])["id"][0].as_py()
    writes = {
        "ingest": lambda: memory.ingest([rollouts]),
        "label": lambda: memory.label({rollout: 0.0}, replace=True),
        "unlabel": lambda: memory.label({rollout: None}),
        "cypher": lambda: memory.cypher("MATCH (n:Query) SET n.text = ''", write=True),
        "score": lambda: score_memory_rollouts(memory),
        "train": lambda: train_memory(memory),
        "link": lambda: memory.link(),
        "repair": lambda: memory.verify(repair=True),
        "reembed": lambda: memory.reembed(HashEmbedder(dimension=16)),
        "restore": lambda: memory.restore(memory.snapshot(), merge=True),
        "vectors": lambda: memory.vectors.delete([rollout]),
    }
    for verb, write in writes.items():
        try:
            write()
            found[verb] = "written"
        except ReadOnlyError as error:
            found[verb] = str(error)
print(json.dumps(found))
"""


def rows(first: int, count: int) -> str:
    return "".join(
        json.dumps({"query": f"What is {n}+2?", "response": f"#### {n + added}", "sample_index": sample}) + "\n"
        for n in range(first, first + count)
        for sample, added in enumerate((1, 2, 2))
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A memory with a model, whose last label is in the write-ahead log only, as after a kill."""
    (tmp_path / "old.jsonl").write_text(rows(0, 4))
    with Memory.open(tmp_path / "open", create=True, embedder=HashEmbedder()) as memory:
        memory.ingest([tmp_path / "old.jsonl"])
        train_memory(memory)
        rollout = memory.graph.nodes("Thinking", ["id"])["id"][0].as_py()  # type: ignore[arg-type]
        memory.label({rollout: 1.0})
        shutil.copytree(tmp_path / "open", tmp_path / "memory")
    assert (tmp_path / "memory" / "graph" / "graph.lbdb.wal").stat().st_size
    return tmp_path / "memory"


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_memory_on_a_read_only_mount_is_read_and_writes_are_refused(folder: Path, tmp_path: Path) -> None:
    if shutil.which("bwrap") is None:
        pytest.skip("no bubblewrap to mount a folder read-only; run `apt-get install bubblewrap`")
    (tmp_path / "new.jsonl").write_text(rows(10, 2))
    (tmp_path / "out").mkdir()
    before = files(folder)
    mount = ["bwrap", "--dev-bind", "/", "/", "--ro-bind", str(folder), str(folder), "--"]
    arguments = [str(folder), str(tmp_path / "new.jsonl"), str(tmp_path / "out")]
    done = subprocess.run([*mount, sys.executable, "-c", MOUNTED, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert files(folder) == before
    counts = {name: found.pop(name) for name in ("rollouts", "labelled", "ok", "scored", "new", "beside")}
    assert counts == {"rollouts": 12, "labelled": 1, "ok": True, "scored": 11, "new": 6, "beside": "12"}
    digest = found.pop("digest")
    refused = [verb for verb, message in found.items() if "cannot be written to" not in message]
    assert refused == []
    assert len((tmp_path / "out" / "scores.jsonl").read_text().splitlines()) == 11
    with Memory.open(folder, embedder=HashEmbedder()) as memory:
        assert memory_digest(memory) == digest
        assert load_snapshot(tmp_path / "out" / "snapshot").manifest.id == memory.snapshot().manifest.id
        assert memory.verify().ok


@pytest.fixture
def unwritable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Lock files cannot be opened for writing, as on a read-only mount."""
    real = os.open

    def open_to_read(path: str | Path, flags: int, mode: int = 0o777) -> int:
        if Path(path).name == FILE and flags & os.O_RDWR:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return real(path, flags, mode)

    with monkeypatch.context() as patched:
        patched.setattr("os.open", open_to_read)
        yield


@pytest.mark.usefixtures("unwritable")
def test_a_folder_without_a_lock_file_is_shared_without_one(tmp_path: Path) -> None:
    shared = OwnerLock(tmp_path, may_share=True)
    assert shared.read_only == "Read-only file system"
    with pytest.raises(ReadOnlyError, match=r"cannot be written to \(Read-only file system\).*; copy the memory"):
        shared.check_writable()
    shared.release()
    with pytest.raises(LocationError, match="name another folder"):
        OwnerLock(tmp_path)


@pytest.mark.usefixtures("unwritable")
@pytest.mark.parametrize(("operation", "refused"), [(fcntl.LOCK_EX, True), (fcntl.LOCK_SH, False)])
def test_a_shared_folder_has_readers_or_an_owner(tmp_path: Path, operation: int, refused: bool) -> None:
    """The other process holds the lock by a path that can be written to."""
    with (tmp_path / FILE).open("w") as file:
        fcntl.flock(file, operation)
        if refused:
            with pytest.raises(LockedError):
                OwnerLock(tmp_path, may_share=True)
            return
        shared = OwnerLock(tmp_path, may_share=True)
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shared.release()


@pytest.mark.usefixtures("unwritable")
def test_vectors_in_a_write_ahead_log_cannot_be_read_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "vectors.sqlite3").touch()
    (tmp_path / "vectors.sqlite3-wal").write_bytes(b"frames")
    with pytest.raises(StoreError, match="write-ahead log.*copy the memory"):
        EmbeddedVectors.open(tmp_path, fingerprint="one", dimension=4, create=False)
    OwnerLock(tmp_path, may_share=True).release()


@pytest.mark.usefixtures("unwritable")
def test_a_new_graph_is_not_made_in_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(LocationError, match="name another folder"):
        LadybugGraph.open(tmp_path / "graph", create=True)


def test_a_read_only_cache_keeps_new_vectors_in_memory(tmp_path: Path) -> None:
    old, new = np.eye(2, 4, dtype=np.float32)
    with closing(VectorCache.open(tmp_path / "cache", 4)) as cache:
        cache.append(["0" * 32], old[None])
    (tmp_path / "cache" / "block-000007.safetensors").write_bytes(b"damaged")
    before = files(tmp_path)
    with closing(VectorCache.open(tmp_path / "cache", 4, read_only=True)) as cache:
        cache.append(["1" * 32], new[None])
        np.testing.assert_array_equal(cache.vectors(cache.lookup(["1" * 32, "0" * 32])), [new, old])
    with closing(VectorCache.open(tmp_path / "none", 4, read_only=True)) as cache:
        assert len(cache) == 0
    assert files(tmp_path) == before
