"""An ingest without one valid row leaves no memory behind; one with a valid row, or into a memory, does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

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
