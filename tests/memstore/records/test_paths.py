"""Values at paths that the user chose, for rows that have no known shape."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from memstore.errors import InputError
from memstore.records.paths import parse_paths, value_at
from memstore.records.record import Record, RecordDefaults, parse_record
from memstore.records.rollouts import open_rollouts

ROW = {
    "doc": {"q": "How many?", "gold": 12},
    "outs": [{"text": "4 + 3\n#### 7"}, {"text": "4 * 3\n#### 12"}],
    "score": 0.5,
    "a.b": {"c": "dotted"},
    "chat": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "How many?"}],
    "reply": [{"role": "assistant", "content": "#### 12"}, {"role": "tool", "content": "99"}],
}


def read(tmp_path: Path, paths: str, *rows: dict[str, Any]) -> list[Record]:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows or (ROW,)))
    defaults = RecordDefaults(domain="math", paths=parse_paths(paths))
    return [parse_record(row.values, defaults) for row in open_rollouts(path, defaults) if row.values is not None]


def test_paths_lead_through_keys_and_positions(tmp_path: Path) -> None:
    (found,) = read(tmp_path, "query=doc.q, response=outs.-1.text, gold=doc.gold, reward=score")
    assert (found.query, found.thinking, found.answer, found.gold, found.reward) == (
        "How many?",
        "4 * 3",
        "12",
        "12",
        0.5,
    )
    assert found.metadata is None


def test_messages_become_texts(tmp_path: Path) -> None:
    (found,) = read(tmp_path, "query=chat,response=reply")
    assert (found.query, found.answer, found.gold) == ("How many?", "12", None)


def test_a_mapped_answer_is_the_rollouts_own(tmp_path: Path) -> None:
    (found,) = read(tmp_path, "query=doc.q,answer=doc.gold,response=outs.0.text")
    assert (found.answer, found.gold) == ("12", None)


def test_a_known_shape_is_read_by_the_paths_if_there_are_any(tmp_path: Path) -> None:
    row = {"prompt": "templated", "completion": "#### 7", "question": "How many?"}
    assert read(tmp_path, "query=question,response=completion", row)[0].query == "How many?"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("a.b.c", "dotted"),
        ("outs.0.text", "4 + 3\n#### 7"),
        *((path, None) for path in ("outs.2", "score.x", "outs.x", "outs.--1", "outs.-", "outs.²")),
    ],
)
def test_a_value_at_a_path(path: str, value: object) -> None:
    assert value_at(ROW, path) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("query", "'query', which is not KEY=PATH"),
        ("query=", "not KEY=PATH"),
        ("query=a,text=b", "the key 'text', but a rollout has answer, "),
        ("query=a,query=b,response=c", "two paths for query; keep one of them"),
        ("query=a", "needs query=PATH and response=PATH"),
        ("response=a", "needs query=PATH"),
    ],
)
def test_a_wrong_option_is_an_error(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_paths(text)


def test_a_path_that_no_row_has_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        read(tmp_path, "query=doc.q,response=texts.0")
    assert "no row of a.jsonl has 'texts.0', which --map names for response; the rows have the keys doc" in str(
        error.value
    )


def test_a_path_that_some_rows_lack_is_missing_there(tmp_path: Path) -> None:
    other = {key: value for key, value in ROW.items() if key != "score"}
    first, second = read(tmp_path, "query=doc.q,response=outs.0.text,reward=score", ROW, other)
    assert (first.reward, second.reward) == (0.5, None)
    defaults = replace(RecordDefaults(), paths={"query": "doc.q", "response": "outs.0.text"})
    (tmp_path / "b.jsonl").write_text(json.dumps(ROW) + '\n{"outs": []}\n')
    assert [row.reason for row in open_rollouts(tmp_path / "b.jsonl", defaults)] == [
        None,
        "the row has nothing at 'doc.q' (query); it has the keys outs",
    ]
