"""A failed demo and an ingest without one valid row leave no memory behind; a valid row does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memstore.errors import StoreError

BAD = '{"text": "no rollout"}\n'
GOOD = '{"query": "2+2?", "answer": "4"}\n'


@pytest.mark.parametrize("text", [BAD, BAD * 3, "\n \n", "junk\n"])
def test_an_ingest_without_a_valid_row_leaves_nothing(tmp_path: Path, command: Callable[..., Any], text: str) -> None:
    (tmp_path / "r.jsonl").write_text(text)
    done = command("ingest", tmp_path / "r.jsonl", "--memory", tmp_path / "m")
    assert done.code != 0
    assert not (tmp_path / "m").exists()


def test_a_valid_row_or_an_earlier_memory_is_kept(tmp_path: Path, command: Callable[..., Any]) -> None:
    (tmp_path / "good.jsonl").write_text(GOOD + BAD)
    (tmp_path / "bad.jsonl").write_text(BAD)
    assert command("ingest", tmp_path / "good.jsonl", "--memory", tmp_path / "m").code == 0
    assert command("ingest", tmp_path / "bad.jsonl", "--memory", tmp_path / "m").code == 1
    assert (tmp_path / "m" / "memstore.json").exists()
    assert list((tmp_path / "m" / "rejects").iterdir())


def test_the_named_file_of_rejected_rows_is_kept(tmp_path: Path, command: Callable[..., Any]) -> None:
    (tmp_path / "bad.jsonl").write_text(BAD)
    command("ingest", tmp_path / "bad.jsonl", "--memory", tmp_path / "m", "--rejects", tmp_path / "rejects.jsonl")
    assert (tmp_path / "rejects.jsonl").exists()
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("failing", ["ingest", "stats"])
def test_a_failed_demo_leaves_nothing(
    tmp_path: Path, command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """So that it can be run again: it refuses a folder that exists."""

    def run(context: object, line: str) -> None:
        if line.startswith(failing):
            raise StoreError(f"{failing} failed")
        (tmp_path / "demo").mkdir()
        (tmp_path / "demo" / "memstore.json").touch()

    monkeypatch.setattr("memstore_cli.demo._run", run)
    done = command("demo", "--folder", tmp_path / "demo")
    assert (done.code, done.err) == (1, f"error: {failing} failed\n")
    assert not (tmp_path / "demo").exists()


def test_a_demo_does_not_remove_a_folder_that_it_did_not_make(tmp_path: Path, command: Callable[..., Any]) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "own.txt").touch()
    assert command("demo", "--folder", tmp_path / "demo").code == 1
    assert (tmp_path / "demo" / "own.txt").exists()
