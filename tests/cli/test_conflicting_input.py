"""Input that conflicts with what a memory knows: one sentence says so, and nothing is lost."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from memstore.graph.ladybug import LadybugGraph
from memstore.snapshots.files import load_snapshot
from memstore_cli.main import run

QUESTION = "Anna has 10 apples and buys 3 more. How many apples has she?"
"""The query of the key sum-00, whose answer is 13."""
ROW = {"query": QUESTION, "domain": "math", "dataset": "sums", "answer": "13", "thinking": "I think 13."}


@pytest.fixture(scope="module")
def trained(memory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the memory of sums with a model."""
    folder = Path(shutil.copytree(memory, tmp_path_factory.mktemp("trained") / "memory"))
    assert run(["train", "--epochs", "1", "--memory", str(folder)]) == 0
    return folder


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "memory"))


def write(path: Path, *rows: Mapping[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def warnings(done: Any) -> list[str]:
    """The warnings on stderr but those about drift, without progress."""
    lines = [line for line in done.err.splitlines() if line.startswith("warning: ")]
    return [line for line in lines if "differ from the" not in line]


def count(command: Callable[..., Any], folder: Path) -> int:
    return int(command("stats", "--memory", folder, "--json").document["thinkings"])


def test_an_answer_that_is_right_in_one_dataset_and_wrong_in_another(
    copy: Path, tmp_path: Path, command: Callable[..., Any]
) -> None:
    before = count(command, copy)
    wrong = write(tmp_path / "wrong.jsonl", {**ROW, "dataset": "words", "policy": "other", "reward": 0.0})
    done = command("ingest", wrong, "--memory", copy, "--json")
    assert (done.code, done.document["rollouts"]["added"], done.document["rejected"]) == (0, 1, 0)
    for verb in ("score", "train"):
        [warning] = warnings(command(verb, "--memory", copy, *(("--epochs", "1") if verb == "train" else ())))
        assert "1 answer has labels that contradict each other" in warning
        assert "(4 right in sums, 1 wrong in words)" in warning
    assert count(command, copy) == before + 1
    asked = ("cypher", "MATCH (t:Thinking) WHERE t.dataset = 'words' RETURN t.id AS id", "--memory", copy, "--json")
    [row] = command(*asked).document
    assert command("label", row["id"], "1", "--replace", "--memory", copy).code == 0
    assert warnings(command("score", "--memory", copy)) == []


def test_a_contradicting_label_of_one_rollout_is_rejected(
    copy: Path, tmp_path: Path, memory: Path, command: Callable[..., Any]
) -> None:
    row = json.loads((memory.parent / "sums.jsonl").read_text().splitlines()[0])
    done = command("ingest", write(tmp_path / "again.jsonl", {**row, "reward": 1 - row["reward"]}), "--memory", copy)
    assert "its reward 0 contradicts 1, which the memory holds for the same rollout" in done.out
    assert "overwrite the stored reward with --replace" in done.out


CLAIMED = {"run": "second", "answer": "999", "thinking": "It must be 999."}


def claims(memory: Path, **changes: Any) -> list[dict[str, Any]]:
    """Wrong rollouts of all sums under the name of their policy."""
    rows = [json.loads(line) for line in (memory.parent / "sums.jsonl").read_text().splitlines()]
    return [{**row, **CLAIMED, "reward": None, **changes} for row in rows if row["sample_index"] < 2]


def test_a_policy_that_claims_the_name_of_another(
    copy: Path, tmp_path: Path, memory: Path, command: Callable[..., Any]
) -> None:
    before, file = count(command, copy), write(tmp_path / "claims.jsonl", *claims(memory))
    scored = command("score", file, "--memory", copy, "--output", tmp_path / "scores.jsonl")
    [warning] = [line for line in warnings(scored) if "alone in their group" not in line]
    assert "warning: of the rollouts of policy small in the file, on " in warning
    assert ", on 40 queries of sums, 0% are right, and 7" in warning
    assert warning.endswith("; if another policy wrote them, give them that policy's name")
    assert command("ingest", file, "--memory", copy).code == 0
    [warning] = warnings(command("score", "--memory", copy))
    assert "warning: of the rollouts of policy small in run second, on " in warning
    assert count(command, copy) == before + 80


def test_a_claim_under_the_same_run_is_told_by_its_time(
    copy: Path, tmp_path: Path, memory: Path, command: Callable[..., Any]
) -> None:
    file = write(tmp_path / "claims.jsonl", *claims(memory, run="first"))
    assert command("ingest", file, "--memory", copy, "--json").document["rollouts"]["added"] == 80
    [warning] = command("score", "--memory", copy, "--json").document["warnings"]
    assert "the rollouts of policy small stored at 20" in warning


def test_a_policy_of_its_own_name_needs_no_warning(
    copy: Path, tmp_path: Path, memory: Path, command: Callable[..., Any]
) -> None:
    file = write(tmp_path / "own.jsonl", *claims(memory, policy="bad"))
    assert command("ingest", file, "--memory", copy).code == 0
    assert warnings(command("score", "--memory", copy)) == []
    worst = command("cypher", "--query", "reliability", "--memory", copy, "--json").document[-1]
    assert (worst["policy"], worst["dataset"], worst["votes"]) == ("bad", "sums", 40)


def test_a_question_in_a_chat_template_is_the_same_query(
    copy: Path, tmp_path: Path, command: Callable[..., Any]
) -> None:
    chat = f"<|im_start|>user\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n"
    row = {**ROW, "query": chat, "query_id": "sum-00", "policy": "new"}
    done = command("ingest", write(tmp_path / "chat.jsonl", row), "--memory", copy, "--json")
    assert (done.document["queries"]["added"], done.document["shared_keys"]) == (0, None)
    scored = command("score", tmp_path / "chat.jsonl", "--memory", copy, "--json").document
    assert scored["remembered"] == 1


def test_a_question_in_a_template_of_prose_is_another_query_with_a_warning(
    copy: Path, tmp_path: Path, command: Callable[..., Any]
) -> None:
    row = {**ROW, "query": f"Question: {QUESTION}\nThink step by step.", "query_id": "sum-00", "policy": "new"}
    done = command("ingest", write(tmp_path / "prose.jsonl", row), "--memory", copy)
    [warning] = warnings(done)
    assert "the key sum-00 of dataset sums names 2 different texts; each text is a query of its own" in warning
    assert "1 rollout added" in done.out
    assert "1 query added" in done.out


def test_a_memory_or_snapshot_of_a_newer_schema_is_refused(
    copy: Path, tmp_path: Path, command: Callable[..., Any]
) -> None:
    assert command("snapshot", tmp_path / "snapshot", "--memory", copy).code == 0
    with LadybugGraph.open(copy / "graph", create=False) as graph:
        graph.cypher("CREATE (:Migration {name: '0003_later', number: 3})", write=True)
    for words in (("stats",), ("score",), ("ingest", write(tmp_path / "row.jsonl", ROW)), ("migrate",)):
        done = command(*words, "--memory", copy)
        assert (done.code, done.out) == (1, "")
        assert "has schema 3, newer than this memstore supports (2); install a newer one: pip install" in done.err
        assert len(done.err.strip().splitlines()) == 1
    manifest = tmp_path / "snapshot" / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "schema_version": 3}))
    done = command("restore", tmp_path / "snapshot", "--memory", tmp_path / "restored")
    assert (done.code, done.out) == (1, "")
    assert "has a newer schema; install a newer memstore" in done.err
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "schema_version": 2}))
    assert load_snapshot(tmp_path / "snapshot").thinkings.num_rows
