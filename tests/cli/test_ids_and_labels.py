"""Prefixes of ids, labels of many rollouts, limits of Cypher results, and deletion, by the command."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memstore_cli.output import print_table

QUERIES, ROLLOUTS = 40, 4
IDS = "MATCH (t:Thinking) WHERE t.reward IS NULL RETURN t.id AS id ORDER BY id LIMIT 3"
T1, T2 = "t-001363fd514c1cd41a41df07", "t-0013ffffffffffffffffffff"


@pytest.fixture
def copy(memory: Path, tmp_path: Path) -> Path:
    """A writable copy of the built memory."""
    return Path(shutil.copytree(memory, tmp_path / "copy"))


def rewards(command: Callable[..., Any], memory: Path, ids: list[str]) -> list[float | None]:
    query = f"MATCH (t:Thinking) WHERE t.id IN {json.dumps(ids)} RETURN t.reward AS reward ORDER BY t.id"
    return [row["reward"] for row in command("cypher", query, "--memory", memory, "--json").document]


def test_labels_of_several_rollouts(copy: Path, tmp_path: Path, command: Callable[..., Any]) -> None:
    ids = [row["id"] for row in command("cypher", IDS, "--memory", copy, "--json").document]
    short = [name[:14] for name in ids]
    done = command("label", *short[:2], "1", "--memory", copy, "--json")
    assert done.document == {"rollouts": 2, "changed": 2}
    assert rewards(command, copy, ids) == [1.0, 1.0, None]
    one = command("label", short[0], "null", "--memory", copy, "--json")
    assert one.document == {"id": ids[0], "reward": None, "changed": 1}
    assert "has no ground truth" in command("label", short[0], "null", "--memory", copy).out
    assert rewards(command, copy, ids) == [None, 1.0, None]

    (tmp_path / "a.csv").write_text(f"id,reward\n{ids[0]},0\n{short[1]},\n{ids[2]},0.5\n")
    assert "3 rollouts changed, 0 unchanged" in command("label", "--file", tmp_path / "a.csv", "--memory", copy).out
    assert rewards(command, copy, ids) == [0.0, None, 0.5]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"id": name, "reward": 1}) + "\n" for name in ids))
    refused = command("label", "--file", tmp_path / "a.jsonl", "--memory", copy)
    assert (refused.code, refused.out) == (1, "")
    assert "--replace" in refused.err
    assert command("label", "--file", tmp_path / "a.jsonl", "--replace", "--memory", copy).code == 0
    assert rewards(command, copy, ids) == [1.0, 1.0, 1.0]


WRONG = [
    (("label", "t-zzz", "1"), 1, "the memory has no rollout with the id 't-zzz'"),
    (("label", "t-", "1"), 1, "160 rollouts have an id that begins with 't-'"),
    (("label", "q-123", "1"), 1, "'q-123' is the id of a query, not of a rollout"),
    (("label", "t-1", "t-2", "many"), 2, "REWARD is 'many'; pass a number from 0"),
    (("label", "t-1", "2"), 1, "it must lie between 0"),
    (("label", "t-1"), 2, "pass one id or more, then the reward"),
    (("label",), 2, "pass ids and a reward, or --file FILE"),
    (("label", "--file", "{csv}"), 1, "labels.csv:1: the header has id, score; it needs the columns id and reward"),
    (("label", "--file", "{none}"), 1, "cannot read"),
    (("cypher", "--query", "why", "--param", "rollout=t-"), 1, "160 rollouts have an id that begins with 't-'"),
    (("cypher", "--query", "why", "--param", "rollout=t-zzz"), 1, "no rollout with the id 't-zzz'"),
    (("cypher", "--query", "propagation", "--param", "node=t-"), 1, "160 rollouts have an id that begins with 't-'"),
    (("cypher", "--query", "votes", "--param", "query=q-"), 1, "40 queries have an id that begins with 'q-'"),
    (("delete",), 2, "pass --run, --dataset or both, or else --namespace"),
    (("delete", "--run", "first", "--namespace", "default"), 2, "or else --namespace"),
    (("delete", "--run", "fist"), 1, "the memory has no run 'fist'; did you mean 'first'?"),
    (("delete", "--namespace", "other"), 1, "is in the namespace 'default', not 'other'"),
]


@pytest.mark.parametrize(("words", "code", "message"), WRONG, ids=[" ".join(case[0]) for case in WRONG])
def test_wrong_use_is_one_sentence(
    words: tuple[str, ...], code: int, message: str, memory: Path, tmp_path: Path, command: Callable[..., Any]
) -> None:
    (tmp_path / "labels.csv").write_text("id,score\nt-1,1\n")
    names = {"{csv}": str(tmp_path / "labels.csv"), "{none}": str(tmp_path / "none.csv")}
    done = command(*(names.get(word, word) for word in words), "--memory", memory)
    assert (done.code, done.out) == (code, "")
    assert message in done.err
    assert len(done.err.splitlines()) == 1


def test_a_prefix_names_a_query_of_a_named_query(memory: Path, command: Callable[..., Any]) -> None:
    query = command("cypher", "MATCH (q:Query) RETURN q.id AS id ORDER BY id", "--memory", memory, "--json").document
    words = ("cypher", "--query", "history", "--memory", memory, "--json")
    whole = command(*words, "--param", f"query={query[0]['id']}").document
    assert whole
    assert command(*words, "--param", f"query={query[0]['id'][:12]}").document == whole


ALL = "MATCH (t:Thinking) RETURN t.id AS id ORDER BY id"
LIMITS = [
    ((ALL,), 50, "a table shows 50 rows"),
    ((ALL, "--json"), 160, "JSON has all"),
    ((ALL, "--limit", 2), 2, ""),
    ((ALL, "--limit", 2, "--json"), 2, ""),
    ((ALL, "--limit", 2, "--format", "csv"), 2, ""),
    (("--query", "votes"), 20, "the query's own limit"),
    (("--query", "votes", "--limit", 30), 30, "more than the query's own limit"),
    (("--query", "votes", "--limit", 30, "--json"), 30, ""),
    (("--query", "votes", "--limit", 2, "--format", "csv"), 2, ""),
    (("--query", "votes", "--param", "limit=55"), 55, "more than a table shows otherwise"),
    (("--query", "votes", "--param", "limit=30", "--limit", 3), 3, "the smaller one"),
]


@pytest.mark.parametrize(("words", "rows"), [case[:2] for case in LIMITS], ids=[str(case[0]) for case in LIMITS])
def test_a_limit_counts_in_every_format(
    words: tuple[Any, ...], rows: int, memory: Path, command: Callable[..., Any]
) -> None:
    done = command("cypher", *words, "--memory", memory)
    assert done.code == 0, done.err
    extra = {"--json": None, "csv": 1}.get(str(words[-1]), 3)  # a header; with a table also a rule and the count
    assert (len(done.document) if extra is None else len(done.out.splitlines()) - extra) == rows


def test_the_query_is_read_from_standard_input(
    memory: Path, command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("MATCH (q:Query)\nRETURN count(q) AS n\n"))
    assert command("cypher", "-", "--memory", memory, "--json").document == [{"n": QUERIES}]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    empty = command("cypher", "-", "--memory", memory)
    assert (empty.code, empty.out) == (2, "")
    assert "the query is empty" in empty.err


def test_ids_are_whole_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("id", "text", "other", "model"), [(T1, "x" * 300, T2, "m-0123456789abcdef")])
    out = capsys.readouterr().out
    assert all(name in out for name in (T1, T2, "m-0123456789abcdef"))
    assert "…" in out, "texts are still shortened"
    print_table([f"id{number}" for number in range(9)], [[T1] * 9])
    assert capsys.readouterr().out.count(T1) == 9, "the table is wider than its usual width"


def test_ids_are_shortened_last_in_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    print_table(("id", "text"), [(T1, "x" * 300)])
    assert T1 in capsys.readouterr().out
    print_table(("id", "other", "third"), [(T1, T2, T1)])
    out = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert max(map(len, out.splitlines())) <= 60
    assert T1 not in out


def test_head_ends_the_command_quietly(memory: Path) -> None:
    memstore = Path(sys.executable).with_name("memstore")
    line = f"'{memstore}' cypher --list | head -2; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=200, check=True)
    assert done.stdout.splitlines()[2] in ("0", "141")
    assert done.stderr == ""


def test_delete(copy: Path, command: Callable[..., Any]) -> None:
    dry = command("delete", "--run", "first", "--dry-run", "--memory", copy, "--json").document
    assert (dry["dry_run"], dry["rollouts"], dry["queries"]) == (True, QUERIES * ROLLOUTS, QUERIES)
    shown = command("delete", "--dataset", "sums", "--dry-run", "--memory", copy).out
    assert shown.startswith(f"would delete {QUERIES * ROLLOUTS} rollouts (128 with a ground truth), {QUERIES} queries")
    assert command("stats", "--memory", copy, "--json").document["queries"] == QUERIES
    done = command("delete", "--dataset", "sums", "--memory", copy)
    assert done.code == 0, done.err
    assert done.out.startswith(f"deleted {QUERIES * ROLLOUTS} rollouts")
    assert command("stats", "--memory", copy, "--json").document["queries"] == 0
    assert command("verify", "--memory", copy).code == 0


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completion_is_printed(shell: str, command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    done = command("--show-completion", shell)
    assert done.code == 0, done.err
    assert "_MEMSTORE_COMPLETE" in done.out


def test_verbs_are_completed(process: Callable[..., Any]) -> None:
    words = {"_MEMSTORE_COMPLETE": "complete_bash", "COMP_WORDS": "memstore sna", "COMP_CWORD": "1"}
    done = process(env={**os.environ, **words})
    assert (done.code, done.out.split()) == (0, ["snapshot"])
