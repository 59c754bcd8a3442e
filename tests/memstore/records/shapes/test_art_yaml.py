"""ART's trajectories as YAML, as its version 0.3 wrote them."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import yaml

from memstore.records.preview import preview
from memstore.records.readers import expand_paths, skipped_files
from tests.memstore.records.shapes.reading import MATH, reasons, records, seen

SYSTEM = {"role": "system", "content": "Count."}
USER = {"role": "user", "content": "How many?\n\n- apples: 3\n- pears: 4"}
PYTHON = {"when": ("a", "b")}
"""A tuple, which YAML of Python has a tag for."""


def choice(text: str) -> dict[str, Any]:
    """A choice of OpenAI's client, as its `to_dict` writes it."""
    return {"finish_reason": "stop", "index": 0, "message": {"content": text, "role": "assistant"}}


def trajectory(reward: float, *items: dict[str, Any], **further: Any) -> dict[str, Any]:
    """`trajectory_to_dict` of ART."""
    state = {"metrics": {"turns": 1}, "metadata": {}, "logs": []}
    return {"reward": reward, **state, "messages_and_choices": list(items), **further}


def group(*trajectories: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    """`trajectory_group_to_dict` of ART."""
    return {"trajectories": list(trajectories), "metadata": metadata}


def write(path: Path, *groups: dict[str, Any]) -> Path:
    """`serialize_trajectory_groups` of ART: the messages that trajectories share become aliases."""
    path.write_text(yaml.dump(list(groups)))
    return path


RIGHT = trajectory(1.0, SYSTEM, USER, choice("4 + 3\n#### 7"))
WRONG = trajectory(0.0, SYSTEM, USER, choice("#### 12"))


def test_the_groups_of_a_file(tmp_path: Path) -> None:
    tool = {"role": "tool", "content": "3 apples", "tool_call_id": "c"}
    long = trajectory(0.5, SYSTEM, USER, choice("Let me look."), tool, choice("4 + 3\n#### 7"))
    path = write(tmp_path / "0001.yaml", group(RIGHT, WRONG, scenario="s" * 5_000), group(long, seed=3))
    assert "*id001" in path.read_text()
    query = USER["content"]
    assert seen(records(path))[:2] == [(query, "4 + 3", "7", None, 1.0), (query, "", "12", None, 0.0)]
    third = records(path)[2]
    assert (third.query, third.thinking, third.answer, third.reward) == (query, "Let me look.\n4 + 3", "7", 0.5)
    (shown,) = preview([path], MATH)
    assert (dict(shown.shapes), shown.rollouts, shown.rejected) == ({"ART group": 2}, 3, 0)


def test_what_cannot_be_read_of_a_group_leaves_the_others(tmp_path: Path) -> None:
    python = trajectory(1.0, USER, choice("7"), metadata=PYTHON)
    path = write(tmp_path / "a.yaml", group(python), group(), group(WRONG))
    assert "!!python/tuple" in path.read_text()
    (shown,) = preview([path], MATH)
    assert (shown.rollouts, shown.rejected) == (1, 2)
    assert shown.reasons == [
        "1: the item has a value that is not read: the tag '!!python/tuple'",
        "25: the group has no trajectory: all of them raised",
    ]


def test_text_that_looks_like_other_values_stays_text(tmp_path: Path) -> None:
    texts = ["no", "1_000", "12:30:45", "2026-12-01", "", "~", "- a: 1\n- b", "\u2028 ü 'x' \"y\"\t", "1" * 5_000]
    groups = [group(trajectory(1.0, USER, choice(f"{text}\n#### 7"))) for text in texts]
    found = records(write(tmp_path / "a.yaml", *groups))
    assert [item.thinking for item in found] == [text.strip() for text in texts]
    metadata = {"day": "2026-12-01", "flag": "no"}
    (row,) = records(write(tmp_path / "b.yaml", group(trajectory(1, USER, choice("7"), metadata=metadata))))
    assert row.reward == 1.0


def test_other_lists_of_rollouts_and_several_documents(tmp_path: Path) -> None:
    path = tmp_path / "a.yml"
    rows = [{"query": "2 + 3?", "answer": "5", "thinking": "", "reward": reward} for reward in (1.0, None)]
    path.write_text("---\n" + yaml.safe_dump_all([rows, rows[0]], sort_keys=False))
    assert seen(records(path)) == [("2 + 3?", "", "5", None, reward) for reward in (1.0, None, 1.0)]
    packed = tmp_path / "b.yaml.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert len(records(packed)) == 3


def test_a_folder_has_files_of_groups_and_settings(tmp_path: Path) -> None:
    first = write(tmp_path / "2.yaml", group(RIGHT))
    second = write(tmp_path / "10.yaml", group(WRONG))
    (tmp_path / "config.yaml").write_text("model:\n  name: qwen\n")
    (tmp_path / "overrides.yaml").write_text("- model=qwen\n")
    assert expand_paths([tmp_path]) == [first, second]
    assert {file.name for file in skipped_files([tmp_path])} == {"config.yaml", "overrides.yaml"}


def test_reading_ends_at_a_syntax_error_after_the_groups_before_it(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", group(RIGHT))
    lines = path.read_text().count("\n")
    with path.open("a") as file:
        file.write("- trajectories: [\n")
    assert len(preview([path], MATH)[0].records) == 1
    (reason,) = reasons(path)
    assert reason.startswith("the file is not YAML from this item on: ")
    assert reason.endswith(f"(line {lines + 2}); reading ended here")
