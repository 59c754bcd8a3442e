"""The verbs that read or write a memory: JSON keys, exit codes and messages."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

QUERIES, ROLLOUTS, UNLABELLED = 40, 4, 8


@pytest.fixture
def copy(memory: Path, tmp_path: Path) -> Path:
    """A writable copy of the built memory."""
    return Path(shutil.copytree(memory, tmp_path / "copy"))


def test_ingest_prints_the_documented_keys(built: tuple[Path, Any]) -> None:
    document = built[1].document
    assert document["rows"] == QUERIES * ROLLOUTS
    assert document["rollouts"] == {"added": QUERIES * ROLLOUTS, "unchanged": 0, "changed": 0}
    assert document["queries"] == {"added": QUERIES}
    assert (document["rejected"], document["rejects_file"]) == (0, None)
    assert set(document["links"]) == {"query", "thinking"}
    assert document["links"]["query"] == QUERIES * 5
    assert set(document["seconds"]) == {"read", "embed", "graph", "vectors", "link", "total"}


def test_json_mode_prints_nothing_on_stderr(built: tuple[Path, Any]) -> None:
    assert built[1].err == ""


def test_a_second_ingest_adds_nothing(copy: Path, memory: Path, command: Callable[..., Any]) -> None:
    done = command("ingest", memory.parent / "sums.jsonl", "--memory", copy)
    assert done.code == 0
    assert f"nothing new: all {QUERIES * ROLLOUTS} rollouts are in the memory already" in done.out


def test_ingest_reports_rejects_and_other_keys(copy: Path, tmp_path: Path, command: Callable[..., Any]) -> None:
    good = {"query": "What is 1 + 1?", "answer": "2", "temperature": 0.7}
    bad = [{"query": "", "answer": "x"}, {"query": "y", "answer": "x", "reward": 2}]
    file = tmp_path / "mixed.jsonl"
    file.write_text("\n".join(map(json.dumps, [good, *bad])) + "\nno JSON\n")
    done = command("ingest", file, "--memory", copy, "--rejects", tmp_path / "rejects.jsonl", "--dataset", "more")
    assert done.code == 0, done.err
    assert "1 rollout added" in done.out
    assert f"3 rows rejected; rows and reasons are in {tmp_path / 'rejects.jsonl'}" in done.out
    assert "mixed.jsonl:2: " in done.out
    assert "kept as metadata: temperature" in done.out
    assert [json.loads(line)["line"] for line in (tmp_path / "rejects.jsonl").read_text().splitlines()] == [2, 3, 4]


def test_ingest_fails_when_every_row_is_rejected(copy: Path, tmp_path: Path, command: Callable[..., Any]) -> None:
    (tmp_path / "bad.jsonl").write_text('{"query": "no answer"}\n')
    done = command("ingest", tmp_path / "bad.jsonl", "--memory", copy, "--json")
    assert done.code == 1
    assert (done.document["rejected"], done.err) == (1, "")


def test_long_text_must_match_the_memory(copy: Path, memory: Path, command: Callable[..., Any]) -> None:
    done = command("ingest", memory.parent / "sums.jsonl", "--memory", copy, "--long-text", "tail")
    assert done.code == 1
    assert "was built with --long-text mean" in done.err


def test_stats(memory: Path, command: Callable[..., Any]) -> None:
    document = command("stats", "--memory", memory, "--json").document
    documented = {"queries", "thinkings", "answers", "labelled_queries", "labelled_thinkings", "predicted_thinkings"}
    assert documented | {"edges", "datasets", "namespace", "embedder", "schema_version"} <= set(document)
    assert document["labelled_queries"] == QUERIES - UNLABELLED
    assert document["edges"]["GENERATES"] == QUERIES * ROLLOUTS
    assert {"dataset", "queries", "thinkings", "positive"} <= set(document["datasets"][0])
    shown = command("stats", "--memory", memory)
    assert f"{QUERIES * ROLLOUTS} (" in shown.out
    assert "sums" in shown.out


def test_memory_location_from_the_environment(
    memory: Path, command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMSTORE_MEMORY", str(memory))
    assert command("stats", "--json").document["queries"] == QUERIES


def test_link_recreates_links_with_other_settings(copy: Path, command: Callable[..., Any]) -> None:
    unchanged = command("link", "--memory", copy, "--json").document
    assert unchanged["nodes"] == {"query": 0, "thinking": 0}
    fewer = command("link", "--memory", copy, "--k", 2, "--json").document
    assert fewer["nodes"] == {"query": QUERIES, "thinking": QUERIES * ROLLOUTS}
    assert fewer["links"]["query"] == QUERIES * 2
    assert "k=2" in command("link", "--memory", copy).out


def test_verify_finds_and_repairs(copy: Path, command: Callable[..., Any]) -> None:
    assert command("verify", "--memory", copy, "--json").document["ok"] is True
    shutil.rmtree(copy / "vectors")
    broken = command("verify", "--memory", copy, "--json")
    assert broken.code == 1
    assert {"kind", "count", "example", "repair"} <= set(broken.document["problems"][0])
    repaired = command("verify", "--repair", "--memory", copy)
    assert repaired.code == 0, repaired.out + repaired.err
    assert "repaired: missing_vector (" in repaired.out
    assert "ok: " in repaired.out
    assert command("verify", "--memory", copy).code == 0


def test_verify_repairs_a_graph_that_cannot_be_opened(copy: Path, command: Callable[..., Any]) -> None:
    log = copy / "graph" / "graph.lbdb.wal"
    log.write_bytes(b"torn" * 100)
    log.with_name(f"{log.name}.whole").write_text(f"{400:020}")  # the recorded length says that no kill truncated it
    refused = command("verify", "--memory", copy, "--json")
    assert (refused.code, refused.out) == (1, "")
    assert "memstore verify --repair" in refused.err
    repaired = command("verify", "--repair", "--memory", copy, "--json")
    assert repaired.code == 0, repaired.err
    assert [problem["kind"] for problem in repaired.document["repaired"]] == ["corrupt_graph"]
    assert command("stats", "--memory", copy, "--json").document["queries"] == QUERIES


def test_snapshot_is_written_once(memory: Path, tmp_path: Path, command: Callable[..., Any]) -> None:
    done = command("snapshot", tmp_path / "frozen", "--memory", memory, "--json").document
    assert (done["queries"], done["thinkings"]) == (QUERIES, QUERIES * ROLLOUTS)
    assert (tmp_path / "frozen" / "manifest.json").is_file()
    again = command("snapshot", tmp_path / "frozen", "--memory", memory)
    assert (again.code, again.out) == (1, "")
    small = command("snapshot", tmp_path / "small", "--memory", memory, "--no-texts", "--json").document
    assert small["bytes"] < done["bytes"]


def test_restore_recreates_the_memory(memory: Path, tmp_path: Path, command: Callable[..., Any]) -> None:
    assert command("snapshot", tmp_path / "frozen", "--memory", memory).code == 0
    done = command("restore", tmp_path / "frozen", "--memory", tmp_path / "again", "--json")
    assert done.code == 0, done.err
    assert done.document["added"] == QUERIES * ROLLOUTS
    before, after = (command("stats", "--memory", m, "--json").document for m in (memory, tmp_path / "again"))
    assert before == after
    again = command("restore", tmp_path / "frozen", "--memory", tmp_path / "again")
    assert again.code == 0, again.err
    assert "0 rollouts added" in again.out
    shutil.copytree(memory, tmp_path / "second")
    refused = command("restore", tmp_path / "frozen", "--memory", tmp_path / "second")
    assert (refused.code, refused.out) == (1, "")
    assert "--merge" in refused.err
    merged = command("restore", tmp_path / "frozen", "--memory", tmp_path / "again", "--merge")
    assert merged.code == 0, merged.err
    assert "0 rollouts added" in merged.out
    missing = command("restore", tmp_path / "none", "--memory", tmp_path / "third")
    assert (missing.code, missing.out) == (1, "")


def test_label(copy: Path, command: Callable[..., Any]) -> None:
    find = "MATCH (t:Thinking) WHERE t.reward IS NULL RETURN t.id AS id ORDER BY id LIMIT 1"
    rollout = command("cypher", find, "--memory", copy, "--json").document[0]["id"]
    assert command("label", rollout, "1", "--memory", copy, "--json").document["changed"] == 1
    assert "nothing new" in command("label", rollout, "1", "--memory", copy).out
    conflict = command("label", rollout, "0", "--memory", copy)
    assert (conflict.code, conflict.out) == (1, "")
    assert command("label", rollout, "0", "--replace", "--memory", copy).code == 0
    ask = f"MATCH (t:Thinking) WHERE t.id = '{rollout}' RETURN t.reward AS reward, t.reward_source AS source"
    assert command("cypher", ask, "--memory", copy, "--json").document == [{"reward": 0.0, "source": "person"}]


def test_cypher_in_three_formats(memory: Path, command: Callable[..., Any]) -> None:
    ask = "MATCH (q:Query)-[i:IN]->() WHERE i.key >= $key RETURN i.key AS key, q.text AS text ORDER BY key"
    words = ("cypher", ask, "--param", 'key="sum-30"', "--memory", memory)
    rows = command(*words, "--json").document
    assert [row["key"] for row in rows] == [f"sum-{number}" for number in range(30, 40)]
    assert command(*words, "--format", "json").document == rows
    assert list(csv.DictReader(io.StringIO(command(*words, "--format", "csv").out))) == rows
    table = command(*words, "--limit", 3).out
    assert "sum-32" in table
    assert "sum-33" not in table
    assert "first 3 rows" in table


def test_cypher_writes_only_with_the_option(copy: Path, command: Callable[..., Any]) -> None:
    change = "MATCH (q:Query)-[i:IN]->() WHERE i.key = 'sum-00' SET q.domain = 'qa'"
    refused = command("cypher", change, "--memory", copy)
    assert (refused.code, refused.out) == (1, "")
    assert "--write" in refused.err
    assert command("cypher", change, "--write", "--memory", copy).code == 0
    ask = "MATCH (q:Query)-[i:IN]->() WHERE q.domain = 'qa' RETURN i.key AS key"
    assert command("cypher", ask, "--memory", copy, "--json").document == [{"key": "sum-00"}]


def test_cypher_stops_at_the_time_limit(memory: Path, command: Callable[..., Any]) -> None:
    endless = (
        "MATCH (a:Thinking), (b:Thinking), (c:Thinking), (d:Thinking) "
        "WHERE a.sample_index + b.sample_index + c.sample_index + d.sample_index > 99 RETURN count(*) AS n"
    )
    done = command("cypher", endless, "--timeout", 0.2, "--memory", memory, "--json")
    assert (done.code, done.out) == (1, "")
    assert "0.2" in done.err


def test_every_named_query_runs(memory: Path, command: Callable[..., Any]) -> None:
    listed = command("cypher", "--list", "--json").document
    assert len(listed) >= 6
    for entry in listed:
        assert set(entry) == {"name", "question", "parameters", "text"}
        done = command("cypher", "--query", entry["name"], "--memory", memory, "--json")
        assert done.code == 0, done.err
        assert isinstance(done.document, list)
    shown = command("cypher", "--list").out
    assert all(f"{entry['name']}: {entry['question']}" in shown for entry in listed)
