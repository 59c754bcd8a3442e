"""On a full disk the call is undone with an error, and succeeds once there is space."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memstore.errors import LocationError
from memstore.graph.ladybug import LadybugGraph
from memstore.testing.conformance.graph_blocks import Rollout, dump, make_block
from memstore.testing.conformance.graph_writes import operations
from memstore.testing.doubles.graph import MemoryGraph
from memstore_schema.columns import NodeLabel

WRITER = """
import json, resource, signal, sys
from pathlib import Path
from memstore.errors import StoreFullError
from memstore.errors import LocationError
from memstore.graph.ladybug import LadybugGraph
from memstore.testing.conformance.graph_writes import operations
folder, limit = Path(sys.argv[1]), int(sys.argv[2])
graph = LadybugGraph.open(folder, create=True)
if limit:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
messages = []
rows = graph.cypher("UNWIND range(1, 1000) AS i RETURN i").rows
next(rows)
for returned, operation in enumerate(operations(400)):
    try:
        operation(graph)
    except StoreFullError as error:
        messages.append(str(error))
        break
for again in (lambda: operation(graph), lambda: graph.schema_version(), graph.checkpoint):
    try:
        again()
    except StoreFullError as error:
        messages.append(str(error))
graph.close()
graph.close()
print(json.dumps({"returned": returned, "messages": messages}))
"""


def write_until_full(folder: Path, limit: int = 0) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", WRITER, str(folder), str(limit)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def check(folder: Path, said: dict[str, Any]) -> None:
    """Completed calls are in the graph, a failed call is complete or absent, and can be repeated."""
    assert len(said["messages"]) == 4
    assert all("no space left" in message for message in said["messages"])
    model = MemoryGraph()
    todo = operations(400)
    for _ in range(said["returned"]):
        next(todo)(model)
    without = dump(model)
    failed = next(todo)
    failed(model)
    with LadybugGraph.open(folder, create=False) as graph:
        assert dump(graph) in (without, dump(model))
        failed(graph)
        assert dump(graph) == dump(model)


@pytest.mark.parametrize("limit", [1_000_000, 1_500_000, 2_345_678, 6_000_001])
def test_a_limit_on_the_size_of_files(tmp_path: Path, limit: int) -> None:
    said = write_until_full(tmp_path / "graph", limit)
    check(tmp_path / "graph", said)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MB; `remount` in the test makes it larger."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(disk)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no file system may be mounted here (uid {os.geteuid()}): {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("size", ["4m", "5m", "7m"])
def test_a_full_disk(small_disk: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(small_disk)], check=True)
    said = write_until_full(small_disk / "graph")
    subprocess.run(["mount", "-o", "remount,size=100m", str(small_disk)], check=True)
    check(small_disk / "graph", said)


def test_a_graph_on_a_full_disk_can_be_read_and_closed(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    with LadybugGraph.open(small_disk / "graph", create=True) as graph:
        graph.write_block(make_block(Rollout("t1", "q1", "4")))
        with contextlib.suppress(OSError), (small_disk / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(b"x" * 4096)
        assert graph.nodes(NodeLabel.THINKING, ["id"])["id"].to_pylist() == ["t1"]
    assert "nothing is lost" in caplog.text
    with LadybugGraph.open(small_disk / "graph", create=False) as graph:
        assert len(dump(graph)["Thinking"]) == 1
    (small_disk / "graph" / "owner.lock").unlink()
    with contextlib.suppress(OSError), (small_disk / "filler").open("ab", buffering=0) as filler:
        while True:
            filler.write(b"x" * 4096)
    with pytest.raises(LocationError, match="No space left"):
        LadybugGraph.open(small_disk / "graph", create=False)


def test_a_query_on_a_full_disk_replays_the_log_that_cannot_be_shortened(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("memstore.graph.ladybug.database.LONG_LOG_BYTES", 1)
    with LadybugGraph.open(small_disk / "graph", create=True) as graph:
        graph.write_block(make_block(Rollout("t1", "q1", "4")))
        with contextlib.suppress(OSError), (small_disk / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(b"x" * 4096)
        for _ in range(2):
            assert list(graph.cypher("MATCH (t:Thinking) RETURN t.id").rows) == [("t1",)]
        assert caplog.text.count("queries stay slower") == 1
        (small_disk / "filler").unlink()
        graph.write_block(make_block(Rollout("t2", "q1", "4")))
        assert list(graph.cypher("MATCH (t:Thinking) RETURN count(t)").rows) == [(2,)]
        assert not (small_disk / "graph" / "graph.lbdb.wal").exists()


ONE_WRITE = """
import sys
from pathlib import Path
from memstore.errors import StoreFullError
from memstore.graph.ladybug import LadybugGraph
from memstore.testing.conformance.graph_blocks import (
    Rollout, dump, make_block, make_influences, make_labels, make_links, make_scores,
)
from memstore_schema.columns import NodeLabel

ids = [f"t{number:04}" for number in range(2000)]
block = make_block(*[Rollout(f"u{id}", "q1", "4", text=f"{id} " * 50) for id in ids])
links = {id: {other: 0.5 for other in ids[:5] if other != id} for id in ids}
WRITES = {
    "block": lambda graph: graph.write_block(block),
    "labels": lambda graph: graph.set_labels(make_labels(dict.fromkeys(ids, 1.0)), replace=True),
    "no labels": lambda graph: graph.clear_labels(ids),
    "scores": lambda graph: graph.append_scores(make_scores("m1", 1, dict.fromkeys(ids, 0.25))),
    "links": lambda graph: graph.replace_links(make_links(NodeLabel.THINKING, links)),
    "settings": lambda graph: graph.write_meta({f"name-{id}": "value " * 20 for id in ids[:200]}),
}
folder, write = Path(sys.argv[1]), WRITES[sys.argv[2]]
made = make_block(*[Rollout(id, f"q{id[:3]}", "4", reward=1.0 if sys.argv[2] == "no labels" else None) for id in ids])
with LadybugGraph.open(folder / "graph", create=True) as graph:
    graph.write_block(made)
refused = 0
for spare in (0, *(4096 * 2**n for n in range(13))):
    graph = LadybugGraph.open(folder / "graph", create=False)
    before = dump(graph), graph.read_meta()
    with (folder / "filler").open("wb", buffering=0) as filler:
        try:
            while True:
                filler.write(b"x" * 4096)
        except OSError:
            filler.truncate(max(filler.tell() - spare, 0))
    try:
        write(graph)
    except StoreFullError:
        refused += 1
    else:
        break
    finally:
        (folder / "filler").unlink()
    graph.close()
    with LadybugGraph.open(folder / "graph", create=False) as graph:
        assert (dump(graph), graph.read_meta()) == before
assert (dump(graph), graph.read_meta()) != before
graph.close()
print(refused)
"""


@pytest.mark.parametrize("write", ["block", "labels", "no labels", "scores", "links", "settings"])
def test_a_write_without_space_is_refused_and_the_same_process_goes_on(small_disk: Path, write: str) -> None:
    subprocess.run(["mount", "-o", "remount,size=40m", str(small_disk)], check=True)
    done = subprocess.run([sys.executable, "-c", ONE_WRITE, str(small_disk), write], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert int(done.stdout) > 0
