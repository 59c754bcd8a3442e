"""Damaged archives, files in the wrong wrapping, tables without a known header, and links that lead in circles."""

from __future__ import annotations

import gzip
import io
import json
import os
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from memstore.errors import InputError
from memstore.records.preview import preview
from memstore.records.readers import expand_paths, open_source, skipped_files

LINES = "".join(json.dumps({"query": "How many?", "response": f"{n}"}) + "\n" for n in range(300))
SAMPLE = {"id": 1, "epoch": 1, "input": "How many?", "target": "7", "output": {"choices": []}}


def table(rows: int = 300) -> pa.Table:
    return pa.table({"query": ["How many?"] * rows, "response": [str(n) for n in range(rows)]})


def parquet() -> bytes:
    data = io.BytesIO()
    pq.write_table(table(), data)
    return data.getvalue()


def damaged(members: dict[str, bytes], name: str, method: int) -> bytes:
    """A zip archive in which one byte of the last quarter of a member is another one."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", method) as archive:
        for each, content in members.items():
            archive.writestr(each, content)
        member = archive.getinfo(name)
    content = bytearray(data.getvalue())
    content[member.header_offset + 30 + len(name) + member.compress_size * 3 // 4] ^= 255
    return bytes(content)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
def test_a_damaged_text_in_an_archive_is_one_sentence(tmp_path: Path, method: int) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(damaged({"a.jsonl": LINES.encode()}, "a.jsonl", method))
    with pytest.raises(InputError, match=r"a\.zip/a\.jsonl is damaged .*; copy or write the archive again"):
        list(open_source(path / "a.jsonl"))


def test_a_damaged_table_in_an_archive_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(damaged({"a.parquet": parquet()}, "a.parquet", zipfile.ZIP_STORED))
    with pytest.raises(InputError, match=r"a\.zip/a\.parquet is damaged .*; copy or write the archive again"):
        open_source(path / "a.parquet")


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
def test_a_damaged_sample_of_a_log_does_not_cost_the_others(tmp_path: Path, method: int) -> None:
    members = {f"samples/{n}_epoch_1.json": json.dumps({**SAMPLE, "id": n}).encode() for n in range(3)}
    path = tmp_path / "a.eval"
    path.write_bytes(damaged({"header.json": b'{"eval": {}}', **members}, "samples/1_epoch_1.json", method))
    rows = list(open_source(path))
    assert [row.values is None for row in rows] == [False, True, False]
    assert "samples/1_epoch_1.json is damaged" in str(rows[1].reason)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (parquet(), "a Parquet file"),
        (gzip.compress(LINES.encode()), "compressed with gzip"),
        (pa.compress(LINES.encode(), "zstd", asbytes=True), "compressed with zstd"),
        (damaged({"a.jsonl": LINES.encode()}, "a.jsonl", zipfile.ZIP_STORED), "a zip archive"),
    ],
)
def test_a_file_that_was_packed_twice_is_one_sentence(tmp_path: Path, content: bytes, kind: str) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(content))
    with pytest.raises(InputError, match=f"contains is {kind}, which is not read from a compressed file or a pipe"):
        list(open_source(path))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<!DOCTYPE html><html>Sign in", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n", "git lfs pull"),
        ("text,out\na,b\n".encode("utf-16-le"), "iconv -f UTF-16LE"),
        ("text,out\na,b\n".encode("utf-16-be"), "iconv -f UTF-16BE"),
    ],
)
def test_a_file_that_holds_no_rows_is_refused_with_an_advice(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(InputError, match=said):
        open_source(tmp_path / "a.csv")


@pytest.mark.parametrize(("name", "separator"), [("a.csv", ","), ("a.csv", ";"), ("a.tsv", "\t"), ("a.csv.gz", ",")])
def test_a_table_by_its_name_may_have_any_header(tmp_path: Path, name: str, separator: str) -> None:
    content = f"text{separator}out\na{separator}b\n".encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert [row.values for row in open_source(tmp_path / name)] == [{"text": "a", "out": "b"}]


def test_a_table_with_lone_carriage_returns_says_how_to_convert_it(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"query,response\ra,b\r")
    (row,) = open_source(tmp_path / "a.csv")
    assert "tr '\\r' '\\n'" in str(row.reason)


def test_an_arrow_file_that_is_cut_while_it_is_read_does_not_end_the_process(tmp_path: Path) -> None:
    path, rows = tmp_path / "a.arrow", table(300_000)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, rows.schema) as writer:
        writer.write_table(rows, max_chunksize=30_000)
    found = iter(open_source(path))
    assert next(found).values is not None
    path.open("r+b").truncate(path.stat().st_size // 2)
    *_, last = found
    assert "is damaged from this row on" in str(last.reason)


def test_an_arrow_bomb_is_found_across_the_blocks_that_are_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from memstore.records.readers import arrow

    path = tmp_path / "a.arrow"
    rows, options = table(), pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, rows.schema, options=options) as writer:
        writer.write_table(rows)
    with path.open("rb") as whole:
        expected = arrow._sizes_before_zstd(whole)
    assert expected > 0
    for size in range(1, 40):
        monkeypatch.setattr(arrow, "_SCANNED", size)
        with path.open("rb") as file:
            assert arrow._sizes_before_zstd(file) == expected


def test_links_that_lead_in_circles_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.jsonl").write_text(LINES)
    (tmp_path / ".hidden.jsonl").write_text(LINES)
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "sub" / "up").symlink_to("..")
    (tmp_path / "gone.jsonl").symlink_to("nothing")
    (tmp_path / "self.jsonl").symlink_to("self.jsonl")
    assert expand_paths([tmp_path]) == [tmp_path / "a.jsonl"]
    links = {tmp_path / "gone.jsonl", tmp_path / "self.jsonl"}
    assert {*skipped_files([tmp_path])} == links
    found = expand_paths([str(tmp_path / "**" / "*.jsonl")])
    assert {*map(Path, found)} == {tmp_path / "a.jsonl", *links}
    with pytest.raises(InputError, match="Too many levels of symbolic links"):
        open_source(tmp_path / "self.jsonl")


@pytest.mark.parametrize(
    ("name", "said"), [("", "is empty; is a variable"), ("a" * 300, None), ("a" * 300 + "*", "no file")]
)
def test_names_that_no_file_can_have(name: str, said: str | None) -> None:
    if said is None:
        (path,) = expand_paths([name])
        with pytest.raises(InputError, match="File name too long"):
            open_source(path)
        return
    with pytest.raises(InputError, match=said):
        expand_paths([name])


def test_a_name_that_is_not_utf8_is_written_with_escapes(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.jsonl")
    try:
        path.write_text(LINES)
    except OSError:
        pytest.skip("this file system has no such names")
    source = open_source(path)
    assert (source.name, source.stem) == ("caf\\xe9.jsonl", "caf\\xe9")
    (shown,) = preview([path])
    assert (shown.file.encode().decode(), shown.rollouts) == (f"{tmp_path}/caf\\xe9.jsonl", 300)
