"""Folders of training runs: each rollout is read once, in the layouts that prime-rl writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from memstore.records.readers import expand_paths, skipped_files
from tests.memstore.records.shapes.reading import records, seen

SEEK_TABLE = b"\x5e\x2a\x4d\x18"
"""Magic number of the skippable frame that ends a zstd file in seekable frames."""


def episode(number: int) -> bytes:
    nodes: list[dict[str, Any]] = [
        {"message": {"role": "user", "content": f"{number} + 1?"}, "sampled": False},
        {"parent": 0, "message": {"role": "assistant", "content": f"#### {number + 1}"}, "sampled": True},
    ]
    rewards = {"correct": {"score": 1.0, "weight": 1.0}}
    trace = {"id": f"t{number}", "nodes": nodes, "rewards": rewards, "info": {"kind": "train"}}
    task = {"task": {"key": str(number), "data": {}}, "env": {"name": "sums", "id": "sums"}}
    return (json.dumps({"id": f"e{number}", "traces": [trace], "ok": True, **task}) + "\n").encode()


def sealed(*frames: bytes) -> bytes:
    """A chunk in seekable frames, with its table at the end."""
    sizes = [(pa.compress(frame, codec="zstd", asbytes=True), len(frame)) for frame in frames]
    table = b"".join(len(data).to_bytes(4, "little") + size.to_bytes(4, "little") for data, size in sizes)
    table += len(sizes).to_bytes(4, "little") + b"\0" + b"\xb1\xea\x92\x8f"
    return b"".join(data for data, _ in sizes) + SEEK_TABLE + len(table).to_bytes(4, "little") + table


def write(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run in chunks: one sealed, one that is sealed but not yet removed, and the live one."""
    traces = "monitors/file/traces"
    write(tmp_path, f"{traces}/stream/00000.jsonl.zst", sealed(episode(0) + episode(1), episode(2)))
    write(tmp_path, f"{traces}/stream/00001.jsonl.zst", sealed(episode(3)))
    write(tmp_path, f"{traces}/stream/00001.jsonl", episode(3))
    write(tmp_path, f"{traces}/stream/00002.jsonl.zst.tmp", b"\x28\xb5\x2f\xfd")
    write(tmp_path, f"{traces}/stream/00002.jsonl", episode(4) + episode(5)[:-20])
    write(tmp_path, f"{traces}/stream.index.jsonl", b'{"line": 1, "chunk": 0, "offset": 0}\n')
    update = b'{"version": 1, "trace_id": "t0", "info": {"advantage": 0.5}, "branches": []}\n'
    write(tmp_path, f"{traces}/annotations/orchestrator/00000.jsonl", update)
    write(tmp_path, f"{traces}/annotations/orchestrator.index.jsonl", b'{"trace_id": "t0"}\n')
    write(tmp_path, f"{traces}/live/t9.jsonl", b'{"open": {}, "dispatch": {}}\n')
    write(tmp_path, f"{traces}/live/pending/p.json", b"{}")
    write(tmp_path, "monitors/file/metrics.jsonl", b'{"step": 1}\n')
    return tmp_path


def test_the_chunks_of_a_run_are_read_once_each(run: Path) -> None:
    files = [Path(file) for file in expand_paths([run])]
    assert [file.name for file in files] == ["00000.jsonl.zst", "00001.jsonl.zst", "00002.jsonl"]
    found = [item for file in files[:2] for item in records(file)]
    assert seen(found) == [(f"{number} + 1?", "", str(number + 1), None, 1.0) for number in range(4)]
    assert {(item.key, item.dataset) for item in found} == {(str(number), "sums") for number in range(4)}
    assert len(skipped_files([run])) == 8
    assert [Path(file).name for file in expand_paths([run / "monitors/file/traces/live"])] == ["p.json", "t9.jsonl"]


def test_a_stream_before_chunks(tmp_path: Path) -> None:
    stream = write(tmp_path, "traces/stream.jsonl", episode(0))
    write(tmp_path, "traces/stream.index.jsonl", b"{}\n")
    write(tmp_path, "traces/annotations/trainer.jsonl", b"{}\n")
    assert expand_paths([tmp_path]) == [stream]


def test_the_effective_episodes_of_a_step_are_among_all(tmp_path: Path) -> None:
    every = write(tmp_path, "rollouts/step_1/train/all/traces.jsonl", episode(0) + episode(1))
    write(tmp_path, "rollouts/step_1/train/effective/traces.jsonl", episode(1))
    alone = write(tmp_path, "rollouts/step_2/eval/effective/traces.jsonl", episode(2))
    assert expand_paths([tmp_path]) == [every, alone]


def test_files_of_others_with_such_names_are_read(tmp_path: Path) -> None:
    names = ["00001.jsonl", "a.index.jsonl", "annotations/a.jsonl", "live/b.jsonl", "effective/c.jsonl"]
    files = {write(tmp_path, name, episode(0)) for name in names}
    assert set(expand_paths([tmp_path])) == files
