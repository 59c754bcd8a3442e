"""`memstore rollout` as it is used, and used wrongly: what it prints, and how it ends."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.progress import Progress as RichProgress

from memstore.testing.ports import free_port
from memstore_cli.progress import Bars, Lines
from memstore_rl.testing.openai_stub import Stub, serving
from memstore_rl.testing.sums import rows_of, write_sums

Command = Callable[..., Any]
ASKED = ("--model", "stub", "-n", "2", "--seed", "1")


@pytest.fixture
def queries(tmp_path: Path) -> Path:
    return write_sums(tmp_path / "sums.jsonl", 10)


def test_rollouts_of_a_file_go_into_a_file(queries: Path, tmp_path: Path, command: Command) -> None:
    output = tmp_path / "out.jsonl"
    with serving(Stub(busy=0.2, drop=0.1, seed=1)) as url:
        done = command(
            "rollout", queries, "--endpoint", url, *ASKED, "--output", output, "--prices", "1", "2", "--json"
        )
    assert done.code == 0, done.err
    document = json.loads(done.out)
    assert document["rollouts"] == {"new": 20, "held": 0, "failed": 0}
    assert (document["queries"], document["graded"], document["output"]) == (10, 20, str(output))
    assert document["cost"] > 0
    assert len(list(rows_of(output))) == 20


def test_the_summary_says_what_was_done(queries: Path, tmp_path: Path, command: Command) -> None:
    words = ("rollout", queries, *ASKED, "--output", tmp_path / "out.jsonl", "--prices", "1", "2")
    with serving(Stub(truncate=0.4)) as url:
        command(*words, "--endpoint", url, "--budget", "0.5")
        done = command(*words, "--endpoint", url, "-n", "4", "--budget", "0.5")
    assert done.code == 0
    assert "10 queries of stub: 20 rollouts new, 20 there before, 0 failed" in done.out
    assert "cut off, of which no answer is taken" in done.out
    assert "5 queries with a ground truth; 10 rollouts graded, mean reward" in done.out
    assert "cost: 0.00" in done.out
    assert f"written to {tmp_path / 'out.jsonl'}" in done.out


def test_rollouts_go_into_a_memory_with_their_run(queries: Path, tmp_path: Path, command: Command) -> None:
    memory = tmp_path / "memory"
    more = ("--policy", "small/one", "--run", "first", "--step", "3", "--into", memory, "--json")
    with serving(Stub()) as url:
        done = command("rollout", queries, "--endpoint", url, *ASKED, *more)
    assert done.code == 0, done.err
    document = json.loads(done.out)
    assert document["memory"]["added"] == 20
    assert document["output"] == str(memory / "rollouts" / "small-one.jsonl")
    counted = (
        "MATCH (r:Run)-[:PRODUCED]->(t:Thinking) RETURN r.name, r.policy, t.step, count(*) AS n, sum(t.reward) AS r"
    )
    found = json.loads(command("cypher", counted, "--memory", memory, "--json").out)
    right = sum(row["reward"] for row in rows_of(memory / "rollouts" / "small-one.jsonl"))
    assert [list(row.values()) for row in found] == [["first", "small/one", 3, 20, right]]


def test_a_memory_that_another_owns_is_left_alone_and_nothing_is_asked(
    queries: Path, tmp_path: Path, command: Command
) -> None:
    from memstore.memory import Memory
    from memstore.testing.embedder import HashEmbedder

    with Memory.open(tmp_path / "memory", create=True, embedder=HashEmbedder()):
        done = command("rollout", queries, "--endpoint", "http://127.0.0.1:9", *ASKED, "--into", tmp_path / "memory")
    assert done.code == 1
    assert f"({os.getpid()})" in done.err or f"pid {os.getpid()}" in done.err


def test_what_could_not_be_had_is_exit_code_1_and_the_rest_is_kept(
    queries: Path, tmp_path: Path, command: Command
) -> None:
    with queries.open("a") as file:
        file.write(json.dumps({"query": "What is " + "9" * 100, "query_id": "long"}) + "\n")
    with serving(Stub(context=60)) as url:
        done = command("rollout", queries, "--endpoint", url, *ASKED, "--output", tmp_path / "out.jsonl")
    assert done.code == 1
    assert "20 rollouts new, 0 there before, 2 failed" in done.out
    assert done.err == (
        "error: 2 rollouts could not be had (default 'long': status 400: This model's maximum context length is 60 "
        "tokens.); the others are kept, and the same command asks for the rest again\n"
    )


def test_the_key_comes_from_a_file_or_the_environment(
    queries: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("rollout", queries, *ASKED, "--limit", "1", "--output", tmp_path / "out.jsonl")
    (tmp_path / "key").write_text("sk-secret\n")
    (tmp_path / "wrong").write_text("sk-other")
    with serving(Stub(key="sk-secret")) as url:
        refused = command(*words, "--endpoint", url, "--api-key-file", tmp_path / "wrong")
        assert (refused.code, refused.out) == (1, "")
        assert "refuses the key (status 401)" in refused.err
        assert "sk-" not in refused.err
        assert command(*words, "--endpoint", url, "--api-key-file", tmp_path / "key").code == 0
        monkeypatch.setenv("MEMSTORE_API_KEY", "sk-secret")
        assert command(*words, "--endpoint", url, "-n", "3").code == 0


def wrong_model(folder: Path, url: str) -> tuple[object, ...]:
    return folder / "sums.jsonl", "--endpoint", url, "--model", "stab", "--output", folder / "out.jsonl"


def nobody(folder: Path, url: str) -> tuple[object, ...]:
    endpoint = f"http://127.0.0.1:{free_port()}"
    return folder / "sums.jsonl", "--endpoint", endpoint, "--model", "stub", "--output", folder / "out.jsonl"


def no_queries(folder: Path, url: str) -> tuple[object, ...]:
    (folder / "none.jsonl").write_text("")
    return folder / "none.jsonl", "--endpoint", url, "--model", "stub", "--output", folder / "out.jsonl"


def no_file(folder: Path, url: str) -> tuple[object, ...]:
    return folder / "nothing.jsonl", "--endpoint", url, "--model", "stub", "--output", folder / "out.jsonl"


def somebody_elses_file(folder: Path, url: str) -> tuple[object, ...]:
    (folder / "out.txt").write_text("my notes\n")
    return folder / "sums.jsonl", "--endpoint", url, "--model", "stub", "--output", folder / "out.txt"


def no_address(folder: Path, url: str) -> tuple[object, ...]:
    return folder / "sums.jsonl", "--endpoint", "localhost:8000", "--model", "stub", "--output", folder / "out.jsonl"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (wrong_model, "does not have the model 'stab' (status 404: The model `stab` does not exist.); it has stub"),
        (nobody, "nobody answers at http://127.0.0.1:"),
        (no_queries, "none.jsonl"),
        (no_file, "nothing.jsonl"),
        (somebody_elses_file, "out.txt holds something that is no rollout ('my notes\\n'); name another --output"),
        (no_address, "'localhost:8000' is no address of an endpoint; it looks like http://127.0.0.1:8000/v1"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_bad_input_is_one_sentence(
    words: Callable[..., Any], says: str, queries: Path, tmp_path: Path, command: Command
) -> None:
    with serving(Stub()) as url:
        done = command("rollout", *words(tmp_path, url))
    assert (done.code, done.out) == (1, "")
    assert says in done.err
    assert done.err.startswith("error: ")
    assert len(done.err.splitlines()) == 1


WRONG_USE = [
    (("--endpoint", "http://h"), "--model"),
    (("--endpoint", "http://h", "--model", "m"), "name a file with --output, a memory with --into, or both"),
    (("--model", "m", "--output", "o"), "--endpoint URL for a server, or --vllm"),
    (("--endpoint", "http://h", "--vllm", "--model", "m", "--output", "o"), "name one that answers"),
    (("--vllm", "--vllm-options", "{", "--model", "m", "--output", "o"), "--vllm-options is no JSON"),
    (("--vllm", "--vllm-options", "[]", "--model", "m", "--output", "o"), "--vllm-options is no JSON object"),
    (("--endpoint", "http://h", "--model", "m", "--output", "o", "--budget", "20"), "--budget"),
    (("--endpoint", "http://h", "--model", "m", "--output", "o", "--api-key-file", "none"), "the key file none cannot"),
    (("--endpoint", "http://h", "--model", "m", "--output", "o", "--temperature", "-1"), "--temperature"),
]


@pytest.mark.parametrize(("words", "says"), WRONG_USE, ids=[says for _, says in WRONG_USE])
def test_wrong_use_is_exit_code_2(words: tuple[str, ...], says: str, queries: Path, command: Command) -> None:
    done = command("rollout", queries, *words)
    assert (done.code, done.out) == (2, "")
    assert says in done.err
    assert done.err.startswith("error: ")


@pytest.mark.parametrize("kind", ["sampling", "empty key"])
def test_values_that_cannot_be_are_said(kind: str, queries: Path, tmp_path: Path, command: Command) -> None:
    (tmp_path / "key").write_text("two words\n")
    more = {"sampling": ("--top-p", "0"), "empty key": ("--api-key-file", tmp_path / "key")}[kind]
    says = {"sampling": "nothing can be sampled with", "empty key": "holds no key"}[kind]
    done = command("rollout", queries, "--endpoint", "http://h", "--model", "m", "--output", tmp_path / "o", *more)
    assert done.code in (1, 2)
    assert says in done.err
    assert "two words" not in done.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_keeps_what_was_done(number: int, queries: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    write_sums(queries, 50)
    with serving(Stub(stall_after=20)) as url:
        asked = ["--endpoint", url, "--concurrency", "2", "--output", str(output), "--json", *ASKED]
        words = [str(Path(sys.executable).with_name("memstore")), "rollout", str(queries), *asked]
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
            while running.poll() is None and not (output.exists() and output.stat().st_size):
                time.sleep(0.01)
            running.send_signal(number)
            out, err = running.communicate(timeout=200)
    assert running.returncode == 130
    assert out == ""
    assert err == "interrupted; what was written stays, and the same command goes on from there\n"
    assert 0 < len(list(rows_of(output))) <= 40


def test_a_missing_library_is_named_with_its_extra(
    queries: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("endpoint", "exchange"):
        monkeypatch.delitem(sys.modules, f"memstore_rl.rollout.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    done = command("rollout", queries, "--endpoint", "http://h", *ASKED, "--output", tmp_path / "out.jsonl")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: aiohttp is not installed; install it with: pip install 'memstore[rollout]'")


def test_lines_tell_the_speed_and_what_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines(every=0)
    lines.stage("rollouts", 100)
    lines.note("1,200 tokens/s")
    lines.advance(25)
    lines.stage("ingest")
    lines.advance(3)
    first, second = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"rollouts: 25%, 1,200 tokens/s, \d+ s left", first)
    assert second == "ingest: 3"


def test_bars_show_the_note_behind_the_bar() -> None:
    drawn = RichProgress(console=Console(file=io.StringIO()))
    bars = Bars(drawn)
    bars.stage("rollouts", 100)
    bars.note("1,200 tokens/s")
    assert [task.fields["note"] for task in drawn.tasks] == ["1,200 tokens/s"]
