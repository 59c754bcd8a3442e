"""Ingest with embedded stores: accepted and rejected rows, and independence of the partition and order of files."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from memstore.errors import InputError, LocationError
from memstore.memory import Memory
from memstore.pipeline.ingest import IngestOptions, IngestSummary
from memstore.records.record import RecordDefaults
from memstore.testing.conformance.digest import memory_digest
from memstore.testing.doubles.embedder import HashEmbedder


def row(query: str = "What is 2 + 3?", sample: int | None = 0, **other: Any) -> dict[str, Any]:
    values = {
        "query": query,
        "dataset": "sums",
        "domain": "math",
        "policy": "small",
        "run": "one",
        "thinking": f"I add the numbers, attempt {sample}.",
        "answer": "5",
        "reward": 1.0,
    }
    if sample is not None:
        values["sample_index"] = sample
    return values | other


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


@pytest.fixture
def memory(tmp_path: Path) -> Any:
    with Memory.open(tmp_path / "memory", create=True, embedder=HashEmbedder()) as opened:
        yield opened


def rejected(summary: IngestSummary) -> list[dict[str, Any]]:
    assert summary.rejects_file is not None
    return [json.loads(line) for line in Path(summary.rejects_file).read_text().splitlines()]


def test_rollouts_share_query_and_answer(memory: Memory, tmp_path: Path) -> None:
    rows = [row(sample=0), row(sample=1, answer="$5.00"), row(sample=2, answer="6", reward=0.0)]
    summary = memory.ingest([write(tmp_path / "a.jsonl", rows)])
    assert (summary.rows, summary.added, summary.queries_added, summary.rejected) == (3, 3, 1, 0)
    snapshot = memory.snapshot()
    assert sorted(snapshot.answers["value"].to_pylist()) == ["5", "6"]
    assert sorted(snapshot.edges["leads_to"].properties["text"].to_pylist()) == ["$5.00", "5", "6"]


def test_second_ingest_changes_nothing(memory: Memory, tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", [row(sample=n) for n in range(5)])
    memory.ingest([file])
    before = memory_digest(memory)
    summary = memory.ingest([file])
    assert (summary.added, summary.unchanged, summary.changed, summary.queries_added) == (0, 5, 0, 0)
    assert memory_digest(memory) == before
    renamed = write(tmp_path / "b.jsonl", [row(sample=n) for n in range(5)])
    assert memory.ingest([renamed]).added == 0


def test_identical_texts_without_index_are_two_rollouts(memory: Memory, tmp_path: Path) -> None:
    rows = [row(sample=None), row(sample=None)]
    assert memory.ingest([write(tmp_path / "a.jsonl", rows)]).added == 2
    assert sorted(memory.snapshot().thinkings["sample_index"].to_pylist()) == [0, 1]
    assert memory.ingest([tmp_path / "a.jsonl"]).unchanged == 2


def test_duplicate_rows_with_index_are_one(memory: Memory, tmp_path: Path) -> None:
    summary = memory.ingest([write(tmp_path / "a.jsonl", [row(), row()])])
    assert (summary.added, summary.unchanged) == (1, 1)


def test_run_defaults_to_the_files_name(memory: Memory, tmp_path: Path) -> None:
    values = row()
    del values["run"]
    memory.ingest([write(tmp_path / "monday.jsonl", [values])])
    assert memory.snapshot().thinkings["run"].to_pylist() == ["monday"]
    assert memory.snapshot().runs["name"].to_pylist() == ["monday"]


def test_a_later_label_is_added_and_a_contradicting_one_is_rejected(memory: Memory, tmp_path: Path) -> None:
    memory.ingest([write(tmp_path / "a.jsonl", [row(reward=None), row(sample=1)])])
    summary = memory.ingest([write(tmp_path / "b.jsonl", [row(reward=0.0)])])
    assert (summary.changed, summary.added) == (1, 0)
    again = memory.ingest([write(tmp_path / "c.jsonl", [row(reward=1.0), row(sample=2)])])
    assert (again.added, again.rejected) == (1, 1)
    reason = rejected(again)[0]["reason"]
    assert "reward 1 contradicts 0" in reason
    assert "--replace" in reason
    replaced = memory.ingest([tmp_path / "c.jsonl"], IngestOptions(replace=True))
    assert (replaced.changed, replaced.rejected) == (1, 0)
    assert memory.snapshot().thinkings["reward"].to_pylist() == [1.0, 1.0, 1.0]


def test_a_later_gold_is_added_and_a_contradicting_one_is_rejected(memory: Memory, tmp_path: Path) -> None:
    memory.ingest([write(tmp_path / "a.jsonl", [row()])])
    memory.ingest([write(tmp_path / "b.jsonl", [row(gold="5")])])
    assert memory.snapshot().queries["gold"].to_pylist() == ["5"]
    summary = memory.ingest([write(tmp_path / "c.jsonl", [row(sample=9, gold="6")])])
    assert summary.rejected == 1
    assert "gold" in rejected(summary)[0]["reason"]


def test_a_row_with_another_domain_than_its_query_is_rejected(memory: Memory, tmp_path: Path) -> None:
    """For queries of the memory and of the same file. A row without a domain gets that of its query."""
    memory.ingest([write(tmp_path / "a.jsonl", [row()])])
    silent = row(sample=1)
    del silent["domain"]
    rows = [row(sample=2, domain="qa"), silent, row("What is 1 + 1?"), row("What is 1 + 1?", 1, domain="other")]
    summary = memory.ingest([write(tmp_path / "b.jsonl", rows)])
    assert (summary.added, summary.rejected) == (2, 2)
    lines = rejected(summary)
    assert [line["line"] for line in lines] == [1, 4]
    assert lines[0]["reason"] == (
        "its domain 'qa' contradicts the domain 'math' of its query; use 'math' here, or ingest it into "
        "another namespace"
    )
    assert "'other' contradicts the domain 'math'" in lines[1]["reason"]
    assert memory.snapshot().queries["domain"].to_pylist() == ["math", "math"]


def test_invalid_rows_are_rejected_and_the_rest_is_ingested(memory: Memory, tmp_path: Path) -> None:
    lines = [
        json.dumps(row()),
        "no JSON",
        "[1, 2]",
        json.dumps(row(query="")),
        json.dumps(row(reward=1.5)),
        json.dumps(row(query="a\ud800b")),
        json.dumps(row(sample=1, answer="x" * 5_000_000)),
        json.dumps(row(sample=2)).replace('"5"', "1" * 80),
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(lines) + "\n")
    summary = memory.ingest([tmp_path / "a.jsonl"])
    assert summary.rows == 8
    assert summary.added == 3
    assert [entry["line"] for entry in rejected(summary)] == [2, 3, 4, 5, 6]
    assert all(entry["reason"] for entry in rejected(summary))
    written = memory.snapshot().edges["leads_to"].properties["text"].to_pylist()
    assert "1" * 80 in written
    assert "x" * 5_000_000 in written


def test_a_truncated_gzip_is_ingested_up_to_the_cut(memory: Memory, tmp_path: Path) -> None:
    text = "".join(json.dumps(row(f"What is {n} + {n * 7919 % 1013}?")) + "\n" for n in range(2000))
    whole = gzip.compress(text.encode())
    (tmp_path / "a.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    summary = memory.ingest([tmp_path / "a.jsonl.gz"])
    assert 0 < summary.added < 2000
    assert summary.rejected == 1
    (tmp_path / "a.jsonl.gz").write_bytes(whole)
    assert memory.ingest([tmp_path / "a.jsonl.gz"]).added == 2000 - summary.added


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [("empty.jsonl", b"", "empty"), ("missing.jsonl", None, "missing.jsonl")],
)
def test_the_error_for_an_unreadable_source_is_one_sentence(
    memory: Memory, tmp_path: Path, name: str, content: bytes | None, says: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=says):
        memory.ingest([tmp_path / name])


def test_parquet_verl_dumps_and_trl_completions_are_ingested(memory: Memory, tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([row(), row(sample=1)]), tmp_path / "own.parquet")
    dump = [
        {
            "input": "user\nWhat is 4 + 4?\nassistant\n",
            "output": "4 + 4 = 8\n#### 8",
            "gts": "8",
            "score": 1.0,
            "step": 3,
        }
    ]
    write(tmp_path / "3.jsonl", dump)
    trl = {"prompt": ["What is 1 + 1?"], "completion": ["The answer is 2"], "accuracy_reward": [1.0], "step": [7]}
    pq.write_table(pa.table(trl), tmp_path / "completions_00007.parquet")
    files = [tmp_path / "own.parquet", tmp_path / "3.jsonl", tmp_path / "completions_00007.parquet"]
    summary = memory.ingest(files, IngestOptions(defaults=RecordDefaults(domain="math", policy="p", run="r")))
    assert (summary.added, summary.rejected) == (4, 0)
    snapshot = memory.snapshot()
    assert {"What is 4 + 4?", "What is 1 + 1?"} < set(snapshot.queries["text"].to_pylist())
    assert sorted(s for s in snapshot.thinkings["step"].to_pylist() if s) == [3, 7]
    assert sorted(snapshot.answers["value"].to_pylist()) == ["2", "5", "8"]


def test_unknown_keys_are_stored_in_the_metadata_and_listed(memory: Memory, tmp_path: Path) -> None:
    summary = memory.ingest([write(tmp_path / "a.jsonl", [row(temperature=0.7, metadata={"gpu": 3})])])
    assert summary.other_keys == {"temperature"}
    assert json.loads(memory.snapshot().thinkings["metadata"][0].as_py()) == {"gpu": 3, "temperature": 0.7}


def test_an_ingest_killed_between_graph_and_vectors_is_finished_by_the_next(
    memory: Memory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path / "a.jsonl", [row(f"What is {n} + 1?") for n in range(20)])
    with monkeypatch.context() as patch:
        patch.setattr(type(memory.vectors), "upsert", _die)
        with pytest.raises(_DiedError):
            memory.ingest([file])
    report = memory.verify()
    assert {problem.kind for problem in report.problems} == {"open_batch", "missing_vector"}
    assert {problem.kind for problem in report.pending} == {"not_linked"}
    other = write(tmp_path / "b.jsonl", [row("What is 100 + 1?")])
    assert memory.ingest([other]).finished_batches == 1
    assert memory.verify().ok


class _DiedError(Exception):
    pass


def _die(*_: object, **__: object) -> None:
    raise _DiedError


def test_verify_finds_and_repairs_problems(memory: Memory, tmp_path: Path) -> None:
    memory.ingest([write(tmp_path / "a.jsonl", [row(f"What is {n} + 1?") for n in range(20)])])
    before = memory_digest(memory)
    some = memory.snapshot().thinkings["id"].to_pylist()[:3]
    memory.vectors.delete(some)
    stray = memory.vectors.fetch(memory.snapshot().queries["id"].to_pylist()[:1]).vectors
    memory.vectors.upsert("thinking", ["t-stray"], stray)
    memory.cypher("MATCH (q:Query) SET q.linked = NULL", write=True)
    memory.cypher("MATCH (t:Thinking) SET t.linked = 'other settings'", write=True)
    report = memory.verify()
    found = {problem.kind: problem.count for problem in (*report.problems, *report.pending)}
    assert found == {"missing_vector": 3, "orphan_vector": 1, "unlinked_node": 20, "not_linked": 20}
    assert [problem.kind for problem in report.pending] == ["not_linked"]
    report = memory.verify(repair=True)
    assert report.ok
    assert report.pending == []
    assert {problem.kind for problem in report.repaired} == set(found)
    assert memory_digest(memory) == before


def test_any_partition_and_order_of_files_gives_the_same_graph(tmp_path: Path) -> None:
    rows = [row(f"What is {n % 13} + {n % 5}?", sample=n, answer=str(n % 7)) for n in range(60)]
    cuts = {
        "whole": [rows],
        "halves, second first": [rows[30:], rows[:30]],
        "one by one, from the end": [rows[n : n + 7] for n in range(56, -1, -7)],
        "overlapping": [rows[::2], rows[:40], rows[::-1]],
    }
    digests = {}
    for name, parts in cuts.items():
        with Memory.open(tmp_path / name, create=True, embedder=HashEmbedder()) as memory:
            for number, part in enumerate(parts):
                memory.ingest([write(tmp_path / f"{number}.jsonl", part)])
            digests[name] = memory_digest(memory)
    for name, digest in digests.items():
        assert digest == digests["whole"], name


def test_a_folder_that_is_not_a_memory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "one.txt").write_text("dear")
    with pytest.raises(LocationError, match="holds no memory"):
        Memory.open(tmp_path / "letters", create=True)
    with pytest.raises(LocationError, match="no memory at"):
        Memory.open(tmp_path / "nothing")


def test_files_of_the_same_name_have_separate_rejects_files(memory: Memory, tmp_path: Path) -> None:
    kept = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        file = tmp_path / folder / "same.jsonl"
        file.write_text(f"no rollout of {folder}\n")
        kept.append(Path(memory.ingest([file]).rejects_file or ""))
    assert len(set(kept)) == 2
    assert [json.loads(path.read_text())["row"] for path in kept] == ["no rollout of a", "no rollout of b"]
    assert memory.ingest([tmp_path / "a" / "same.jsonl"]).rejects_file == str(kept[0])
