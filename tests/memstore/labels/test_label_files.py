"""Files of labels: CSV, JSON lines and JSON of Label Studio, in both directions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from memstore.errors import InputError
from memstore.labels.answers import AnswerVerdict
from memstore.labels.export import export_labels
from memstore.labels.files import read_labels
from memstore.labels.label_studio import NONE, annotation, task
from memstore.memory import Memory
from memstore.testing.doubles.embedder import HashEmbedder
from tests.memstore.labels.conftest import CODE, SUM
from tests.memstore.labels.test_label_answers import labels


def test_rows_of_csv_and_json_lines(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('query,answer,reward\nsum,4,right\nsum,"5",wrong\nsum,6,\nsum,,0\n')
    rows = [
        {"query_id": "sum", "query": "text", "answer": 4, "reward": True},
        {"query": "x", "answer": "5", "reward": 0.5},
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    csv = read_labels(tmp_path / "a.csv")
    assert [row[:3] for row in csv.answers] == [
        ("sum", "4", 1.0),
        ("sum", "5", 0.0),
        ("sum", "6", None),
        ("sum", None, 0.0),
    ]
    assert csv.answers[1].where == f"{tmp_path / 'a.csv'}:3: "
    found = read_labels(tmp_path / "a.jsonl")
    assert [row[:3] for row in found.answers] == [("sum", "4", 1.0), ("x", "5", 0.5)]


def with_result(*parts: Any) -> str:
    return json.dumps([{"data": {"query_id": "sum", "query": SUM}, "annotations": [{"result": list(parts)}]}])


BAD = {
    "both kinds in a row": ('{"id": "t-1", "query": "q", "answer": "4", "reward": 1}', ":1: a row labels a rollout"),
    "both kinds in a file": ("id,query,answer,reward\nt-1,,,1\n,sum,4,1\n", ":3: the file labels both rollouts"),
    "no answer": (
        "query,reward\nsum,1\n",
        ":2: a verdict on an answer needs `query`, `answer` and `reward`",
    ),
    "no reward": ("id\nt-1\n", ":2: a row needs `id` and `reward`, but has id"),
    "reward is a word": ("id,reward\nt-1,good\n", ":2: the reward is 'good'; pass a number"),
    "reward is too large": ("query,answer,reward\nsum,4,2\n", ":2: the reward is 2; it must lie between 0 and 1"),
    "unfilled": ("query,answer,reward\nsum,,\n", ":2: `answer` and `reward` are both empty; fill them in"),
    "empty": ("id,reward\n", "has no labels; it needs the columns"),
    "not JSON": ('{"id": "t-1", "reward": 1}\n{"id"\n', ":2: not JSON"),
    "broken JSON of Label Studio": ('[{"data": ', "is not JSON of Label Studio"),
    "not a task": ("[1]", "task 1: its data have neither"),
    "no query": ('[{"data": {"text": "x"}}]', "task 1: its data have neither `query_id` nor `query`"),
    "annotations are no list": ('[{"data": {"query": "x"}, "annotations": {"a": 1}}]', "task 1: `annotations` is not"),
    "no annotation": ('[{"data": {"query": "x"}}]', "has no annotation with a choice"),
    "no list of choices": (with_result({"from_name": "right", "value": {"text": "4"}}), "has no list of choices"),
    "none and an answer": (
        with_result({"from_name": "right", "value": {"choices": [NONE, "4"]}}),
        "both 'none of these' and an answer",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_one_sentence(name: str, tmp_path: Path) -> None:
    content, message = BAD[name]
    (tmp_path / "labels").write_text(content)
    with pytest.raises(InputError) as caught:
        read_labels(tmp_path / "labels")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        read_labels(tmp_path / "none.csv")


def test_label_studio_choices_become_verdicts(tmp_path: Path) -> None:
    cancelled = annotation(["5"], []) | {"was_cancelled": True}
    tasks = [
        task("sum", SUM, ["4", "5"]) | {"annotations": [annotation(["4"], ["5"], "ana"), cancelled]},
        task("product", "", ["9"]) | {"annotations": [annotation([NONE], [])]},
        task("code", CODE, ["a"]) | {"annotations": []},
    ]
    (tmp_path / "tasks.json").write_text(json.dumps(tasks))
    assert [row[:3] for row in read_labels(tmp_path / "tasks.json").answers] == [
        ("sum", "4", 1.0),
        ("sum", "5", 0.0),
        ("product", None, 0.0),
    ]


@pytest.mark.parametrize("name", ["labels.jsonl", "labels.json"])
def test_an_export_labels_a_copy_alike(memory: Memory, tmp_path: Path, name: str) -> None:
    memory.label_answers([AnswerVerdict("sum", "4", 1.0)], by="ana")
    memory.label_answers([AnswerVerdict("code", "def f():\n    return 3", 0.0)], by="bo")
    memory.label_answers([AnswerVerdict("product", "6", 0.0)])
    done = export_labels(memory.stores, tmp_path / name)
    assert (done.queries, done.answers, done.left_out) == (3, 5, 1)  # the rollout without an answer is left out
    with Memory.open(tmp_path / "copy", create=True, embedder=HashEmbedder()) as copy:
        copy.ingest([tmp_path / "rows.jsonl"])
        copy.label_answers(read_labels(tmp_path / name).answers)
        assert labels(copy, SUM) == labels(memory, SUM)
        assert labels(copy, CODE) == labels(memory, CODE)


def test_an_export_says_who_labelled(memory: Memory, tmp_path: Path) -> None:
    memory.label_answers([AnswerVerdict("sum", "4", 1.0)], by="ana")
    export_labels(memory.stores, tmp_path / "labels.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "labels.jsonl").read_text().splitlines()]
    assert {(row["answer"], row["reward"], row["source"], row["by"]) for row in rows} == {
        ("4", 1.0, "person", "ana"),
        ("5", 0.0, "person", "ana"),
        ("6", 0.0, "person", "ana"),
    }
    assert all(row["at"] for row in rows)
    memory.undo_labels()
    with pytest.raises(InputError, match="the memory has no verdict to export"):
        export_labels(memory.stores, tmp_path / "labels.jsonl")
    with pytest.raises(InputError, match="name a file in an existing folder"):
        export_labels(memory.stores, tmp_path / "nowhere" / "labels.jsonl")
