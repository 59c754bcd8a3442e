"""Data sets with responses; rows that match several shapes or none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from memstore.errors import InputError, RecordError
from memstore.records.rollouts import open_rollouts
from memstore.records.shapes.recognise import SHAPES, shape_of
from tests.memstore.records.shapes.reading import MATH, reasons, records, seen, write

SAYS = ("4 * 3\n#### 12", "4 + 3\n#### 7")
USER = {"role": "user", "content": "How many?"}
BOTH = [("How many?", "4 * 3", "12", "12", 1.0), ("How many?", "4 + 3", "7", "12", 0.0)]


def openr1(**further: Any) -> dict[str, Any]:
    return {
        "problem": "How many?", "solution": "12", "answer": "12", "problem_type": "Algebra", "source": "olympiads",
        "generations": list(SAYS), "correctness_math_verify": [True, False], "correctness_llama": [True, True],
        "finish_reasons": ["stop", "length"], "messages": [USER, {"role": "assistant", "content": SAYS[0]}], **further,
    }  # fmt: skip


def test_openr1_generations(tmp_path: Path) -> None:
    found = records(write(tmp_path / "a.jsonl", [openr1()]))
    assert [one[:3] for one in seen(found[:1])] == [BOTH[0][:3]]
    assert [(one.gold, one.reward, one.sample_index, one.finish_reason) for one in found] == [
        ("12", 1.0, 0, "stop"),
        ("12", 0.0, 1, "length"),
    ]


def test_openr1_without_verdicts(tmp_path: Path) -> None:
    rows = [openr1(correctness_math_verify=None, correctness_llama=None, finish_reasons=None)]
    assert [one.reward for one in records(write(tmp_path / "a.jsonl", rows))] == [None, None]


def test_openr1_that_datasets_wrote(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    from memstore.records.readers import expand_paths

    datasets.Dataset.from_list([openr1(), openr1()]).save_to_disk(str(tmp_path / "set"))
    (path,) = expand_paths([tmp_path / "set"])
    assert str(path).endswith(".arrow")
    assert [one.reward for one in records(Path(path))] == [1.0, 0.0] * 2


@pytest.mark.parametrize(
    "turns",
    [
        [{"from": "human", "value": "How many?"}, {"from": "gpt", "value": SAYS[0]}],
        [{"from": "system", "value": "Be brief."}, {"from": "user", "value": "How many?"},
         {"from": "assistant", "value": SAYS[0]}],
        [USER, {"role": "assistant", "content": SAYS[0]}],
    ],
)  # fmt: skip
def test_conversations(tmp_path: Path, turns: list[dict[str, str]]) -> None:
    rows = [{"conversations": turns, "answer": "12", "id": "0"}]
    assert seen(records(write(tmp_path / "a.jsonl", rows))) == [(*BOTH[0][:4], None)]


@pytest.mark.parametrize(
    ("turns", "reason"),
    [
        ([{"from": "human", "value": "How many?"}], "no reply to a user"),
        ([{"from": "narrator", "value": "Once"}], "the speaker 'narrator'"),
    ],
)
def test_conversations_without_a_reply(tmp_path: Path, turns: list[dict[str, str]], reason: str) -> None:
    assert reason in reasons(write(tmp_path / "a.jsonl", [{"conversations": turns}]))[0]


def test_instructions(tmp_path: Path) -> None:
    rows = [{"instruction": "Add.", "input": "3 and 4", "output": "#### 7"}]
    assert seen(records(write(tmp_path / "a.jsonl", rows))) == [("Add.\n3 and 4", "", "7", None, None)]


def test_a_table_of_weights_and_biases(tmp_path: Path) -> None:
    data = [["1", "How many?", text, float(n == 0)] for n, text in enumerate(SAYS)]
    row = {"columns": ["step", "prompt", "completion", "reward"], "data": [*data, ["1", None, None, None]]}
    path = write(tmp_path / "completions.table.json", [row])
    rows = list(open_rollouts(path, MATH))
    assert [row.values is not None for row in rows] == [True, True, True]
    assert (rows[0].values or {})["reward"] == 1.0


@pytest.mark.parametrize(
    ("row", "names"),
    [
        (
            {"input": "How many?", "output": "12", "prompt": "How many?", "completion": "7"},
            "'verl rollouts' and 'TRL, verifiers results'",
        ),
        (
            {"messages": [USER, {"role": "assistant", "content": "12"}], "prompt": "How many?", "response": "7"},
            "'messages' and 'question with response'",
        ),
        (
            {
                "messages": [USER, {"role": "assistant", "content": "12"}],
                "conversations": [{"from": "human", "value": "How many?"}, {"from": "gpt", "value": "7"}],
            },
            "'messages' and 'conversations'",
        ),
        (
            {"doc": {}, "resps": [], "arguments": {}, "custom_id": "a", "response": {}},
            "'lm-eval samples' and 'OpenAI batch output'",
        ),
    ],
)
def test_a_row_of_two_shapes_is_refused_with_both(row: dict[str, Any], names: str) -> None:
    with pytest.raises(RecordError) as error:
        shape_of(row)
    assert f"the row matches {names}" in str(error.value)
    assert "--map" in str(error.value)


def test_two_names_of_the_same_texts_are_no_contradiction(tmp_path: Path) -> None:
    row = {"messages": [USER, {"role": "assistant", "content": SAYS[0]}], "prompt": "How many?", "response": SAYS[0]}
    assert seen(records(write(tmp_path / "a.jsonl", [row]))) == [("How many?", "4 * 3", "12", None, None)]


def test_shapes_have_different_names_and_keys() -> None:
    assert len({shape.name for shape in SHAPES}) == len(SHAPES)
    assert all(shape.keys for shape in SHAPES)


def test_a_table_of_no_known_shape_names_its_columns(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"question": ["q"], "text": ["t"]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"those of a tool that docs/ingest.md lists, but has question, text"):
        open_rollouts(tmp_path / "a.parquet", MATH)
