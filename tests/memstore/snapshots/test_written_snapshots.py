"""A snapshot that is written from a memory in parts is the one that is taken as a whole; older formats load."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from safetensors.numpy import load_file, save_file

from memstore.errors import StoreError
from memstore.memory import Memory
from memstore.snapshots import write
from memstore.snapshots.files import load_snapshot, save_snapshot
from memstore.snapshots.snapshot import Snapshot
from memstore.snapshots.take import TABLES
from memstore.testing.doubles.embedder import HashEmbedder
from memstore_schema.columns import NodeLabel


@pytest.fixture(scope="module", params=[0, 3], ids=["without features", "with features"])
def memory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Memory]:
    folder = tmp_path_factory.mktemp("memory")
    rows = [
        {"query": f"{n}+2?", "thinking": f"Add ({k})." if k else "", "answer": str(n + k), "reward": float(k == 2)}
        | ({"features": [n, k, 0.5]} if request.param and n % 2 else {})
        for n in range(9)
        for k in range(5)
    ]
    (folder / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with Memory.open(folder / "m", create=True, embedder=HashEmbedder()) as memory:
        memory.ingest([folder / "r.jsonl"])
        yield memory


def check_equal(one: Snapshot, two: Snapshot) -> None:
    assert one.manifest.id == two.manifest.id
    for name in TABLES.values():
        assert getattr(one, name) == getattr(two, name), name
    assert one.edges.keys() == two.edges.keys()
    for name, edge in one.edges.items():
        assert np.array_equal((edge.source, edge.target), (two.edges[name].source, two.edges[name].target)), name
        assert edge.properties == two.edges[name].properties, name
    for name in ("query_x", "thinking_x", "query_has_x", "thinking_has_x", "features", "has_features"):
        ours, theirs = getattr(one, name), getattr(two, name)
        assert (ours is None) == (theirs is None), name
        assert ours is None or np.array_equal(ours, theirs), name


@pytest.mark.parametrize("texts", [True, False])
@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_parts_make_the_whole(
    memory: Memory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, texts: bool, rows: int
) -> None:
    monkeypatch.setattr(write, "BLOCK_ROWS", rows)
    written = memory.write_snapshot(tmp_path / "parts", texts=texts)
    taken = memory.snapshot(texts=texts)
    loaded = load_snapshot(tmp_path / "parts")
    check_equal(loaded, taken)
    assert (written.queries, written.thinkings, written.answers) == (9, 45, len(taken.answers))
    save_snapshot(taken, tmp_path / "whole")
    check_equal(load_snapshot(tmp_path / "whole"), loaded)
    if rows == 1000:
        ours, theirs = (json.loads((tmp_path / name / "manifest.json").read_text()) for name in ("parts", "whole"))
        assert ours["digests"] == theirs["digests"]


def test_an_empty_memory_is_written(tmp_path: Path) -> None:
    with Memory.open(tmp_path / "m", create=True, embedder=HashEmbedder()) as memory:
        assert memory.write_snapshot(tmp_path / "s").thinkings == 0
        check_equal(load_snapshot(tmp_path / "s"), memory.snapshot())


def test_vectors_are_mapped_and_can_be_changed_in_memory_only(memory: Memory, tmp_path: Path) -> None:
    memory.write_snapshot(tmp_path / "s")
    before = (tmp_path / "s" / "thinking_x.npy").read_bytes()
    loaded = load_snapshot(tmp_path / "s")
    assert isinstance(loaded.thinking_x.base, np.memmap)
    loaded.thinking_x[:] = 0
    assert (tmp_path / "s" / "thinking_x.npy").read_bytes() == before


def test_a_node_that_is_deleted_meanwhile_is_reported(
    memory: Memory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = memory.graph.nodes

    def deleting(label: NodeLabel, columns: list[str], **options: object) -> pa.Table:
        found = nodes(label, columns, **options)  # type: ignore[arg-type]
        return found.slice(1) if label is NodeLabel.THINKING and "text" in columns else found

    monkeypatch.setattr(memory.graph, "nodes", deleting)
    with pytest.raises(StoreError, match="take the snapshot again"):
        memory.write_snapshot(tmp_path / "s")
    assert not list(tmp_path.iterdir())


def test_a_snapshot_of_format_1_loads(memory: Memory, tmp_path: Path) -> None:
    memory.write_snapshot(tmp_path / "s")
    expected = memory.snapshot()
    arrays = load_file(tmp_path / "s" / "arrays.safetensors")
    for path in (tmp_path / "s").glob("*.npy"):
        arrays[path.stem] = np.load(path)
        path.unlink()
    save_file(arrays, tmp_path / "s" / "arrays.safetensors")
    manifest = json.loads((tmp_path / "s" / "manifest.json").read_text())
    files = [path for path in (tmp_path / "s").iterdir() if path.name != "manifest.json"]
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    (tmp_path / "s" / "manifest.json").write_text(json.dumps({**manifest, "format": 1, "digests": digests}))
    check_equal(load_snapshot(tmp_path / "s"), expected)
