"""Reading JSON lines, plain and gzipped, complete and broken."""

from __future__ import annotations

import gzip
import io
import json
import os
import sys
import threading
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memstore.errors import InputError
from memstore.records.readers import lines as line_reader
from memstore.records.readers import open_source
from memstore.records.record import Row

ROWS = [{"query": f"q{n} é", "answer": str(n)} for n in range(400)]
TEXT = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()


def packed(data: bytes) -> bytes:
    """Gzip without a timestamp: test ids must be equal in every process of a run."""
    return gzip.compress(data, mtime=0)


def written(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def read(folder: Path, name: str, data: bytes) -> list[Row]:
    return list(open_source(written(folder, name, data)))


@pytest.mark.parametrize(
    ("name", "data", "stem"),
    [
        ("a.jsonl", TEXT, "a"),
        ("b.jsonl.gz", packed(TEXT), "b"),
        ("wrong.jsonl", packed(TEXT), "wrong"),  # the content decides, not the suffix
        ("wrong.gz", TEXT, "wrong"),
        ("two.members.gz", packed(TEXT[:999]) + packed(TEXT[999:]), "two.members"),
        ("padded.gz", packed(TEXT) + bytes(512), "padded"),
        ("bom.json", b"\xef\xbb\xbf" + TEXT, "bom"),
        ("crlf.jsonl", TEXT.replace(b"\n", b"\r\n"), "crlf"),
        ("open end.jsonl", TEXT.rstrip(b"\n"), "open end"),
        (".jsonl", TEXT, ".jsonl"),
    ],
)
def test_rows_are_equal_for_every_packing(tmp_path: Path, name: str, data: bytes, stem: str) -> None:
    source = open_source(written(tmp_path, name, data))
    assert (source.name, source.stem, source.size, source.position()) == (name, stem, len(data), 0)
    assert [row.values for row in source] == ROWS
    assert [row.number for row in source] == list(range(1, 401))
    assert source.position() == len(data)


def test_blank_lines_are_skipped_and_counted(tmp_path: Path) -> None:
    rows = read(tmp_path, "a.jsonl", b'\n{"a": 1}\n \t\r\n{"a": 2}\n\n')
    assert [(row.number, row.values) for row in rows] == [(2, {"a": 1}), (4, {"a": 2})]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"a"', "the line is not JSON: Expecting ':' delimiter at character 5"),
        (b"[1, 2]", "the line is an array, not an object"),
        (b"null", "the line is null, not an object"),
        (b"3", "the line is a number, not an object"),
        (b'{"a": "\xff"}', "the line is not UTF-8 (byte 8)"),
        (b"[" * 200_000, "the line is nested too deeply"),
        (b"\x00\x01", "the line is not JSON: Expecting value at character 1"),
    ],
)
def test_an_invalid_line_is_a_row_with_a_reason(tmp_path: Path, line: bytes, reason: str) -> None:
    before, bad, after = read(tmp_path, "a.jsonl", b'{"a": 1}\n' + line + b'\n{"a": 3}\n')
    assert (before.values, after.values) == ({"a": 1}, {"a": 3})
    assert (bad.number, bad.values, bad.reason) == (2, None, reason)
    assert bad.raw == line.decode(errors="replace")[:10_000]


def test_integers_of_any_length_are_exact(tmp_path: Path) -> None:
    (row,) = read(tmp_path, "a.jsonl", b'{"a": ' + b"7" * 80 + b', "b": -' + b"7" * 6_000 + b"}")
    assert row.values == {"a": int("7" * 80), "b": "-" + "7" * 6_000}


def test_a_line_beyond_the_limit_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_reader, "MAX_LINE", 3 * 2**20)
    long = b'{"a": "' + b"x" * (3 * 2**20) + b'"}'
    fits = b'{"a": "' + b"x" * (3 * 2**20 - 9) + b'"}'
    rows = read(tmp_path, "a.jsonl", fits + b"\n" + long + b"\n" + fits + b"\n" + long)
    assert [row.reason for row in rows] == [None, "the line is longer than 3 MB"] * 2
    assert rows[1].raw == long[:10_000].decode()


@pytest.mark.parametrize("lost", [1, 8, 20, 300, 900])
def test_a_truncated_gzip_yields_the_rows_before_the_cut(tmp_path: Path, lost: int) -> None:
    *rows, last = read(tmp_path, "a.gz", packed(TEXT)[:-lost])
    assert [row.values for row in rows] == ROWS[: len(rows)]
    assert last.values is None
    assert last.reason == "the gzip file is truncated"
    if lost <= 8:
        assert len(rows) == len(ROWS)


def frames(count: int) -> list[bytes]:
    """The rows in this number of zstd frames, as a writer makes them that compresses chunk after chunk."""
    lines, size = TEXT.splitlines(keepends=True), -(-len(ROWS) // count)
    chunks = (b"".join(lines[at : at + size]) for at in range(0, len(lines), size))
    return [pa.compress(chunk, "zstd", asbytes=True) for chunk in chunks]


@pytest.mark.parametrize("metadata", [b"", b"\x50\x2a\x4d\x18\x04\0\0\0abcd", b"\x5f\x2a\x4d\x18\0\0\0\0"])
def test_zstd_frames_one_after_another_are_one_text(tmp_path: Path, metadata: bytes) -> None:
    packed_rows = b"".join(metadata + frame for frame in frames(8))
    assert [row.values for row in read(tmp_path, "traces.jsonl.zst", packed_rows)] == ROWS


@pytest.mark.parametrize("kept", [2, 7, -1])
def test_a_truncated_last_zstd_frame_yields_the_rows_of_the_frames_before(tmp_path: Path, kept: int) -> None:
    *whole, cut = frames(8)
    *rows, last = read(tmp_path, "a.jsonl.zst", b"".join(whole) + cut[:kept])
    assert [row.values for row in rows] == ROWS[: len(whole) * -(-len(ROWS) // 8)]
    assert last.values is None
    assert last.reason == "the zstd data is truncated or damaged (Truncated compressed stream)"


def test_a_complete_line_right_before_the_cut_is_a_row(tmp_path: Path) -> None:
    row, end = read(tmp_path, "a.gz", gzip.compress(b'{"a": 1}')[:-8])
    assert row.values == {"a": 1}
    assert end.reason == "the gzip file is truncated"


def test_damaged_gzip_and_trailing_data_are_reported(tmp_path: Path) -> None:
    whole = packed(TEXT)
    *_, last = read(tmp_path, "a.gz", whole[:1000] + bytes(50) + whole[1050:])
    assert "the gzip data is damaged" in (last.reason or "")
    *rows, last = read(tmp_path, "b.gz", whole + b"junk")
    assert len(rows) == len(ROWS)
    assert last.reason == "unexpected data follows the gzip data"


@pytest.mark.parametrize("data", [b"", b"\n \n", packed(b""), packed(b"\n")])
def test_an_empty_input_is_an_error(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(InputError, match="is empty"):
        read(tmp_path, "a.jsonl", data)


def test_a_missing_file_and_a_folder_are_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no file"):
        open_source(tmp_path / "none.jsonl")
    with pytest.raises(InputError, match="is a folder"):
        open_source(tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        open_source(tmp_path / ("x" * 5_000))


def test_a_file_that_is_deleted_after_opening(tmp_path: Path) -> None:
    path = written(tmp_path, "a.jsonl", TEXT)
    source = open_source(path)
    path.unlink()
    with pytest.raises(InputError, match="reading .* failed"):
        list(source)


@pytest.mark.parametrize("data", [TEXT, packed(TEXT)])
def test_standard_input(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    source = open_source("-")
    assert (source.name, source.stem, source.size) == ("stdin", "stdin", None)
    assert [row.values for row in source] == ROWS
    assert source.position() == len(data)
    with pytest.raises(InputError, match="only once"):
        list(source)


def test_a_named_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.jsonl"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(TEXT,))
    writer.start()
    source = open_source(pipe)
    assert [row.values for row in source] == ROWS
    assert source.size is None
    writer.join()


@given(
    st.lists(st.binary(max_size=12).map(lambda data: data.replace(b"\n", b"")), min_size=1, max_size=8), st.booleans()
)
@settings(max_examples=100, deadline=None)
def test_random_bytes_become_rows_or_reasons(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], packed: bool
) -> None:
    data = b'{"a": 1}\n' + b"\n".join(lines)
    rows = read(tmp_path_factory.mktemp("bytes"), "a.jsonl", gzip.compress(data) if packed else data)
    numbers = [number for number, line in enumerate(data.split(b"\n"), start=1) if line and not line.isspace()]
    assert [row.number for row in rows] == numbers
    assert all((row.values is None) == (row.reason is not None) for row in rows)
