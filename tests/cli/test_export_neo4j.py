"""`memstore export neo4j` writes the files of a snapshot for a profile; the import itself is tested on servers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from memstore.memory import Memory
from memstore.pipeline import neo4j_files
from memstore.snapshots.files import save_snapshot
from memstore.testing.embedder import HashEmbedder
from memstore.testing.killed import KillServer
from memstore_cli.main import run

PROFILE = """
[profiles.lab]
neo4j_uri = "bolt://127.0.0.1:1"
neo4j_user = "neo4j"
neo4j_password_env = "LAB_PASSWORD"
neo4j_database = "rollouts"
milvus_uri = "http://127.0.0.1:1"
namespace = "arithmetic"
cache_folder = "local"

[profiles.here]
memory = "memory"
"""


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a snapshot, a profile of servers and one of a folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAB_PASSWORD", "secret")
    row = {"query": "What is 1 + 1?", "answer": "2", "thinking": "one\nand " * 1000, "policy": "tiny", "reward": 1.0}
    Path("rows.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    with Memory.open(Path("memory"), create=True, embedder=HashEmbedder()) as memory:
        memory.ingest(["rows.jsonl"])
        save_snapshot(memory.snapshot(), Path("snapshot"))
        save_snapshot(memory.snapshot(texts=False), Path("textless"))
    Path("memstore.toml").write_text(PROFILE, encoding="utf-8")
    return tmp_path


def test_the_files_are_written_once(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["export", "neo4j", "snapshot", "files", "--into", "lab"]
    assert run([*command, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    counts = {"Query": 1, "Thinking": 1, "Answer": 1, "Dataset": 1, "Policy": 1, "Batch": 1}
    assert {label: told["nodes"][label] for label in counts} == counts
    assert told["relationships"]["generates"] == 1
    assert (told["namespace"], told["imported"]) == ("arithmetic", False)
    assert told["command"] == "cd files && neo4j-admin database import full @neo4j-admin.args rollouts"
    names = {path.name: path.stat().st_mtime_ns for path in Path("files").iterdir()}
    assert {"Query.csv", "Thinking.csv", "generates.csv", "neo4j-admin.args", "import.json"} <= names.keys()
    assert '"arithmetic"' in Path("files/Thinking.csv").read_text(encoding="utf-8")
    assert run(command) == 0
    out = capsys.readouterr().out
    assert "then start the server: memstore restore snapshot --memory lab" in out
    assert {path.name: path.stat().st_mtime_ns for path in Path("files").iterdir()} == names


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["snapshot", "memory", "--into", "lab"], "memory exists and is not empty; name a new folder for the files"),
        (["textless", "files", "--into", "lab"], "was taken without texts and cannot be imported"),
        (["memory", "files", "--into", "lab"], "memory is not a snapshot; take one with: memstore snapshot FOLDER"),
        (["snapshot", "files", "--into", "here"], "here is a folder, not a memory on servers; name a profile"),
        (["snapshot", "files", "--into", "lab", "--overwrite"], "--overwrite belongs to --neo4j-admin"),
        (["snapshot", "files", "--into", "lab", "--neo4j-admin", "./none"], "./none cannot be run (No such file"),
    ],
)
def test_what_cannot_be_exported(
    work: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert run(["export", "neo4j", *arguments]) in (1, 2)
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1


def test_the_files_of_another_namespace_are_not_taken(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", "neo4j", "snapshot", "files", "--into", "lab"]) == 0
    Path("memstore.toml").write_text(PROFILE.replace("arithmetic", "algebra"), encoding="utf-8")
    assert run(["export", "neo4j", "snapshot", "files", "--into", "lab"]) == 1
    assert "for the namespace arithmetic; name a new folder" in capsys.readouterr().err


def test_a_full_disk_leaves_no_files(work: Path) -> None:
    with KillServer() as server:
        command = ["export", "neo4j", "snapshot", "files", "--into", "lab"]
        ended = server.run("memstore_cli.main:run", command, file_bytes=5000)
    assert ended.code == 1
    assert "there is no space for the files in files; free some and run the same command again" in ended.output
    assert not Path("files").exists()
    assert not list(work.glob(".files*"))


def test_the_buffer_of_the_importer_holds_the_longest_text(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neo4j_files, "_MIN_BUFFER", 1)
    assert run(["export", "neo4j", "snapshot", "files", "--into", "lab"]) == 0
    size = next(line for line in Path("files/neo4j-admin.args").read_text().splitlines() if "buffer" in line)
    assert int(size.partition("=")[2]) >= 4 * 8000
