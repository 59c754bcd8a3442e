"""Datasets for verl and TRL are read as files of queries."""

from __future__ import annotations

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
from memstore_rl.trainers.verl.data import DataPlan, write_data

USER = {"role": "user", "content": "What is 3 + 4?"}
SYSTEM = {"role": "system", "content": "Be brief."}
PROGRAM = "def f(x):\n    #### first double\n    return 2 * x"
EXPECTED = Question("What is 3 + 4?", "default", domain="math", gold="7")

READ: list[tuple[str, dict[str, Any], Question]] = [
    (
        "verl",
        {"data_source": "sums", "prompt": [USER], "ability": "math", "reward_model": {"ground_truth": "7"}},
        Question("What is 3 + 4?", "sums", domain="math", gold="7"),
    ),
    (
        "verl with a number as ground truth",
        {"prompt": [USER], "reward_model": {"style": "rule", "ground_truth": 7}},
        EXPECTED,
    ),
    (
        "verl without a label",
        {"data_source": "s", "prompt": [USER], "ability": "math", "reward_model": {"ground_truth": ""}},
        Question("What is 3 + 4?", "s", domain="math"),
    ),
    (
        "verl, marked as not labelled",
        {"prompt": [USER], "ability": "math", "reward_model": {"ground_truth": "7"}, "extra_info": {"labelled": False}},
        Question("What is 3 + 4?", "default", domain="math"),
    ),
    (
        "verl with an ability that is no domain",
        {"prompt": [USER], "ability": "arithmetic", "reward_model": {"ground_truth": "7"}},
        EXPECTED,
    ),
    (
        "verl with the split of its source; the index is no key, since each split counts from 0",
        {"prompt": [USER], "reward_model": {"ground_truth": "7"}, "extra_info": {"split": "test", "index": 3}},
        Question("What is 3 + 4?", "default", domain="math", gold="7", split="test"),
    ),
    (
        "verl with another name for validation",
        {"prompt": [USER], "reward_model": {"ground_truth": "7"}, "extra_info": {"split": "val"}},
        Question("What is 3 + 4?", "default", domain="math", gold="7", split="validation"),
    ),
    (
        "verl with a split that memstore does not define",
        {"prompt": [USER], "reward_model": {"ground_truth": "7"}, "extra_info": {"split": "aime"}},
        EXPECTED,
    ),
    (
        "verl without extra_info",
        {"prompt": [USER], "reward_model": {"ground_truth": "7"}, "extra_info": None},
        EXPECTED,
    ),
    ("TRL with text", {"prompt": "What is 3 + 4?", "solution": "7"}, EXPECTED),
    ("TRL with messages", {"prompt": [USER], "solution": "7"}, EXPECTED),
    ("TRL with a boxed solution", {"prompt": [USER], "solution": "3 + 4 = $\\boxed{7}$."}, EXPECTED),
    ("a solution as in GSM8K", {"prompt": "What is 3 + 4?", "answer": "We add.\n#### 7"}, EXPECTED),
    ("the answer counts before the solution", {"prompt": [USER], "answer": "7", "solution": "by adding"}, EXPECTED),
    ("a gold of our own name", {"prompt": [USER], "gold": "7", "answer": "8"}, EXPECTED),
    ("NaN as pandas writes it", {"prompt": [USER], "solution": "7", "data_source": float("nan")}, EXPECTED),
    (
        "TRL with a system message",
        {"prompt": [SYSTEM, USER], "solution": "7"},
        Question("What is 3 + 4?", "default", domain="math", gold="7", system="Be brief."),
    ),
    (
        "content in parts",
        {"prompt": [{"role": "user", "content": [{"type": "text", "text": "What is 3 + 4?"}]}], "solution": "7"},
        EXPECTED,
    ),
    (
        "a program with a comment of four #: no marked answer",
        {"prompt": "def f(x):", "solution": PROGRAM, "ability": "code"},
        Question("def f(x):", "default", domain="code", gold=PROGRAM),
    ),
    ("only a prompt", {"prompt": "Best?"}, Question("Best?", "default", domain="other")),
    (
        "a query of our own with a prompt: as before",
        {"query": "What is 3 + 4?", "prompt": "Say: What is 3 + 4?", "gold": "7"},
        Question("What is 3 + 4?", "default", domain="math", gold="7", prompt="Say: What is 3 + 4?"),
    ),
    (
        "a rollout of TRL counts as its query: as before",
        {"prompt": [USER], "completion": [{"role": "assistant", "content": "7"}], "memstore": 1.0},
        Question("What is 3 + 4?", "default", domain="other"),
    ),
]


@pytest.mark.parametrize(("row", "expected"), [case[1:] for case in READ], ids=[case[0] for case in READ])
def test_a_row_becomes_a_question(row: dict[str, Any], expected: Question, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n")
    assert questions(str(tmp_path / "a.jsonl")) == [expected]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": 7}, "a.jsonl:1: prompt must be text or a list of messages, not int"),
        ({"prompt": {"role": "user"}}, "a.jsonl:1: prompt must be text or a list of messages, not dict"),
        ({"prompt": [SYSTEM]}, "a.jsonl:1: prompt has no text of a user"),
        ({"prompt": "  "}, "a.jsonl:1: prompt has no text of a user"),
        ({"problem": "3 + 4?", "level": 1}, "a.jsonl:1: query is missing: .* but has problem, level"),
    ],
)
def test_a_row_without_a_query_is_reported(row: dict[str, Any], message: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(InputError, match=message):
        questions(str(tmp_path / "a.jsonl"))


def test_verl_data_is_read_back_with_its_ids_and_labels(tmp_path: Path) -> None:
    rows = [
        {"query": f"{number} + 1?", "gold": str(number + 1), "dataset": "sums", "query_id": f"s{number}"}
        for number in range(20)
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = queries_of_files([tmp_path / "a.jsonl"])
    write_data(source, tmp_path / "data", DataPlan(system="Be brief."))
    known = {query.id: query for query in source}
    for file in sorted((tmp_path / "data").glob("*.parquet")):
        table = pq.read_table(file)
        again = queries_of_files([file])
        rows_by_id = {info["query_id"]: info for info in table["extra_info"].to_pylist()}  # rows are repeated
        assert [query.id for query in again] == list(rows_by_id)
        for query, info in zip(again, rows_by_id.values(), strict=True):
            assert query == known[query.id]._replace(
                split=info["split"], gold=known[query.id].gold if info["labelled"] else None
            )
        assert {question.system for question in questions(str(file))} == {"Be brief."}
        write_data(
            again, tmp_path / f"again-{file.stem}", DataPlan(validation=0, test=0)
        ) if "train" in file.stem else None


def test_a_table_needs_a_query_or_a_prompt(tmp_path: Path) -> None:
    pq.write_table(pa.table({"problem": ["2?"]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="it needs query, or prompt, or input with output, but has problem"):
        questions(str(tmp_path / "a.parquet"))
