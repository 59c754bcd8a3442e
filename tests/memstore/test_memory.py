"""Opening a small memory and its errors; snapshots, data frames, labels and stats."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memstore.errors import EmbedderError, InputError, LabelConflict, LockedError, SchemaError
from memstore.locations.settings import Settings
from memstore.memory import Memory
from memstore.records.record import RecordDefaults
from memstore.snapshots.files import load_snapshot, save_snapshot
from memstore.snapshots.frames import to_pandas
from memstore.testing.doubles.embedder import HashEmbedder
from memstore.vectors.knn import LinkSettings

ROWS: list[dict[str, Any]] = [
    {
        "query": f"How many legs have {n} cats?",
        "query_id": f"legs/{n}",
        "dataset": "legs" if n < 4 else "more legs",
        "domain": "math",
        "gold": str(4 * n),
        "policy": "tiny" if sample < 2 else "small",
        "run": "first",
        "sample_index": sample,
        "thinking": f"A cat has four legs, so {n} cats have {n} * 4 legs ({sample}).",
        "answer": str(4 * n + sample % 2),
        "reward": (1.0 if sample % 2 == 0 else 0.0) if n % 2 == 0 else None,
    }
    for n in range(6)
    for sample in range(3)
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "legs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


@pytest.fixture
def memory(tmp_path: Path, file: Path) -> Any:
    settings = Settings(link_floor=-1.0)
    with Memory.open(tmp_path / "memory", create=True, embedder=HashEmbedder(), settings=settings) as opened:
        opened.ingest([file])
        yield opened


def test_stats_equal_counts_of_the_rows(memory: Memory) -> None:
    stats = memory.stats().as_json()
    assert (stats["queries"], stats["thinkings"], stats["answers"]) == (6, 18, 12)
    assert (stats["labelled_queries"], stats["labelled_thinkings"], stats["predicted_thinkings"]) == (3, 9, 0)
    assert stats["datasets"] == [
        {"dataset": "legs", "queries": 4, "thinkings": 12, "labelled": 6, "positive": 4},
        {"dataset": "more legs", "queries": 2, "thinkings": 6, "labelled": 3, "positive": 2},
    ]
    assert stats["edges"]["GENERATES"] == 18
    assert stats["edges"]["LEADS_TO"] == 18
    # Six queries have five others each; a thinking may link to the fifteen of other queries, five of them.
    assert stats["edges"]["SIMILAR_TO"] == 6 * 5 + 18 * 5
    assert stats["runs"] == 1


def test_thinkings_are_linked_to_thinkings_of_other_queries_only(memory: Memory) -> None:
    snapshot = memory.snapshot()
    query = np.empty(len(snapshot.thinkings), dtype=np.int64)
    query[snapshot.edges["generates"].target] = snapshot.edges["generates"].source
    similar = snapshot.edges["thinking_similar"]
    assert len(similar) > 0
    assert (query[similar.source] != query[similar.target]).all()


def test_a_reopened_memory_is_unchanged(memory: Memory, tmp_path: Path) -> None:
    before = memory.snapshot()
    memory.close()
    with Memory.open(tmp_path / "memory", embedder=HashEmbedder()) as again:
        assert again.snapshot().manifest.id == before.manifest.id
        assert again.ingest([tmp_path / "legs.jsonl"]).unchanged == len(ROWS)


def test_another_embedder_is_refused(memory: Memory, tmp_path: Path) -> None:
    memory.close()
    with pytest.raises(EmbedderError, match="was built with"):
        Memory.open(tmp_path / "memory", embedder=HashEmbedder(dimension=16))


def test_a_newer_schema_is_refused(memory: Memory, tmp_path: Path) -> None:
    memory.close()
    marker = tmp_path / "memory" / "memstore.json"
    marker.write_text(json.dumps({"memstore": 99, "namespace": "default"}))
    with pytest.raises(SchemaError, match="newer"):
        Memory.open(tmp_path / "memory")


def test_a_second_process_gets_the_pid_of_the_owner(memory: Memory, tmp_path: Path) -> None:
    program = f"from memstore.memory import Memory; Memory.open({str(tmp_path / 'memory')!r})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=280)
    assert "LockedError" in done.stderr
    assert str(os.getpid()) in done.stderr
    with pytest.raises(LockedError):
        Memory.open(tmp_path / "memory", embedder=HashEmbedder())


def test_other_link_settings_relink_all(memory: Memory) -> None:
    summary = memory.link(LinkSettings(k=2, floor=-1.0))
    assert summary.nodes == {"query": 6, "thinking": 18}
    assert summary.edges == {"query": 12, "thinking": 36}
    assert memory.link_settings == LinkSettings(k=2, floor=-1.0)
    assert memory.link().nodes == {"query": 0, "thinking": 0}


def test_labels_set_by_a_person(memory: Memory) -> None:
    unlabelled = memory.snapshot().thinkings
    rollout = unlabelled["id"].to_pylist()[unlabelled["reward"].to_pylist().index(None)]
    assert memory.label({rollout: 1.0}) == 1
    assert memory.label({rollout: 1.0}) == 0
    with pytest.raises(LabelConflict):
        memory.label({rollout: 0.0})
    assert memory.label({rollout: 0.0}, replace=True) == 1
    with pytest.raises(InputError):
        memory.label({"t-nobody": 1.0})
    with pytest.raises(InputError, match="between 0 and 1"):
        memory.label({rollout: 3.0})


def test_a_saved_snapshot_is_loaded_unchanged(memory: Memory, tmp_path: Path) -> None:
    snapshot = memory.snapshot()
    save_snapshot(snapshot, tmp_path / "snap")
    loaded = load_snapshot(tmp_path / "snap")
    assert loaded.manifest == snapshot.manifest
    for name in ("queries", "thinkings", "answers", "runs"):
        assert getattr(loaded, name).equals(getattr(snapshot, name))
    for name, edge in snapshot.edges.items():
        assert (loaded.edges[name].source == edge.source).all()
        assert (loaded.edges[name].target == edge.target).all()
        assert loaded.edges[name].properties.equals(edge.properties)
    assert (loaded.thinking_x == snapshot.thinking_x).all()
    with pytest.raises(InputError, match="exists"):
        save_snapshot(snapshot, tmp_path / "snap")
    (tmp_path / "snap" / "arrays.safetensors").write_bytes(b"torn")
    with pytest.raises(InputError, match="damaged"):
        load_snapshot(tmp_path / "snap")
    with pytest.raises(InputError, match="is not a snapshot"):
        load_snapshot(tmp_path / "nowhere")


def test_a_snapshot_without_texts_has_no_text_columns(memory: Memory) -> None:
    snapshot = memory.snapshot(texts=False)
    assert "text" not in snapshot.queries.column_names
    assert "gold" not in snapshot.queries.column_names
    assert "text" not in snapshot.edges["leads_to"].properties.column_names
    assert snapshot.manifest.id == memory.snapshot().manifest.id


def test_read_rollouts_gives_the_nodes_that_an_ingest_would_add(memory: Memory, tmp_path: Path) -> None:
    extra = [row | {"query": row["query"] + " And dogs?", "query_id": None} for row in ROWS[:6]]
    path = tmp_path / "new.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in extra))
    before = memory.snapshot().manifest.id
    read = memory.read_rollouts([path], RecordDefaults())
    assert memory.snapshot().manifest.id == before
    memory.ingest([path])
    stored = memory.snapshot()
    rows = [stored.thinkings["id"].to_pylist().index(node) for node in read.thinkings["id"].to_pylist()]
    assert (stored.thinking_x[rows] == read.thinking_x).all()
    assert set(read.answers["id"].to_pylist()) < set(stored.answers["id"].to_pylist())
    assert len(read.edges["leads_to"]) == 6


@pytest.mark.parametrize("stored", [True, False], ids=["the memory", "an earlier row"])
def test_a_file_that_contradicts_the_domain_of_a_query_is_refused(memory: Memory, tmp_path: Path, stored: bool) -> None:
    mine = ROWS[0] if stored else ROWS[0] | {"query": "And dogs?"}
    path = tmp_path / "new.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in (mine, mine | {"domain": "qa", "sample_index": 7})))
    with pytest.raises(InputError, match=r"^new\.jsonl:2: its domain 'qa' contradicts the domain 'math' of its query"):
        memory.read_rollouts([path])


def test_frames_join_rollouts_with_queries_and_answers(memory: Memory) -> None:
    frames = to_pandas(memory.snapshot())
    thinking = frames.nodes["Thinking"][["query_id", "answer_id", "reward"]]
    thinking = thinking.join(frames.nodes["Query"]["gold"], on="query_id")
    thinking = thinking.join(frames.nodes["Answer"]["value"], on="answer_id")
    right = thinking["value"] == thinking["gold"]
    assert (right[thinking["reward"].notna()] == (thinking["reward"].dropna() > 0.5)).all()
    assert set(frames.edges["query_similar"].columns) == {"source", "target", "score"}
