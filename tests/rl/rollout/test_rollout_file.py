"""RolloutFile: complete lines survive a kill at any byte; files of another kind are not modified."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memstore.errors import InputError, LockedError
from memstore_rl.rollout.file import KEY, RolloutFile


def row(number: int) -> dict[str, Any]:
    return {"query": f"Wie groß ist {number}?\n", "metadata": {KEY: f"{number:016x}", "ü": [number]}}


def write(path: Path, count: int) -> list[bytes]:
    with RolloutFile(path) as file:
        file.append([row(number) for number in range(count)])
    return path.read_bytes().splitlines(keepends=True)


def missing_from(path: Path, count: int) -> list[int]:
    with RolloutFile(path) as file:
        missing = file.missing([f"{number:016x}" for number in range(count)])
    return [number for number, absent in enumerate(missing) if absent]


def test_a_new_file_misses_every_key(tmp_path: Path) -> None:
    assert missing_from(tmp_path / "folder" / "new.jsonl", 3) == [0, 1, 2]


def test_appended_rows_are_found_when_reopened(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write(path, 3)
    assert missing_from(path, 5) == [3, 4]
    with RolloutFile(path) as file:
        assert len(file) == 3
        file.append([row(4)])
    assert missing_from(path, 5) == [3]
    assert [json.loads(line) for line in path.read_text().splitlines()] == [row(0), row(1), row(2), row(4)]


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_file_cut_at_any_byte_keeps_its_complete_lines(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.jsonl"
        lines = write(path, 4)
        whole = b"".join(lines)
        end = data.draw(st.integers(0, len(whole)))
        os.truncate(path, end)
        # A line that lacks only its newline is complete.
        kept = sum(1 for index in range(4) if len(b"".join(lines[: index + 1])) - 1 <= end)
        assert missing_from(path, 4) == list(range(kept, 4))
        assert path.read_bytes() == b"".join(lines[:kept])
        write_rest = [row(number) for number in range(kept, 4)]
        with RolloutFile(path) as file:
            file.append(write_rest)
            assert file.size == len(whole)
        assert path.read_bytes() == whole


def test_rows_from_other_writers_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    others = '{"query": "a", "answer": "b"}\nnot ours\n{"query": "c", "metadata": {"rollout_key": 5}}\n'
    path.write_text(others)
    assert missing_from(path, 1) == [0]
    write(path, 1)
    assert path.read_text().startswith(others)
    assert missing_from(path, 1) == []


@pytest.mark.parametrize("content", ["\\documentclass{article}\n", "a line", '{"query": "a"}\nnotes', "\x00\x01", "7"])
def test_a_file_of_another_kind_is_refused_unchanged(content: str, tmp_path: Path) -> None:
    path = tmp_path / "thesis"
    path.write_text(content)
    with pytest.raises(InputError, match="is not a file of rollouts"):
        RolloutFile(path)
    assert path.read_text() == content


def test_an_unwritable_path_is_reported(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot write .*: Is a directory; choose another --output"):
        RolloutFile(tmp_path)


def test_a_file_has_one_writer(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with RolloutFile(path) as file:
        file.append([row(0)])
        other = (
            "import sys; from pathlib import Path; from memstore_rl.rollout.file import RolloutFile; "
            "RolloutFile(Path(sys.argv[1]))"
        )
        done = subprocess.run([sys.executable, "-c", other, str(path)], capture_output=True, text=True)
        assert f"LockedError: another process is writing {path}; wait for it" in done.stderr
        with pytest.raises(LockedError):
            RolloutFile(path)
    assert missing_from(path, 1) == []


FULL = """
import resource, sys
from pathlib import Path
from memstore.errors import StoreError
from memstore_rl.rollout.file import KEY, RolloutFile

rows = [{"query": "x" * 100, "metadata": {KEY: f"{number:016x}"}} for number in range(4)]
with RolloutFile(Path(sys.argv[1])) as file:
    file.append(rows[:2])
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.size + 200, resource.RLIM_INFINITY))
    try:
        file.append(rows[2:])
    except StoreError as error:
        print(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    file.append(rows[2:3])
"""


def test_rows_that_do_not_fit_are_removed(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    done = subprocess.run([sys.executable, "-c", FULL, str(path)], capture_output=True, text=True)
    assert done.stdout == f"cannot write {path}: File too large\n", done.stderr
    assert missing_from(path, 4) == [3]
    assert all(json.loads(line) for line in path.read_text().splitlines())
