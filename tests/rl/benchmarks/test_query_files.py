"""Files of queries as questions, and the errors for invalid files and names."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from memstore.errors import InputError
from memstore_rl.benchmarks import questions
from memstore_rl.benchmarks.queries import queries_of_files
from memstore_rl.benchmarks.question import Question

ROWS: list[dict[str, Any]] = [
    {"query": "2 + 2?", "gold": "4", "dataset": "sums", "query_id": "s1", "domain": "math", "split": "train"},
    {"query": "3 + 3?", "gold": "6", "dataset": "sums", "query_id": "s2", "domain": "math", "split": "test"},
    {"query": "Best?", "gold": None, "dataset": "talk", "query_id": None, "domain": "other", "split": None},
]
ASKED = [
    Question("2 + 2?", "sums", "s1", "math", "4", "train"),
    Question("3 + 3?", "sums", "s2", "math", "6", "test"),
    Question("Best?", "talk", None, "other"),
]


def lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def test_all_formats_give_the_same_questions(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines(ROWS))
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(lines(ROWS)))
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "c.parquet")
    for name in ("a.jsonl", "b.jsonl.gz", "c.parquet"):
        assert questions(str(tmp_path / name)) == ASKED


def test_only_the_query_is_required(tmp_path: Path) -> None:
    pq.write_table(pa.table({"query": ["def f(x):\n    pass"]}), tmp_path / "a.parquet")
    assert questions(str(tmp_path / "a.parquet")) == [Question("def f(x):\n    pass", "default", domain="code")]


def test_prompt_and_system_are_not_part_of_the_query(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines([{"query": "2?", "prompt": "Say 2?", "system": "Short."}]))
    found = questions(str(tmp_path / "a.jsonl"))[0]
    assert (found.text, found.prompt, found.system) == ("2?", "Say 2?", "Short.")


def test_rollouts_of_a_query_give_one_question(tmp_path: Path) -> None:
    rows = [{"query": "2?", "answer": answer, "reward": reward} for answer, reward in (("2", 1.0), ("3", 0.0))]
    (tmp_path / "a.jsonl").write_bytes(lines(rows))
    assert [question.text for question in questions(str(tmp_path / "a.jsonl"))] == ["2?"]


def test_a_limit_keeps_the_order_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines([{"query": f"{number}?"} for number in range(50)]))
    all_questions = questions(str(tmp_path / "a.jsonl"))
    some = questions(str(tmp_path / "a.jsonl"), limit=10)
    assert [all_questions.index(question) for question in some] == sorted(
        all_questions.index(question) for question in some
    )
    assert set(some) < set(questions(str(tmp_path / "a.jsonl"), limit=20))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "a.jsonl is empty"),
        (b"\n\n", "a.jsonl is empty"),
        (lines([{"question": "2?"}]), "a.jsonl:1: query is missing"),
        (lines([{"query": "2?"}, {"query": " "}]), "a.jsonl:2: query is empty"),
        (lines([{"query": "2?", "prompt": ["Say"]}]), "a.jsonl:1: prompt must be text"),
        (lines([{"query": "2?", "split": "dev"}]), "a.jsonl:1: split is 'dev'; it must be one of train"),
        (lines([{"query": "2?", "gold": "2"}, {"query": "2?", "gold": "3"}]), "a.jsonl:2: gold is '3', but an earlier"),
        (b"what is two?\n", "a.jsonl:1: the line is not JSON"),
    ],
)
def test_a_file_without_queries(tmp_path: Path, content: bytes, sentence: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(content)
    with pytest.raises(InputError, match=sentence):
        questions(str(tmp_path / "a.jsonl"))


@pytest.mark.parametrize("order", [1, -1])
def test_an_audit_mark_counts_more_than_another_split(tmp_path: Path, order: int) -> None:
    """A file of queries with splits and the file of a queue are passed together."""
    rows = [{"query": "2?", "split": "train", "gold": "2"}, {"query": "2?", "split": "Audit"}]
    (tmp_path / "a.jsonl").write_bytes(lines(rows[::order]))
    [found] = queries_of_files([tmp_path / "a.jsonl"])
    assert (found.split, found.gold) == ("audit", "2")
    (tmp_path / "a.jsonl").write_bytes(lines([{"query": "2?", "split": "train"}, {"query": "2?", "split": "test"}]))
    with pytest.raises(InputError, match=r"split is 'test', but an earlier row of the same query has 'train'"):
        queries_of_files([tmp_path / "a.jsonl"])


def test_a_table_without_queries(tmp_path: Path) -> None:
    pq.write_table(pa.table({"question": ["2?"]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="it needs query, or prompt, or input with output, but has question"):
        questions(str(tmp_path / "a.parquet"))


def test_a_missing_split_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines([{"query": "2?"}]))
    with pytest.raises(InputError, match=r"no questions of split test: its rows name no splits; leave out"):
        questions(str(tmp_path / "a.jsonl"), split="test")
    (tmp_path / "b.jsonl").write_bytes(lines([{"query": "2?", "split": "train"}]))
    with pytest.raises(InputError, match=r"no questions of split test: the split is empty"):
        questions(str(tmp_path / "b.jsonl"), split="test")


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("gms8k", "no benchmark or file 'gms8k'; did you mean gsm8k?"),
        ("HumanEval+", "did you mean humaneval_plus?"),
        ("arc-c", "did you mean arc_c?"),
        ("hellaswag", "`memstore datasets` lists the benchmarks"),
        ("nowhere/queries.jsonl", "no file nowhere/queries.jsonl; check its name"),
        ("nowhere.toml", "no file nowhere.toml; check its name"),
    ],
)
def test_unknown_names_and_files_are_reported(source: str, sentence: str) -> None:
    with pytest.raises(InputError) as raised:
        questions(source)
    assert sentence in str(raised.value)
