"""`memstore verl data`: training data from files or from a memory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from memstore_cli.main import run


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "queries.jsonl"
    rows = [{"query": f"What is {n} + 1?", "gold": str(n + 1), "dataset": "sums", "domain": "math"} for n in range(40)]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def test_the_listed_files_are_written(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "data"
    arguments = ["verl", "data", str(source), "--output", str(folder), "--budget", "0.25", "--mode", "memory"]
    assert run([*arguments, "--validation", "0.25", "--test", "0.25", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [(file["file"], file["rows"], file["labelled"]) for file in document["files"]] == [
        ("train_memory_25.parquet", 30, 15),
        ("validation.parquet", 10, 10),
        ("test.parquet", 10, 10),
    ]
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        ["data.json", *(f["file"] for f in document["files"])]
    )
    assert run([*arguments]) == 1
    assert "name a new folder" in capsys.readouterr().err


def test_queries_from_a_memory(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rollouts = tmp_path / "rollouts.jsonl"
    rows = [{**json.loads(line), "answer": "1"} for line in source.read_text(encoding="utf-8").splitlines()]
    rollouts.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert run(["ingest", str(rollouts), "--memory", str(tmp_path / "memory")]) == 0
    monkeypatch.setenv("MEMSTORE_MEMORY", str(tmp_path / "memory"))
    capsys.readouterr()
    assert run(["verl", "data", "--output", str(tmp_path / "data")]) == 0
    out = capsys.readouterr().out
    assert "40 queries, 5 files" in out
    assert "train_memory_20.parquet" in out


def test_missing_input_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MEMSTORE_MEMORY", raising=False)
    assert run(["verl", "data", "--output", str(tmp_path / "data")]) == 2
    assert "--memory" in capsys.readouterr().err


def test_batches_have_the_labelled_share(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = ["verl", "data", str(source), "--mode", "memory", "--validation", "0", "--test", "0", "--output"]
    options = ["--labelled-share", "0.25", "--batch-size", "8", "--batch-seed", "3"]
    assert run([*data, str(tmp_path / "data"), *options]) == 0
    out = capsys.readouterr().out
    assert "train_memory_20.parquet    48        12  2 of 8" in out
    assert "data.shuffle=False in verl" in out
    assert run([*data, str(tmp_path / "once"), "--labelled-share", "none", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [(file["rows"], file["batch_size"]) for file in document["files"]] == [(40, None)]
    assert document["note"] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--labelled-share", "half"], "--labelled-share is 'half'; use a number or none"),
        (["--labelled-share", "none", "--batch-size", "8"], "writes no batches; remove --batch-size"),
        (["--labelled-share", "0.1", "--batch-size", "4"], "no labelled row in a batch of 4"),
        (["--labelled-share", "0"], "must be above 0 and at most 1"),
    ],
)
def test_impossible_batches_are_reported(
    options: list[str], message: str, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["verl", "data", str(source), "--output", str(tmp_path / "data"), *options]) != 0
    assert message in " ".join(capsys.readouterr().err.split())
