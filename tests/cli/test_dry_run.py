"""`memstore ingest --dry-run`, `--map` and `--requests`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

OPENR1 = {"problem": "How many?", "answer": "12", "generations": ["4 * 3\n#### 12", "#### 7"], "tokens": [1]}
OTHER = {"doc": {"q": "How many?"}, "texts": ["#### 12"]}


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(autouse=True)
def no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MEMSTORE_MEMORY", raising=False)
    monkeypatch.chdir(tmp_path)


def test_a_dry_run_shows_what_would_be_read_and_writes_nothing(tmp_path: Path, command: Callable[..., Any]) -> None:
    path = write(tmp_path / "a.jsonl", OPENR1, {"text": "no"})
    done = command("ingest", path, "--dry-run", "--memory", tmp_path / "m")
    assert done.code == 0
    assert "several generations a row (1 row)\n  2 rollouts, 0 with a reward\n  rollout 1\n" in done.out
    assert (
        "    query         How many?\n    thinking      4 * 3\n    answer        12\n    gold          12\n" in done.out
    )
    assert "left over, not read: tokens" in done.out
    assert "1 row would be rejected:\n    2: the row has the keys text" in done.out
    assert done.out.endswith("nothing was written (--dry-run)\n")
    assert sorted(tmp_path.iterdir()) == [path]


def test_a_dry_run_as_json_needs_no_memory(tmp_path: Path, command: Callable[..., Any]) -> None:
    done = command("ingest", write(tmp_path / "a.jsonl", OPENR1), "--dry-run", "--json")
    (found,) = done.document
    assert (found["shapes"], found["rollouts"], found["left_over"]) == (
        {"several generations a row": 1},
        2,
        {"tokens": 1},
    )
    assert found["records"][0]["answer"] == "12"


def test_a_dry_run_of_nothing_readable_fails(tmp_path: Path, command: Callable[..., Any]) -> None:
    assert command("ingest", write(tmp_path / "a.jsonl", {"text": "no"}), "--dry-run").code == 1
    assert command("ingest", tmp_path / "missing.jsonl", "--dry-run").code == 1


def test_without_a_dry_run_a_memory_is_needed(tmp_path: Path, command: Callable[..., Any]) -> None:
    done = command("ingest", write(tmp_path / "a.jsonl", OPENR1))
    assert done.code == 2
    assert "no memory given" in done.err


def test_an_ingest_of_several_generations_and_of_chosen_values(tmp_path: Path, command: Callable[..., Any]) -> None:
    done = command("ingest", write(tmp_path / "a.jsonl", OPENR1), "--memory", "m", "--json")
    assert done.document["rollouts"]["added"] == 2
    other = write(tmp_path / "b.jsonl", OTHER)
    paths = "query=doc.q,response=texts.0"
    done = command("ingest", other, "--map", paths, "--policy", "p", "--memory", "m", "--json")
    assert (done.document["rollouts"]["added"], done.document["queries"]["added"]) == (1, 0)


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ("query=doc.q", "needs query=PATH and response=PATH"),
        ("query=doc.q,response=texts.7", "no row of b.jsonl has 'texts.7', which --map names for response"),
    ],
)
def test_wrong_paths_are_one_sentence_and_leave_nothing(
    tmp_path: Path, command: Callable[..., Any], paths: str, message: str
) -> None:
    done = command("ingest", write(tmp_path / "b.jsonl", OTHER), "--map", paths, "--memory", "m")
    assert done.code == 1
    assert message in done.err
    assert done.err.count("\n") <= 2
    assert not (tmp_path / "m").exists()


def test_a_batch_with_its_requests(tmp_path: Path, command: Callable[..., Any]) -> None:
    body = {"messages": [{"role": "user", "content": "How many?"}]}
    requests = write(tmp_path / "in.jsonl", {"custom_id": "a", "method": "POST", "url": "/v1", "body": body})
    answer = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "#### 12"}}]}
    output = write(tmp_path / "out.jsonl", {"custom_id": "a", "response": {"status_code": 200, "body": answer}})
    assert "--requests FILE" in command("ingest", output, "--dry-run").out
    done = command("ingest", output, "--requests", requests, "--dry-run", "--json")
    assert done.document[0]["records"][0]["query"] == "How many?"
