"""A row of another form than its tool writes is rejected with a reason; its other rollouts are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from memstore.errors import RecordError
from memstore.records.record import RecordDefaults
from memstore.records.rollouts import open_rollouts, read_row

HUGE = 10**400
"""An integer that no float can hold."""
REPLY = {"role": "assistant", "content": "7"}
SAMPLE = {"id": 1, "epoch": 1, "input": "How many?", "target": "7", "output": {"choices": [{"message": REPLY}]}}
NODES = [{"message": {"role": "user", "content": "How many?"}}, {"parent": 0, "sampled": True, "message": REPLY}]
TRACE = {"nodes": NODES, "task": {}, "rewards": {"right": 1.0}}
TURNS = [{"role": "user", "content": "How many?"}, {"finish_reason": "stop", "message": REPLY}]


def deep(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "row",
    [
        {"doc": {}, "resps": [["7"]], "arguments": {}},
        {**SAMPLE, "scores": {"match": {"value": HUGE}}},
        {**TRACE, "rewards": {"right": HUGE}},
        {**SAMPLE, "metadata": deep(940)},
        {"content": [["How many?", "7"], ["How many?", "8"]], "rewards": [1.0]},
    ],
)
def test_a_row_of_another_form_is_rejected(row: dict[str, Any]) -> None:
    with pytest.raises(RecordError, match="not its form|2 rollouts and 1 rewards"):
        read_row(row, RecordDefaults())


@pytest.mark.parametrize(
    ("row", "damaged"),
    [
        ({"eval": {}, "samples": [SAMPLE, {"id": 2}, {**SAMPLE, "id": 3}, 7]}, [2, 4]),
        ({"traces": [TRACE, {"nodes": 5}, TRACE], "task": {}}, [2]),
        ({"trajectories": [{"messages_and_choices": TURNS, "reward": 1.0}, {"messages_and_choices": TURNS}]}, [2]),
        ({"columns": ["prompt", "completion", 5], "data": [["a", "b", 1], ["a"], 7, ["a", "d", 2]]}, [2, 3]),
        ({"content": [["How many?", "7"], 5, ["How many?", "8"]], "rewards": [1.0, 1.0, 0.0]}, [2]),
        (
            {"custom_id": "a", "response": {"body": {"choices": [{"message": REPLY}, {"index": 1}]}}}
            | {"request": {"body": {"prompt": "How many?"}}},
            [2],
        ),
    ],
)
def test_a_damaged_part_of_a_row_does_not_cost_the_others(
    tmp_path: Path, row: dict[str, Any], damaged: list[int]
) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n")
    found = list(open_rollouts(tmp_path / "a.jsonl", RecordDefaults()))
    said = [row.reason for row in found if row.reason is not None]
    assert [reason.partition(" of the row has another form")[0] for reason in said] == [f"part {n}" for n in damaged]
    assert sum(row.values is not None for row in found) == len(found) - len(damaged) >= 1
