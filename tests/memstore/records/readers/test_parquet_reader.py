"""Reading Parquet files of all formats, in batches, and broken ones."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from memstore.errors import InputError
from memstore.records.readers import open_source, parquet
from memstore.records.readers.parquet import FREE_BYTES, MAX_RATIO
from memstore.records.record import RecordDefaults, parse_record
from memstore.records.shapes.recognise import TABLE_COLUMNS


def written(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    pq.write_table(pa.table(columns), path, **options)
    return path


def test_rows_in_order_over_row_groups_and_batches(tmp_path: Path) -> None:
    texts = [str(n) for n in range(5_001)]
    path = written(
        tmp_path / "a.parquet", {"query": texts, "answer": texts, "reward": [None] * 5_001}, row_group_size=700
    )
    source = open_source(path)
    assert (source.name, source.stem, source.size, source.position()) == ("a.parquet", "a", path.stat().st_size, 0)
    rows = list(source)
    assert [row.number for row in rows] == list(range(1, 5_002))
    assert [row.values for row in rows] == [{"query": text, "answer": text, "reward": None} for text in texts]
    assert source.position() == source.size
    assert len(list(source)) == 5_001


def test_the_content_decides_the_format_not_the_suffix(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", {"query": ["q"], "answer": ["a"]})
    assert [row.values for row in open_source(path)] == [{"query": "q", "answer": "a"}]


def test_trl_completions_with_messages(tmp_path: Path) -> None:
    columns = {
        "step": ["10", "10"],
        "prompt": [[{"role": "user", "content": "How many?"}]] * 2,
        "completion": [[{"role": "assistant", "content": f"9 * 2\n#### {n}"}] for n in (18, 17)],
        "accuracy": [1.0, 0.0],
        "advantage": [0.7, -0.7],
    }
    source = open_source(written(tmp_path / "completions_00010.parquet", columns))
    records = [parse_record(row.values or {}, RecordDefaults(domain="math")) for row in source]
    assert [(r.query, r.thinking, r.answer, r.reward, r.step) for r in records] == [
        ("How many?", "9 * 2", "18", 1.0, 10),
        ("How many?", "9 * 2", "17", 0.0, 10),
    ]


def test_types_that_json_lacks_are_stored_in_the_metadata(tmp_path: Path) -> None:
    columns = {"query": ["q"], "answer": [3], "when": pa.array([0], pa.timestamp("us", "UTC")), "blob": [b"x"]}
    (row,) = open_source(written(tmp_path / "a.parquet", columns))
    record = parse_record(row.values or {}, RecordDefaults())
    assert record.answer == "3"
    assert record.metadata == '{"blob": "b\'x\'", "when": "1970-01-01 00:00:00+00:00"}'


def test_a_row_that_cannot_be_converted_is_a_row_with_a_reason(tmp_path: Path) -> None:
    broken = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.array([0, 1, 2], pa.int32()).buffers()[1], pa.py_buffer(b"a\xff")]
    )
    path = written(tmp_path / "a.parquet", {"query": ["q", "q"], "answer": broken})
    good, bad = open_source(path)
    assert good.values == {"query": "q", "answer": "a"}
    assert (bad.number, bad.values) == (2, None)
    assert "cannot be read" in (bad.reason or "")


def test_a_table_without_the_required_columns_is_an_error(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", {"prompt": ["p"], "data_source": ["d"]})
    with pytest.raises(InputError, match=r"needs query with answer or response, .* but has data_source, prompt"):
        open_source(path, TABLE_COLUMNS)


def test_a_table_without_rows_is_an_error(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", {"query": pa.array([], pa.string()), "answer": pa.array([], pa.string())})
    with pytest.raises(InputError, match="is empty"):
        open_source(path)


def test_a_truncated_file_is_an_error(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", {"query": ["q"] * 100, "answer": ["a"] * 100})
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InputError, match="is not a readable Parquet file"):
        open_source(path)


def test_a_damaged_page_ends_the_rows_with_a_reason(tmp_path: Path) -> None:
    texts = [str(n) for n in range(5_000)]
    path = written(
        tmp_path / "a.parquet", {"query": texts, "answer": texts}, row_group_size=1_000, use_dictionary=False
    )
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle - 300 : middle + 300] = b"\xff" * 600
    path.write_bytes(data)
    *rows, last = open_source(path)
    assert [row.values for row in rows] == [{"query": text, "answer": text} for text in texts[: len(rows)]]
    assert last.values is None
    assert "damaged from this row on" in (last.reason or "")


LONG = "x" * 200_000


def repeated(short: int, long: int) -> pa.DictionaryArray:
    """A short text, then a long one, each repeated."""
    return pa.DictionaryArray.from_arrays(pa.array([0] * short + [1] * long, pa.int32()), pa.array(["q", LONG]))


BOMBS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    # One long text in a dictionary, at each depth.
    "repeated": ({"query": repeated(0, 2_500), "answer": ["a"] * 2_500}, {}),
    "in_messages": ({"messages": [[{"role": "user", "content": LONG}]] * 400}, {"compression": "zstd"}),
    "late": ({"query": repeated(3_000, 2_500), "answer": ["a"] * 5_500}, {}),
    # A page that compresses well.
    "one_value": ({"query": [LONG * 350], "answer": ["a"]}, {"compression": "zstd", "use_dictionary": False}),
    "zeros": ({"query": ["q"], "answer": ["a"], "logits": [np.zeros(9_000_000)]}, {"compression": "zstd"}),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_of_very_much_ends_within_a_bound(tmp_path: Path, name: str) -> None:
    columns, options = BOMBS[name]
    path = written(tmp_path / "a.parquet", columns, **options)
    assert path.stat().st_size < 200_000
    texts, reason = 0, None
    try:
        for row in open_source(path):
            texts += len(str(row.values))
            reason = row.reason
    except InputError as refused:
        reason = str(refused)
    assert "expands more than 300-fold" in (reason or "")
    assert "to_json" in (reason or "")
    assert texts < FREE_BYTES + MAX_RATIO * path.stat().st_size


@pytest.mark.parametrize("name", ["one_value", "zeros"])
def test_a_file_whose_footer_gives_too_much_is_refused_before_it_is_decoded(tmp_path: Path, name: str) -> None:
    columns, options = BOMBS[name]
    path = written(tmp_path / "a.parquet", columns, **options)
    with pytest.raises(InputError, match="expands more than 300-fold"):
        open_source(path)


@pytest.mark.parametrize(
    ("columns", "rows"),
    [
        ({"query": repeated(1_000, 100)}, 671),  # 128 MiB hold 671 of the long texts
        ({"query": repeated(1_000, 100), "thinking": repeated(1_000, 100)}, 335),
        ({"query": ["q"] * 1_100, "parts": [[{"text": LONG}, {"text": "t"}]] + [[{"text": "t"}] * 2] * 1_099}, 335),
        ({"query": ["q"] * 1_100}, 1_100),
    ],
)
def test_a_batch_has_as_many_rows_as_the_dictionaries_allow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: dict[str, Any], rows: int
) -> None:
    sizes: list[int] = []
    values = parquet.batch_rows
    monkeypatch.setattr(parquet, "batch_rows", lambda batch: sizes.append(batch.num_rows) or values(batch))
    path = written(tmp_path / "a.parquet", {**columns, "answer": ["a"] * 1_100})
    assert len(list(open_source(path))) == 1_100
    assert (max(sizes), sum(sizes)) == (pytest.approx(rows, abs=2), 1_100)


def test_a_dictionary_whose_header_cannot_be_read_counts_as_all_pages(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", {"query": repeated(9, 9), "answer": ["a"] * 18})
    column = pq.ParquetFile(path).metadata.row_group(0).column(0)
    with path.open("rb") as file:
        assert len(LONG) < parquet._dictionary_bytes(file, column) < len(LONG) + 100
    for data in (
        b"",
        b"\x15",
        b"\x15\x04\x15",
        b"\x15\xff",
        b"\x19\x04\x15\x02",
        b"\x15\x00\x15\x02",
        b"\x15\x04\x15\x01",
    ):
        header = io.BytesIO(b"\0" * column.dictionary_page_offset + data)
        assert parquet._dictionary_bytes(header, column) == column.total_uncompressed_size


TYPES = {
    "text": pa.array(["a", None, "b", "a"]),
    "large": pa.array(["a", None, "b", "a"], pa.large_string()),
    "view": pa.array(["a", None, "b", "a"], pa.string_view()),
    "binary": pa.array([b"a", None, b"\xff", b"a"]),
    "category": pa.array(["a", None, "b", "a"]).dictionary_encode(),
    "messages": pa.array([[{"role": "u", "content": "x"}], None, [], [{"role": "u", "content": None}] * 2]),
    "parts": pa.array([[{"c": [{"text": "t"}] * n}] for n in range(4)]),
    "struct": pa.array([{"a": "t", "b": {"c": "u"}}, None, {"a": None, "b": None}, {"a": "t", "b": {"c": None}}]),
    "map": pa.array([[("k", "v")], None, [], [("k", None), ("l", "v")]], pa.map_(pa.string(), pa.string())),
    "fixed": pa.array([["a", "b"], None, ["a", "a"], ["b", None]], pa.list_(pa.string(), 2)),
    "large_list": pa.array([["a"], None, [], ["a", "b"]], pa.large_list(pa.string())),
    "number": pa.array([1.5, None, 2.5, 1.5]),
    "decimal": pa.array([1, None, 2, 1], pa.decimal128(30, 2)),
    "null": pa.nulls(4),
}


@pytest.mark.parametrize("name", TYPES)
def test_every_type_is_read_with_and_without_dictionaries(tmp_path: Path, name: str) -> None:
    table = pa.table({"query": ["q"] * 4, "answer": ["a"] * 4, name: TYPES[name]})
    for coding in (True, False):
        path = written(tmp_path / "a.parquet", dict(zip(table.column_names, table.columns, strict=True)),
                       use_dictionary=coding, row_group_size=3)  # fmt: skip
        assert [row.values for row in open_source(path)] == pq.read_table(path).to_pylist()
