"""Snapshots whose files were cut, flipped or replaced are refused with one sentence; older ones load."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memstore.errors import InputError, StoreFullError
from memstore.memory import Memory
from memstore.snapshots import folder as folder_module
from memstore.snapshots.files import load_snapshot, save_snapshot
from memstore.snapshots.snapshot import Snapshot
from memstore.testing.doubles.embedder import HashEmbedder


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("snapshots")
    rows = [{"query": f"{n}+2?", "response": f"Add. #### {n + k}"} for n in range(6) for k in (2, 3)]
    (folder / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with Memory.open(folder / "m", create=True, embedder=HashEmbedder()) as memory:
        memory.ingest([folder / "r.jsonl"])
        save_snapshot(memory.snapshot(), folder / "s")
    return folder / "s"


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "s"))


def refusal(folder: Path) -> str:
    with pytest.raises(InputError) as error:
        load_snapshot(folder)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500
    return str(error.value)


def manifest_of(folder: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return manifest


def without_digests(folder: Path, **changes: Any) -> None:
    """Leave the digests out of the manifest, as memstore 0.1.0 did."""
    manifest = {name: value for name, value in manifest_of(folder).items() if name != "digests"}
    (folder / "manifest.json").write_text(json.dumps({**manifest, **changes}))


def names(saved: Path) -> list[str]:
    return sorted(path.name for path in saved.iterdir())


def test_a_snapshot_keeps_its_id_and_lists_all_files(saved: Path) -> None:
    manifest = manifest_of(saved)
    assert load_snapshot(saved).manifest.id == manifest["id"]
    assert sorted([*manifest["digests"], "manifest.json"]) == names(saved)


def test_a_snapshot_without_digests_loads(copy: Path) -> None:
    without_digests(copy)
    assert len(load_snapshot(copy).thinkings) == 12


def test_every_cut_and_every_flip_is_refused(saved: Path, tmp_path: Path) -> None:
    chance = random.Random(3)
    for name in names(saved):
        data = (saved / name).read_bytes()
        for kind in ("cut", "flip", "flip"):
            if kind == "flip" and name == "manifest.json":
                continue  # a changed letter in a free text of the manifest cannot be noticed
            copy = Path(shutil.copytree(saved, tmp_path / "s"))
            at = chance.randrange(len(data))
            damaged = data[:at] if kind == "cut" else data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]
            (copy / name).write_bytes(damaged)
            refusal(copy)
            shutil.rmtree(copy)


def test_damaged_offsets_of_a_snapshot_without_digests_are_refused(copy: Path) -> None:
    without_digests(copy)
    table = load_snapshot(copy).queries
    offsets = table["text"].chunk(0).buffers()[1].to_pybytes()[: 4 * (len(table) + 1)]
    data = (copy / "queries.arrow").read_bytes()
    assert offsets in data
    (copy / "queries.arrow").write_bytes(data.replace(offsets, offsets[:-4] + (2**30).to_bytes(4, "little")))
    assert "damaged" in refusal(copy)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "1", "null", '"x"', "{}", '{"format": 1}', "[" * 100_000, '{"format": 1e999}',
     '{"format": ' + "9" * 5_000 + "}", '{"format": true}', '{"format": 0}', "\ud800".encode("utf-8", "surrogatepass")],
)  # fmt: skip
def test_an_odd_manifest_is_refused(copy: Path, text: str | bytes) -> None:
    (copy / "manifest.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert "damaged" in refusal(copy)


@pytest.mark.parametrize(
    "changes",
    [{"format": "1"}, {"format": None}, {"x": 1}, {"embedder": 5}, {"links": None}, {"schema_version": "1"},
     {"schema_version": True}, {"id": []}, {"digests": []}, {"digests": {}}, {"digests": {"../m": "0"}}],
)  # fmt: skip
def test_an_odd_value_of_the_manifest_is_refused(copy: Path, changes: dict[str, Any]) -> None:
    without_digests(copy, **changes)
    assert "damaged" in refusal(copy)


@pytest.mark.parametrize("changes", [{"format": 3}, {"schema_version": 999}])
def test_a_newer_snapshot_is_refused(copy: Path, changes: dict[str, Any]) -> None:
    without_digests(copy, **changes)
    assert "newer" in refusal(copy)


@pytest.mark.parametrize("name", ["manifest.json", "queries.arrow", "query_x.npy", "arrays.safetensors"])
@pytest.mark.parametrize("kind", ["folder", "missing", "other file"])
def test_a_replaced_file_is_refused(copy: Path, name: str, kind: str) -> None:
    (copy / name).unlink()
    if kind == "folder":
        (copy / name).mkdir()
    elif kind == "other file":
        (copy / name).symlink_to("/etc/passwd")
    refusal(copy)


def test_edges_that_end_outside_of_the_nodes_are_refused(copy: Path) -> None:
    without_digests(copy)
    shutil.copy(copy / "runs.arrow", copy / "answers.arrow")
    refusal(copy)


def full_disk(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("step", ["_write_table", "_write_matrix", "_write_arrays"])
def test_a_full_disk_leaves_nothing_behind(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    snapshot = load_snapshot(saved)
    monkeypatch.setattr(folder_module, step, full_disk)
    with pytest.raises(StoreFullError, match="no space"):
        save_snapshot(snapshot, tmp_path / "new")
    assert not list(tmp_path.iterdir())


_SAVE_AND_DIE = """
import os, signal, sys
from pathlib import Path
from memstore.snapshots import files, folder
step, count, source, target = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])
snapshot = files.load_snapshot(source)
call, left = getattr(folder, step), [count]
def dying(*arguments):
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return call(*arguments)
setattr(folder, step, dying)
files.save_snapshot(snapshot, target)
"""


@pytest.mark.parametrize(
    ("step", "count"), [("_write_table", 1), ("_write_table", 7), ("_write_matrix", 2), ("_write_arrays", 1)]
)
def test_a_kill_leaves_no_half_snapshot_and_the_next_one_clears_up(
    saved: Path, tmp_path: Path, step: str, count: int
) -> None:
    target = tmp_path / "new"
    command = [sys.executable, "-c", _SAVE_AND_DIE, step, str(count), str(saved), str(target)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert not target.exists()
    save_snapshot(load_snapshot(saved), target)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    assert contents(load_snapshot(target)) == contents(load_snapshot(saved))


def contents(snapshot: Snapshot) -> list[object]:
    tables: list[Callable[[], object]] = [snapshot.queries.to_pylist, snapshot.thinkings.to_pylist]
    return [snapshot.manifest, *(read() for read in tables), snapshot.thinking_x.tobytes()]
