"""Files that are neither JSON lines nor Parquet are refused with a conversion; bombs are bounded."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import sys
import tarfile
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest

from memstore.errors import InputError
from memstore.records.readers import open_source
from memstore.records.readers.lines import _lines

ROWS = [{"query": "How many?", "response": "7"}] * 3
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)


def zipped() -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:  # stored, so that the lines are readable in it
        archive.writestr("own.jsonl", LINES)
    return data.getvalue()


def tarred() -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        info = tarfile.TarInfo("own.jsonl")
        info.size = len(LINES)
        archive.addfile(info, io.BytesIO(LINES.encode()))
    return data.getvalue()


def arrow(stream: bool) -> bytes:
    table, data = pa.Table.from_pylist(ROWS), io.BytesIO()
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(data, table.schema) as writer:
        writer.write_table(table)
    return data.getvalue()


FORMATS = {
    "zip": (zipped(), "zip archive"),
    "tar": (tarred(), "tar archive"),
    "zst": (b"\x28\xb5\x2f\xfd\x04\x58", "zstd"),
    "xz": (lzma.compress(LINES.encode()), "xz"),
    "bz2": (bz2.compress(LINES.encode()), "bzip2"),
    "arrow-file": (arrow(stream=False), "Arrow file"),
    "arrow-stream": (arrow(stream=True), "Arrow stream"),
    "utf16": (LINES.encode("utf-16"), "iconv -f UTF-16 "),
    "utf16le": (LINES.encode("utf-16-le"), "iconv -f UTF-16LE "),
    "utf32": (LINES.encode("utf-32"), "iconv -f UTF-32 "),
    "array": (json.dumps(ROWS).encode(), "JSON array"),
    "pretty-array": (json.dumps(ROWS, indent=2).encode(), "JSON array"),
    "array-with-mark": (b"\xef\xbb\xbf\n" + json.dumps(ROWS).encode(), "JSON array"),
    "pretty-object": (json.dumps({"samples": ROWS}, indent=2).encode(), "one object a line"),
    "csv": (b"query,response\nHow many?,7\n", "read_csv"),
    "csv-quoted": (b'"id","Prompt","x"\r\n1,"How many?",7\r\n', "read_csv"),
    "csv-semicolon": (b"query;response\nHow many?;7\n", "sep=';'"),
    "tsv": (b"query\tresponse\nHow many?\t7\n", "sep="),
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("packing", ["plain", "gzip", "stdin"])
def test_another_format_is_refused_with_a_conversion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, packing: str
) -> None:
    data, advice = FORMATS[name]
    path: Path | str = tmp_path / "a.jsonl"
    if packing == "stdin":
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        path = "-"
    else:
        Path(path).write_bytes(gzip.compress(data, mtime=0) if packing == "gzip" else data)
    with pytest.raises(InputError) as error:
        list(open_source(path))
    assert advice in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "data",
    [
        LINES.encode(),
        b"\xef\xbb\xbf" + LINES.encode(),
        b"\n\n" + LINES.encode(),
        b"[1, 2]\n" + LINES.encode(),  # an invalid first line
        b"junk\n" + LINES.encode(),
        b"PK\n" + LINES.encode(),
        b"a, b\n" + LINES.encode(),  # a comma without a known column
    ],
)
def test_json_lines_are_read(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.jsonl").write_bytes(data)
    assert [row.values for row in open_source(tmp_path / "a.jsonl") if row.values is not None] == ROWS


def test_blank_lines_of_a_gzip_are_skipped_as_blocks_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(b'{"a": 1}' + b"\n" * 3_500_000 + b'{"a": 2}\n'))
    assert [(row.number, row.values) for row in open_source(path)] == [(1, {"a": 1}), (3_500_001, {"a": 2})]


def test_a_block_of_blank_lines_costs_one_step() -> None:
    lines = list(_lines(iter([b'{"a": 1}\n', *[b"\n \r\n" * 10_000] * 20, b'{"a": 2}\n'])))
    assert [(line.data, line.blank_before) for line in lines] == [(b'{"a": 1}', 0), (b'{"a": 2}', 400_000)]


def test_a_gzip_bomb_ends_with_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(b'{"a": 1}' + b"\n" * 40_000_000))
    first, last = open_source(path)
    assert first.values == {"a": 1}
    assert "expands more than 100-fold" in (last.reason or "")


@pytest.mark.parametrize("row", [b"{}\n", b"0\n", b'{"query": "a", "answer": "b"}\n'])
def test_a_gzip_of_tiny_objects_ends_with_a_reason(tmp_path: Path, row: bytes) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(row * 120_000))
    *rows, last = open_source(path)
    assert len(rows) == 100_000 + path.stat().st_size // 4
    assert "reading ended here" in (last.reason or "")
    assert "cannot be rollouts" in (last.reason or "")


def test_many_short_rollouts_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(b"".join(b'{"query": "%d", "answer": "b"}\n' % n for n in range(120_000))))
    assert sum(row.values is not None for row in open_source(path)) == 120_000
