"""Files that are no rows are refused with a conversion; those of other formats are read; bombs are bounded."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickle
import sys
import tarfile
from pathlib import Path

import pyarrow as pa
import pytest

from memstore.errors import InputError
from memstore.records.readers import open_source
from memstore.records.readers.lines import _lines

ROWS = [{"query": "How many?", "response": "7"}] * 3
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)


def tarred() -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        info = tarfile.TarInfo("own.jsonl")
        info.size = len(LINES)
        archive.addfile(info, io.BytesIO(LINES.encode()))
    return data.getvalue()


REFUSED = {
    "tar": (tarred(), "tar archive"),
    "xz": (lzma.compress(LINES.encode()), "xz"),
    "bz2": (bz2.compress(LINES.encode()), "bzip2"),
    "utf16": (LINES.encode("utf-16"), "iconv -f UTF-16 "),
    "utf16le": (LINES.encode("utf-16-le"), "iconv -f UTF-16LE "),
    "utf32": (LINES.encode("utf-32"), "iconv -f UTF-32 "),
    **{f"pickle-{protocol}": (pickle.dumps(ROWS, protocol), "pickle_to_jsonl.py") for protocol in (2, 3, 4, 5)},
    "pickled-dict": (pickle.dumps({"samples": ROWS}, 2), "pickle_to_jsonl.py"),
}
READ = {
    "array": json.dumps(ROWS).encode(),
    "pretty-array": json.dumps(ROWS, indent=2).encode(),
    "array-with-mark": b"\xef\xbb\xbf\n" + json.dumps(ROWS).encode(),
    "pretty-objects": "\n".join(json.dumps(row, indent=2) for row in ROWS).encode(),
    "csv": b"query,response\n" + b"How many?,7\n" * 3,
    "csv-quoted": b'"query","response"\r\n' + b'"How many?","7"\r\n' * 3,
    "csv-semicolon": b"query;response\n" + b"How many?;7\n" * 3,
    "tsv": b"\xef\xbb\xbfquery\tresponse\n" + b"How many?\t7\n" * 3,
}


@pytest.fixture(params=["plain", "gzip", "zstd", "stdin"])
def packing(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def packed(folder: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, packing: str) -> Path | str:
    path = folder / "a.jsonl"
    if packing == "stdin":
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        return "-"
    if packing == "gzip":
        data = gzip.compress(data, mtime=0)
    elif packing == "zstd":
        data = pa.compress(data, "zstd", asbytes=True)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("name", REFUSED)
def test_another_format_is_refused_with_a_conversion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, packing: str
) -> None:
    data, advice = REFUSED[name]
    with pytest.raises(InputError) as error:
        list(open_source(packed(tmp_path, monkeypatch, data, packing)))
    assert advice in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", READ)
def test_another_text_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, packing: str) -> None:
    assert [row.values for row in open_source(packed(tmp_path, monkeypatch, READ[name], packing))] == ROWS


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


def test_values_that_are_longer_than_a_block(tmp_path: Path) -> None:
    rows = [{"query": "é" * 1_500_000, "response": str(n)} for n in range(3)]
    (tmp_path / "a.json").write_text(json.dumps(rows, ensure_ascii=False))
    assert [row.values for row in open_source(tmp_path / "a.json")] == rows


@pytest.mark.parametrize(
    ("text", "values", "reason"),
    [
        ('[{"a": 1}, 2, {"a": 3}]', [{"a": 1}, None, {"a": 3}], "the value is a number, not an object"),
        ('[{"a": 1}, {"a": ', [{"a": 1}, None], "the value is not JSON: Expecting value at its character 7"),
        ('[{"a": 1}', [{"a": 1}, None], "the JSON array has no end"),
        ('[{"a": 1}] {}', [{"a": 1}, None], "more text follows the JSON array"),
        ('{\n"a": 1}\n{\n"a": }', [{"a": 1}, None], "the value is not JSON"),
    ],
)
def test_a_broken_document_ends_with_a_reason(tmp_path: Path, text: str, values: list[object], reason: str) -> None:
    (tmp_path / "a.json").write_text(text)
    rows = list(open_source(tmp_path / "a.json"))
    assert [row.values for row in rows] == values
    assert reason in next(row.reason for row in rows if row.reason)


def test_a_table_with_line_breaks_empty_values_and_a_short_row(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('query,response,reward\n"How\nmany?","7, or ""8""",\nshort\n')
    first, second = open_source(tmp_path / "a.csv")
    assert first.values == {"query": "How\nmany?", "response": '7, or "8"', "reward": None}
    assert (second.number, second.reason) == (4, "the row has 1 values for 3 columns")


@pytest.mark.parametrize(
    "data", [b'query,response\na,"b', b"query,query,response\na,b,c\n", b"query,response\n\xff,b\n"]
)
def test_a_broken_table_ends_with_a_reason(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.csv").write_bytes(data)
    row, *more = open_source(tmp_path / "a.csv")
    assert row.reason
    assert not more


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


def test_a_zstd_bomb_and_truncated_zstd_end_with_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "a.zst"
    path.write_bytes(pa.compress(b'{"a": 1}' + b"\n" * 40_000_000, "zstd", asbytes=True))
    first, last = open_source(path)
    assert first.values == {"a": 1}
    assert "expands more than 1,000-fold" in (last.reason or "")
    path.write_bytes(pa.compress(LINES.encode() * 9_000, "zstd", asbytes=True)[:-20])
    assert "truncated or damaged" in (list(open_source(path))[-1].reason or "")


def test_zstd_frames_one_behind_another(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.zst"
    path.write_bytes(pa.compress(LINES.encode(), "zstd", asbytes=True) * 3)
    assert [row.values for row in open_source(path)] == ROWS * 3
    assert open_source(path).stem == "a"


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
