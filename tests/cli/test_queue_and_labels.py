"""`memstore queue`, and `memstore label` by query and answer."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]
UNLABELLED = 8
"""Queries of the built memory without a label."""


@pytest.fixture
def copy(memory: Path, tmp_path: Path) -> Path:
    """A writable copy of the built memory."""
    return Path(shutil.copytree(memory, tmp_path / "copy"))


def labelled(command: Command, memory: Path) -> int:
    return int(command("stats", "--memory", memory, "--json").document["labelled_thinkings"])


def test_a_queue_is_made_labelled_and_undone(
    copy: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = labelled(command, copy)
    made = command("queue", "--limit", "5", "--memory", copy, "--json").document
    assert [item["purpose"] for item in made["items"]].count("audit") == 1
    assert (made["marked"], made["criterion"], made["p_from"]) == (1, "training", "votes")
    shown = command("queue", "--limit", "5", "--memory", copy)
    assert "5 queries, 1 for audit; probabilities from votes" in shown.out
    for item in made["items"]:
        assert item["query_id"] in shown.out
        assert item["reason"] in shown.out
    file = tmp_path / "queue.jsonl"
    command("queue", "--limit", "5", "-o", file, "--memory", copy)
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert [row["query_id"] for row in rows] == [item["query_id"] for item in made["items"]]

    monkeypatch.setattr("sys.stdin", io.StringIO("1\ns\n0\nx9\nq\n"))
    done = command("label", "--queue", file, "--by", "ana", "--memory", copy)
    assert (done.code, done.out.strip()) == (0, "2 verdicts given")
    assert "error: there is no answer 9" in done.err
    assert labelled(command, copy) == before + 8
    undone = command("label", "--undo", "--memory", copy, "--json").document
    assert (undone["by"], undone["rollouts"]) == ("ana", 4)
    assert labelled(command, copy) == before + 4


def test_the_last_verdict_of_a_queue_can_be_undone(
    copy: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = labelled(command, copy)
    file = tmp_path / "queue.jsonl"
    command("queue", "--limit", "1", "--audit", "0", "-o", file, "--memory", copy)
    monkeypatch.setattr("sys.stdin", io.StringIO("0\nu\n0\nq\n"))
    done = command("label", "--queue", file, "--memory", copy)
    assert (done.code, done.out.strip()) == (0, "1 verdict given")
    assert done.err.count("the queue has ended: u undo the last verdict, q quit") == 2
    assert "undone: 4 rollouts" in done.err
    assert labelled(command, copy) == before + 4


def test_a_removal_is_reported_as_one(copy: Path, command: Command) -> None:
    answer = ("label", "--query", "sum-35", "--answer", "118")
    made = command(*answer, "right", "--memory", copy, "--json").document
    done = command(*answer, "null", "--memory", copy)
    assert f": {made['changed']} labels removed, 0 unchanged; undo it with" in done.out
    command("label", "--undo", "--memory", copy)
    command("label", "--undo", "--memory", copy)
    done = command("label", "--undo", "--memory", copy)
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "no batch of labels can be undone: all are undone already" in done.err


@pytest.mark.parametrize("suffix", ["jsonl", "json"])
def test_labels_by_answer_exported_and_read_again(copy: Path, tmp_path: Path, command: Command, suffix: str) -> None:
    before = labelled(command, copy)
    done = command("label", "--query", "sum-35", "--answer", "118", "right", "--by", "bo", "--memory", copy)
    assert done.out.startswith("1 answer of 1 query: 0 rollouts") or "rollouts labelled" in done.out, done.err
    file = tmp_path / f"labels.{suffix}"
    exported = command("label", "--export", file, "--memory", copy, "--json").document
    assert exported["queries"] == 33
    command("label", "--undo", "--memory", copy)
    assert labelled(command, copy) == before
    read = command("label", "--file", file, "--memory", copy)
    assert (read.code, labelled(command, copy)) == (0, before + 4)
    assert re.search(rf"undo it with: memstore label --undo l-\w+ --memory {re.escape(str(copy))}\n", read.out)


WRONG = [
    (("label", "--file", "{mixed}"), 1, "mixed.csv:3: the file labels both rollouts"),
    (("label", "--file", "{broken}"), 1, "is not JSON of Label Studio"),
    (("label", "--query", "sum-35", "--answer", "7", "1"), 1, "gives the answer '7'; its answers are '118'"),
    (("label", "--query", "sum-99", "--answer", "7", "1"), 1, "no query with the id 'sum-99'"),
    (("label", "--query", "sum-00", "--answer", "13", "0"), 1, "the answer '13' of the query q-"),
    (("label", "--query", "sum-35", "1"), 2, "pass --query, --answer and one reward"),
    (("label", "--query", "", "--answer", "7", "1"), 1, "the query is empty; name it by its id, its key or its text"),
    (("label", "--undo"), 1, "no batch of labels can be undone"),
    (("label", "--undo", "--file", "x.csv"), 2, "pass one of --query"),
    (("label", "--queue", "{mixed}"), 1, "pass a file of `memstore queue -o FILE`"),
    (("queue", "--model", "m-1"), 1, "queries for training are chosen by votes"),
    (("queue", "--for", "luck"), 2, "'luck' is not one of 'training', 'pages'"),
    (("queue", "-o", "nowhere/queue.jsonl"), 1, "name a file in an existing folder"),
]


@pytest.mark.parametrize(("words", "code", "message"), WRONG, ids=[" ".join(case[0]) for case in WRONG])
def test_wrong_use_is_one_sentence(
    words: tuple[str, ...], code: int, message: str, copy: Path, tmp_path: Path, command: Command
) -> None:
    files = {"mixed": tmp_path / "mixed.csv", "broken": tmp_path / "broken.json"}
    files["mixed"].write_text("id,query,answer,reward\nt-1,,,1\n,sum-35,118,1\n")
    files["broken"].write_text('[{"data": ')
    before = labelled(command, copy)
    done = command(*(word.format(**files) for word in words), "--memory", copy)
    assert (done.code, done.out) == (code, "")
    assert message in done.err
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert labelled(command, copy) == before


def test_nothing_is_left_to_label(tmp_path: Path, command: Command) -> None:
    row = {"query": "1 + 1?", "domain": "math", "answer": "2", "reward": 1.0}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    command("ingest", tmp_path / "rows.jsonl", "--memory", tmp_path / "memory")
    done = command("queue", "--memory", tmp_path / "memory")
    assert (done.code, done.out) == (1, "")
    assert "no query is left to label" in done.err
