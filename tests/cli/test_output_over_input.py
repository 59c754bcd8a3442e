"""No verb overwrites the file that it reads, whichever name the output is given by."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROW = '{"query": "What is 1 + 2?", "response": "#### 3", "gold": "3"}\n'
ENDPOINT = ("--endpoint", "http://127.0.0.1:9", "--model", "m")


def same_name(file: Path) -> Path:
    return file


def symbolic_link(file: Path) -> Path:
    link = file.with_name("link.jsonl")
    link.symlink_to(file)
    return link


def hard_link(file: Path) -> Path:
    os.link(file, file.with_name("hard.jsonl"))
    return file.with_name("hard.jsonl")


def through_a_linked_folder(file: Path) -> Path:
    file.parent.with_name("folder").symlink_to(file.parent)
    return file.parent.with_name("folder") / file.name


def with_dots(file: Path) -> Path:
    return file.parent / ".." / file.parent.name / file.name


def output_of_score(file: Path, output: Path, memory: Path) -> tuple[Any, ...]:
    return ("score", file, "--output", output, "--memory", memory)


def output_of_score_as_ingested(file: Path, output: Path, memory: Path) -> tuple[Any, ...]:
    return ("score", file, "--as-ingested", "--output", output, "--memory", memory)


def output_of_rollout(file: Path, output: Path, memory: Path) -> tuple[Any, ...]:
    return ("rollout", file, "--output", output, *ENDPOINT)


def samples_of_grade(file: Path, output: Path, memory: Path) -> tuple[Any, ...]:
    return ("grade", file, "--samples", output)


def samples_over_the_compared_file(file: Path, output: Path, memory: Path) -> tuple[Any, ...]:
    other = file.with_name("other.jsonl")
    other.write_text(ROW)
    return ("grade", other, "--against", file, "--samples", output)


def rejects_of_ingest(file: Path, output: Path, memory: Path) -> tuple[Any, ...]:
    return ("ingest", file, "--rejects", output, "--memory", memory)


VERBS = [
    output_of_score,
    output_of_score_as_ingested,
    output_of_rollout,
    samples_of_grade,
    samples_over_the_compared_file,
    rejects_of_ingest,
]
NAMES = [same_name, symbolic_link, hard_link, through_a_linked_folder, with_dots]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("name", NAMES)
def test_an_input_is_not_overwritten(
    verb: Callable[..., tuple[Any, ...]],
    name: Callable[[Path], Path],
    memory: Path,
    tmp_path: Path,
    command: Callable[..., Any],
) -> None:
    (tmp_path / "data").mkdir()
    file = tmp_path / "data" / "rollouts.jsonl"
    file.write_text(ROW + "not JSON\n" if verb is rejects_of_ingest else ROW)
    before = file.read_bytes()
    done = command(*verb(file, name(file), memory))
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: ")
    assert "is an input, so the" in done.err
    assert len(done.err.splitlines()) == 1
    assert file.read_bytes() == before


def test_another_file_of_the_same_content_is_written(tmp_path: Path, command: Callable[..., Any]) -> None:
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_text(ROW)
    done = command("grade", tmp_path / "a.jsonl", "--samples", tmp_path / "b.jsonl")
    assert done.code == 0, done.err
    assert '"reward": 1.0' in (tmp_path / "b.jsonl").read_text()
