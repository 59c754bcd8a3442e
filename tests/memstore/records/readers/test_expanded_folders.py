"""Folders and globs become files in natural order; what is not read can be named."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from memstore.errors import InputError
from memstore.records.readers import expand_paths, open_source, skipped_files


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text('{"query": "Q", "answer": "A"}\n')


def test_a_folder_lists_its_files_and_those_that_are_not_read(tmp_path: Path) -> None:
    touch(tmp_path, "step_10.jsonl", "step_2.jsonl", "sub/a.parquet", "b.jsonl.gz", "notes.txt", ".hidden.jsonl")
    touch(tmp_path, "old-1234.rejects.jsonl", "memory/memstore.json", "memory/rejects/x.jsonl")
    read = [str(Path(file).relative_to(tmp_path)) for file in expand_paths([tmp_path])]
    assert read == ["b.jsonl.gz", "step_2.jsonl", "step_10.jsonl", "sub/a.parquet"]
    skipped = {str(file.relative_to(tmp_path)) for file in skipped_files([tmp_path])}
    assert skipped == {"notes.txt", "old-1234.rejects.jsonl", "memory/memstore.json", "memory/rejects/x.jsonl"}


def test_a_file_that_is_named_is_never_skipped(tmp_path: Path) -> None:
    touch(tmp_path, "notes.txt", "a.rejects.jsonl")
    names: list[str | Path] = [tmp_path / "notes.txt", tmp_path / "a.rejects.jsonl", "-"]
    assert expand_paths(names) == names
    assert skipped_files(names) == []


@pytest.mark.parametrize("data", [b"", b"PAR2....", b"\0" * 100, b"<html>", b"PAR"])
def test_a_broken_parquet_file_is_not_called_json(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.parquet").write_bytes(data)
    with pytest.raises(InputError) as error:
        list(open_source(tmp_path / "a.parquet"))
    assert "JSON" not in str(error.value)


def test_more_rows_than_bytes_are_refused(tmp_path: Path) -> None:
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 300_000, pa.int32()), ["q"])
    pq.write_table(pa.table({"query": column, "answer": column}), tmp_path / "a.parquet", compression="zstd")
    with pytest.raises(InputError, match="300,000 rows in"):
        open_source(tmp_path / "a.parquet")


def test_many_equal_rows_below_the_limit_are_read(tmp_path: Path) -> None:
    pq.write_table(pa.table({"query": ["q"] * 90_000, "answer": ["a"] * 90_000}), tmp_path / "a.parquet")
    assert sum(1 for _ in open_source(tmp_path / "a.parquet")) == 90_000
