"""The file of rollouts: whole lines stay, whatever instant its writer died at; and nobody else's file is touched."""

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


def lacked(path: Path, count: int) -> list[int]:
    with RolloutFile(path) as file:
        lacks = file.lacks([f"{number:016x}" for number in range(count)])
    return [number for number, lacking in enumerate(lacks) if lacking]


def test_a_new_file_lacks_everything(tmp_path: Path) -> None:
    assert lacked(tmp_path / "folder" / "new.jsonl", 3) == [0, 1, 2]


def test_what_was_added_is_there_when_it_is_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write(path, 3)
    assert lacked(path, 5) == [3, 4]
    with RolloutFile(path) as file:
        assert len(file) == 3
        file.append([row(4)])
    assert lacked(path, 5) == [3]
    assert [json.loads(line) for line in path.read_text().splitlines()] == [row(0), row(1), row(2), row(4)]


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_file_cut_at_any_byte_keeps_its_whole_lines(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.jsonl"
        lines = write(path, 4)
        whole = b"".join(lines)
        end = data.draw(st.integers(0, len(whole)))
        os.truncate(path, end)
        # A line whose end of line alone is missing was written.
        kept = sum(1 for place in range(4) if len(b"".join(lines[: place + 1])) - 1 <= end)
        assert lacked(path, 4) == list(range(kept, 4))
        assert path.read_bytes() == b"".join(lines[:kept])
        write_rest = [row(number) for number in range(kept, 4)]
        with RolloutFile(path) as file:
            file.append(write_rest)
            assert file.size == len(whole)
        assert path.read_bytes() == whole


def test_rows_of_others_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    others = '{"query": "a", "answer": "b"}\nnot ours\n{"query": "c", "metadata": {"rollout_key": 5}}\n'
    path.write_text(others)
    assert lacked(path, 1) == [0]
    write(path, 1)
    assert path.read_text().startswith(others)
    assert lacked(path, 1) == []


@pytest.mark.parametrize("content", ["\\documentclass{article}\n", "a line", '{"query": "a"}\nnotes', "\x00\x01", "7"])
def test_another_file_is_refused_and_left_as_it_is(content: str, tmp_path: Path) -> None:
    path = tmp_path / "thesis"
    path.write_text(content)
    with pytest.raises(InputError, match="holds something that is no rollout"):
        RolloutFile(path)
    assert path.read_text() == content


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written: Is a directory; name another --output"):
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
        assert f"LockedError: another process writes {path}; wait for it" in done.stderr
        with pytest.raises(LockedError):
            RolloutFile(path)
    assert lacked(path, 1) == []


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


def test_rows_that_did_not_fit_leave_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    done = subprocess.run([sys.executable, "-c", FULL, str(path)], capture_output=True, text=True)
    assert done.stdout == f"{path} cannot be written: File too large\n", done.stderr
    assert lacked(path, 4) == [3]
    assert all(json.loads(line) for line in path.read_text().splitlines())
