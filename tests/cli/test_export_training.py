"""`memstore export best` and `memstore export pairs`: options, output, exit codes."""

from __future__ import annotations

import json
from pathlib import Path

from .conftest import Command


def test_best_and_pairs(memory: Path, tmp_path: Path, command: Command) -> None:
    done = command("export", "best", tmp_path / "best.jsonl", "--best-of-n", 2, "--memory", memory, "--json")
    assert done.code == 0, done.err
    document = done.document
    rows = [json.loads(line) for line in (tmp_path / "best.jsonl").read_text(encoding="utf-8").splitlines()]
    assert document["rows"] == len(rows) == 2 * document["queries"]
    assert document["sources"] == {"ground_truth": len(rows)}
    assert document["left_out"] == {"no_reward": 32}
    assert {row["reward"] for row in rows} == {1.0}
    done = command("export", "pairs", tmp_path / "pairs", "--pairs-per-query", 3, "--min-gap", 0.9, "--memory", memory)
    assert done.code == 0, done.err
    first, second, third = done.out.splitlines()
    assert first.endswith(f" queries in {tmp_path / 'pairs'} (train {first.split()[0]})")
    assert second.startswith("rewards: ")
    assert third == "rollouts left out: 32 without a reward"
    assert (tmp_path / "pairs" / "README.md").is_file()


def test_options_reach_the_texts(memory: Path, tmp_path: Path, command: Command) -> None:
    style = ("--plain", "--prompt", r"Q: {query}\nA: ", "--completion", r"{thinking}\n= {answer}")
    choice = ("--dataset", "sums", "--split", "train", "--min-reward", 1, "--distinct", "answer")
    done = command("export", "best", tmp_path / "best.jsonl", *style, *choice, "--memory", memory)
    assert done.code == 0, done.err
    row = json.loads((tmp_path / "best.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert row["prompt"].startswith("Q: Anna has ")
    assert row["prompt"].endswith("?\nA: ")
    assert row["completion"].startswith("Attempt ")
    assert "\n= " in row["completion"]


def test_failures_and_wrong_usage(memory: Path, tmp_path: Path, command: Command) -> None:
    where = ("--memory", memory)
    assert command("export", "best", tmp_path / "best.csv", *where).code == 1
    done = command("export", "best", tmp_path / "best.jsonl", "--model", "m-0", *where)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: ")
    assert "it has none yet" in done.err
    assert command("export", "pairs", tmp_path / "pairs.jsonl", "--dataset", "none", *where).code == 1
    assert command("export", "pairs", tmp_path / "pairs.jsonl", "--min-gap", 0, *where).code == 1
    assert command("export", "best", tmp_path / "best.jsonl", "--best-of-n", 0, *where).code == 2
    assert command("export", "best", *where).code == 2
    assert list(tmp_path.iterdir()) == []
