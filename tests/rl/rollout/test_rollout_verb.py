"""`memstore rollout`: output, exit codes and error messages."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.progress import Progress as RichProgress

from memstore.testing.servers.ports import free_port
from memstore_cli.progress import Bars, Lines
from memstore_rl.testing.addition_queries import rows_of, write_sums
from memstore_rl.testing.openai_stub import Stub, serving

Command = Callable[..., Any]
OPTIONS = ("--model", "stub", "-n", "2", "--seed", "1")


@pytest.fixture
def queries(tmp_path: Path) -> Path:
    return write_sums(tmp_path / "sums.jsonl", 10)


def test_rollouts_are_written_to_a_file(queries: Path, tmp_path: Path, command: Command) -> None:
    output = tmp_path / "out.jsonl"
    with serving(Stub(busy=0.2, drop=0.1, seed=1)) as url:
        done = command(
            "rollout", queries, "--endpoint", url, *OPTIONS, "--output", output, "--prices", "1", "2", "--json"
        )
    assert done.code == 0, done.err
    document = json.loads(done.out)
    assert document["rollouts"] == {"new": 20, "held": 0, "failed": 0}
    assert (document["queries"], document["graded"], document["output"]) == (10, 20, str(output))
    assert document["cost"] > 0
    assert len(list(rows_of(output))) == 20


def test_the_printed_summary(queries: Path, tmp_path: Path, command: Command) -> None:
    words = ("rollout", queries, *OPTIONS, "--output", tmp_path / "out.jsonl", "--prices", "1", "2")
    with serving(Stub(truncate=0.4)) as url:
        command(*words, "--endpoint", url, "--budget", "0.5")
        done = command(*words, "--endpoint", url, "-n", "4", "--budget", "0.5")
    assert done.code == 0
    assert "10 queries, model stub: 20 new rollouts, 20 existing, 0 failed" in done.out
    assert "truncated (no answer is read from these)" in done.out
    assert "5 queries with a ground truth; 10 rollouts graded, mean reward" in done.out
    assert "cost: 0.00" in done.out
    assert f"written to {tmp_path / 'out.jsonl'}" in done.out


def test_rollouts_are_ingested_with_their_run(queries: Path, tmp_path: Path, command: Command) -> None:
    memory = tmp_path / "memory"
    more = ("--policy", "small/one", "--run", "first", "--step", "3", "--into", memory, "--json")
    with serving(Stub()) as url:
        done = command("rollout", queries, "--endpoint", url, *OPTIONS, *more)
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


def test_a_locked_memory_stops_the_command_before_any_request(queries: Path, tmp_path: Path, command: Command) -> None:
    from memstore.memory import Memory
    from memstore.testing.doubles.embedder import HashEmbedder

    with Memory.open(tmp_path / "memory", create=True, embedder=HashEmbedder()):
        done = command("rollout", queries, "--endpoint", "http://127.0.0.1:9", *OPTIONS, "--into", tmp_path / "memory")
    assert done.code == 1
    assert f"({os.getpid()})" in done.err or f"pid {os.getpid()}" in done.err


def test_failed_rollouts_give_exit_code_1_and_the_others_are_kept(
    queries: Path, tmp_path: Path, command: Command
) -> None:
    with queries.open("a") as file:
        file.write(json.dumps({"query": "What is " + "9" * 100, "query_id": "long"}) + "\n")
    with serving(Stub(context=60)) as url:
        done = command("rollout", queries, "--endpoint", url, *OPTIONS, "--output", tmp_path / "out.jsonl")
    assert done.code == 1
    assert "20 new rollouts, 0 existing, 2 failed" in done.out
    assert done.err == (
        "error: 2 rollouts failed (default 'long': status 400: This model's maximum context length is 60 tokens.); the "
        "others were written; run the same command again to retry the failed ones\n"
    )


def test_the_key_comes_from_a_file_or_the_environment(
    queries: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("rollout", queries, *OPTIONS, "--limit", "1", "--output", tmp_path / "out.jsonl")
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


def no_server(folder: Path, url: str) -> tuple[object, ...]:
    endpoint = f"http://127.0.0.1:{free_port()}"
    return folder / "sums.jsonl", "--endpoint", endpoint, "--model", "stub", "--output", folder / "out.jsonl"


def no_queries(folder: Path, url: str) -> tuple[object, ...]:
    (folder / "none.jsonl").write_text("")
    return folder / "none.jsonl", "--endpoint", url, "--model", "stub", "--output", folder / "out.jsonl"


def no_file(folder: Path, url: str) -> tuple[object, ...]:
    return folder / "nothing.jsonl", "--endpoint", url, "--model", "stub", "--output", folder / "out.jsonl"


def not_a_rollout_file(folder: Path, url: str) -> tuple[object, ...]:
    (folder / "out.txt").write_text("my notes\n")
    return folder / "sums.jsonl", "--endpoint", url, "--model", "stub", "--output", folder / "out.txt"


def not_an_address(folder: Path, url: str) -> tuple[object, ...]:
    return folder / "sums.jsonl", "--endpoint", "localhost:8000", "--model", "stub", "--output", folder / "out.jsonl"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (wrong_model, "does not have the model 'stab' (status 404: The model `stab` does not exist.); it has stub"),
        (no_server, "cannot reach a server at http://127.0.0.1:"),
        (no_queries, "none.jsonl"),
        (no_file, "nothing.jsonl"),
        (
            not_a_rollout_file,
            "out.txt is not a file of rollouts (it contains 'my notes\\n'); choose another --output",
        ),
        (
            not_an_address,
            "'localhost:8000' is not an endpoint's address; pass one like http://127.0.0.1:8000/v1",
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_input_errors_are_one_sentence(
    words: Callable[..., Any], message: str, queries: Path, tmp_path: Path, command: Command
) -> None:
    with serving(Stub()) as url:
        done = command("rollout", *words(tmp_path, url))
    assert (done.code, done.out) == (1, "")
    assert message in done.err
    assert done.err.startswith("error: ")
    assert len(done.err.splitlines()) == 1


WRONG_USE = [
    (("--endpoint", "http://h"), "--model"),
    (("--endpoint", "http://h", "--model", "m"), "pass --output FILE, --into MEMORY, or both"),
    (("--model", "m", "--output", "o"), "pass either --endpoint URL"),
    (("--endpoint", "http://h", "--vllm", "--model", "m", "--output", "o"), "pass either --endpoint URL"),
    (("--vllm", "--vllm-options", "{", "--model", "m", "--output", "o"), "--vllm-options is not valid JSON"),
    (("--vllm", "--vllm-options", "[]", "--model", "m", "--output", "o"), "--vllm-options must be a JSON object"),
    (("--endpoint", "http://h", "--model", "m", "--output", "o", "--budget", "20"), "--budget"),
    (
        ("--endpoint", "http://h", "--model", "m", "--output", "o", "--api-key-file", "none"),
        "cannot read the key file none",
    ),
    (("--endpoint", "http://h", "--model", "m", "--output", "o", "--temperature", "-1"), "--temperature"),
]


@pytest.mark.parametrize(("words", "message"), WRONG_USE, ids=[message for _, message in WRONG_USE])
def test_usage_errors_give_exit_code_2(words: tuple[str, ...], message: str, queries: Path, command: Command) -> None:
    done = command("rollout", queries, *words)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert done.err.startswith("error: ")


@pytest.mark.parametrize("kind", ["sampling", "empty key"])
def test_invalid_values_are_reported(kind: str, queries: Path, tmp_path: Path, command: Command) -> None:
    (tmp_path / "key").write_text("two words\n")
    more = {"sampling": ("--top-p", "0"), "empty key": ("--api-key-file", tmp_path / "key")}[kind]
    message = {"sampling": "invalid sampling parameters", "empty key": "holds no valid key"}[kind]
    done = command("rollout", queries, "--endpoint", "http://h", "--model", "m", "--output", tmp_path / "o", *more)
    assert done.code in (1, 2)
    assert message in done.err
    assert "two words" not in done.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_keeps_its_rollouts(number: int, queries: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    write_sums(queries, 50)
    stalled = threading.Event()
    with serving(Stub(stall_after=20), stalled) as url:
        options = ["--endpoint", url, "--concurrency", "2", "--output", str(output), "--json", *OPTIONS]
        words = [str(Path(sys.executable).with_name("memstore")), "rollout", str(queries), *options]
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
            assert stalled.wait(200)
            running.send_signal(number)
            out, err = running.communicate(timeout=200)
    assert running.returncode == 130
    assert out == ""
    assert err == "interrupted; completed work is saved, run the same command again to resume\n"
    assert 0 < len(list(rows_of(output))) <= 40


def test_a_missing_library_is_named_with_its_extra(
    queries: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("endpoint", "http_client"):
        monkeypatch.delitem(sys.modules, f"memstore_rl.rollout.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    done = command("rollout", queries, "--endpoint", "http://h", *OPTIONS, "--output", tmp_path / "out.jsonl")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: aiohttp is not installed; run: pip install 'memstore[rollout]'")


def test_progress_lines_show_speed_and_remaining_time(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines(every=0)
    lines.stage("rollouts", 100)
    lines.note("1,200 tokens/s")
    lines.advance(25)
    lines.stage("ingest")
    lines.advance(3)
    first, second = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"rollouts: 25%, 1,200 tokens/s, \d+ s left", first)
    assert second == "ingest: 3"


def test_progress_bars_show_the_note() -> None:
    rich_progress = RichProgress(console=Console(file=io.StringIO()))
    bars = Bars(rich_progress)
    bars.stage("rollouts", 100)
    bars.note("1,200 tokens/s")
    assert [task.fields["note"] for task in rich_progress.tasks] == ["1,200 tokens/s"]
