"""Arrow files and streams, and zip archives with members of all formats; bombs and pickles are refused."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from memstore.errors import InputError
from memstore.records.readers import expand_paths, open_source

ROWS = [{"query": f"How many, {n}?", "response": "7", "scores": [1.0, None]} for n in range(5)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def arrow(stream: bool = False, compression: str | None = None) -> bytes:
    table, data = pa.Table.from_pylist(ROWS), io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(data, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=2)
    return data.getvalue()


def parquet() -> bytes:
    data = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), data)
    return data.getvalue()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
def test_arrow_is_read_batch_by_batch(tmp_path: Path, stream: bool, compression: str | None) -> None:
    path = tmp_path / "a.arrow"
    path.write_bytes(arrow(stream, compression))
    source = open_source(path)
    assert [(row.number, row.values) for row in source] == list(enumerate(ROWS, start=1))
    assert (source.stem, source.position()) == ("a", path.stat().st_size)


def test_feather_is_read(tmp_path: Path) -> None:
    pyarrow.feather.write_feather(pa.Table.from_pylist(ROWS), str(tmp_path / "a.feather"))
    assert [row.values for row in open_source(tmp_path / "a.feather")] == ROWS


def test_an_arrow_bomb_is_refused_before_it_expands(tmp_path: Path) -> None:
    table = pa.table({"query": ["x" * 100_000_000], "response": ["y"]})
    path = tmp_path / "a.feather"
    pyarrow.feather.write_feather(table, str(path), compression="zstd")
    assert path.stat().st_size < 100_000
    with pytest.raises(InputError, match="expands more than 300-fold"):
        open_source(path)


@pytest.mark.parametrize("data", [arrow()[:200], b"ARROW1\0\0", b"\xff\xff\xff\xff\x10\0"])
def test_a_broken_arrow_file_is_an_error(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.arrow").write_bytes(data)
    with pytest.raises(InputError, match="not a readable Arrow file"):
        open_source(tmp_path / "a.arrow")


def zipped(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def test_an_archive_stands_for_its_files_in_natural_order(tmp_path: Path) -> None:
    members = {
        "run/10.jsonl": LINES,
        "run/2.parquet": parquet(),
        "run/3.arrow": arrow(),
        "run/4.csv": b"query,response\nHow many?,7\n",
        "run/5.jsonl.zst": pa.compress(LINES, "zstd", asbytes=True),
        "run/notes.txt": b"no",
        "run/metadata.json": b"{}",
        "__MACOSX/run/10.jsonl": b"no",
        "run/.hidden.jsonl": b"no",
    }
    path = zipped(tmp_path / "a.zip", members)
    files = expand_paths([tmp_path])
    assert [str(file) for file in files] == [
        str(path / f"run/{name}") for name in ("2.parquet", "3.arrow", "4.csv", "5.jsonl.zst", "10.jsonl")
    ]
    assert [sum(row.values is not None for row in open_source(file)) for file in files] == [5, 5, 1, 5, 5]
    assert [open_source(file).name for file in files][-1] == "a.zip/run/10.jsonl"


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_all_compressions_of_archives(tmp_path: Path, compression: int) -> None:
    (file,) = expand_paths([zipped(tmp_path / "a.zip", {"a.jsonl": LINES}, compression)])
    assert [row.values for row in open_source(file)] == ROWS


def test_names_that_lead_out_of_an_archive_are_only_names(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"../../up.jsonl": LINES, "b.jsonl": LINES})
    assert [str(file) for file in expand_paths([path])] == [str(path / "b.jsonl")]
    assert sorted(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"a.txt": b"no"}, "has no file of rollouts"),
        ({"a.zip": b"PK\x03\x04"}, "is an archive in an archive"),
        ({"a.jsonl": b"{}\n" * 20_000_000}, "expands more than 200-fold"),
        ({"a.jsonl": b""}, "is empty"),
        ({"archive/data.pkl": b"\x80\x02", "archive/version": b"3"}, "written by torch.save.*pickle_to_jsonl.py"),
    ],
)
def test_an_archive_without_rollouts_is_refused(tmp_path: Path, members: dict[str, bytes], message: str) -> None:
    path = zipped(tmp_path / "outer.zip", members)
    with pytest.raises(InputError, match=message):
        [list(open_source(file)) for file in expand_paths([path])]


def test_a_damaged_archive_is_an_error(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"a.jsonl": LINES * 50}, zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match="Bad CRC"):
        [list(open_source(file)) for file in expand_paths([path])]
    path.write_bytes(data[:500])
    with pytest.raises(InputError, match="not a readable zip archive"):
        expand_paths([path])


def test_a_member_that_is_missing_is_an_error(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"a.jsonl": LINES})
    with pytest.raises(InputError, match="has no file 'b.jsonl'; it has a.jsonl"):
        open_source(path / "b.jsonl")
    with pytest.raises(InputError, match="name a file in it: a.jsonl"):
        open_source(path)
