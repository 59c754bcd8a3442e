"""Folders and glob patterns stand for their files."""

from __future__ import annotations

from pathlib import Path

import pytest

from memstore.errors import InputError
from memstore.locations.opening import MARKER
from memstore.records.readers import expand_paths
from memstore.records.readers.expand import MEMORY_MARKER

FILES = [
    "run/2.jsonl",
    "run/10.jsonl",
    "run/1.jsonl.gz",
    "run/later/3.parquet",
    "run/notes.txt",
    "run/.hidden.jsonl",
    "run/.git/a.jsonl",
    "run/UPPER.JSONL",
    "odd[1].jsonl",
    "odd1.jsonl",
    "empty/readme.md",
    "run/memory/memstore.json",
    "run/memory/rejects/a.rejects.jsonl",
]
IN_RUN = ["run/1.jsonl.gz", "run/2.jsonl", "run/10.jsonl", "run/UPPER.JSONL", "run/later/3.parquet"]

CASES = [
    (["run"], IN_RUN, "a folder, in natural order, with subfolders, without hidden and other files and memories"),
    (["run/"], IN_RUN, "a slash behind it"),
    (["run/*.jsonl"], ["run/2.jsonl", "run/10.jsonl"], "a pattern; hidden files do not match a star"),
    (["run/**/*.parquet"], ["run/later/3.parquet"], "any depth"),
    (["run/[12].jsonl"], ["run/2.jsonl"], "a set of characters"),
    (["odd[1].jsonl"], ["odd[1].jsonl"], "a file whose name looks like a pattern"),
    (["run/notes.txt"], ["run/notes.txt"], "a file that is named has any ending"),
    (["run/none.jsonl"], ["run/none.jsonl"], "a missing file is reported by the reader"),
    (["-"], ["-"], "standard input"),
    (
        ["run/10.jsonl", "run"],
        ["run/10.jsonl", *(name for name in IN_RUN if name != "run/10.jsonl")],
        "a folder adds no file twice",
    ),
    (["run/2.jsonl", "run/2.jsonl"], ["run/2.jsonl", "run/2.jsonl"], "a file that is named twice is read twice"),
    (["ru*"], IN_RUN, "a pattern that matches a folder"),
]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}\n")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("names", "files"), [case[:2] for case in CASES], ids=[case[2] for case in CASES])
def test_names_become_files(names: list[str], files: list[str]) -> None:
    assert [str(file) for file in expand_paths(names)] == files


@pytest.mark.parametrize(
    ("name", "message"),
    [("empty", "the folder empty has no file of rollouts; it needs"), ("*.zip", "no file matches \\*.zip")],
)
def test_nothing_to_read_is_an_error(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        expand_paths([name])


def test_the_marker_of_a_memory_is_known() -> None:
    assert MEMORY_MARKER == MARKER
