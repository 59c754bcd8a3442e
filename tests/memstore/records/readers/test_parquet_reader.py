"""Reading Parquet files of all formats, in batches, and broken ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from memstore.errors import InputError
from memstore.records.readers import open_source
from memstore.records.record import RecordDefaults, parse_record


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
        open_source(path)


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
