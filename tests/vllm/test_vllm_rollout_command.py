"""`memstore rollout` with the real vLLM: output, resuming after a kill, SIGTERM and errors."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest

pytestmark = pytest.mark.timeout(1800)

COMMAND = [sys.executable, "-c", "from memstore_cli.main import main; main()", "rollout"]
WITHIN_S = 900
QUERIES, SAMPLES = 500, 8
"""Enough for more than one call of vLLM: the test kills the run after the first."""


class EngineOptions(NamedTuple):
    """Options that select the engine."""

    valid: list[str]
    missing_model: list[str]


@pytest.fixture(params=["server", "in process"])
def options(request: pytest.FixtureRequest, tiny_model: Path, tmp_path: Path) -> EngineOptions:
    """Options for vLLM's server and for vLLM in the command's process."""
    if request.param == "server":
        server = request.getfixturevalue("vllm_server")
        return EngineOptions(
            ["--endpoint", server.url, "--model", "tiny"], ["--endpoint", server.url, "--model", "tinny"]
        )
    vllm_options = {"dtype": "float32", "enforce_eager": True, "max_model_len": 256, "max_num_seqs": 64}
    in_process = ["--vllm", "--vllm-options", json.dumps(vllm_options), "--policy", "tiny", "--model"]
    return EngineOptions([*in_process, str(tiny_model)], [*in_process, str(tmp_path / "no-model")])


@pytest.fixture
def queries(tmp_path: Path) -> Callable[..., Path]:
    """Writes a file of queries."""

    def write(count: int, *more: str) -> Path:
        file = tmp_path / "queries.jsonl"
        texts = [f"what is two and {number} ?" for number in range(count)] + list(more)
        rows = [{"query": text, "query_id": str(place), "dataset": "sums"} for place, text in enumerate(texts)]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return file

    return write


def rows_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def rows_by_sample(file: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """The rows by query and sample index, which must be distinct."""
    rows = rows_of(file)
    found = {(row["query_id"], row["sample_index"]): row for row in rows}
    assert len(found) == len(rows)
    return found


def texts(file: Path) -> dict[tuple[str, int], tuple[str, ...]]:
    """The texts of each sample; log probabilities are left out, since their last digits depend on the batch."""
    return {
        sample: tuple(row.get(name, "") for name in ("thinking", "answer", "response"))
        for sample, row in rows_by_sample(file).items()
    }


def run_command(arguments: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=WITHIN_S, check=False
    )


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[bytes] | None = None) -> None:
    """Return when the condition holds or the process has ended."""
    deadline = time.monotonic() + WITHIN_S
    while not condition() and (process is None or process.poll() is None):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def group_is_gone(group: int) -> bool:
    """Whether no process of the group runs; zombies do not count."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            state, _, of_group = stat.read_text().rpartition(")")[2].split()[:3]
            if int(of_group) == group and state != "Z":
                return False
    return True


def test_every_rollout_is_written_and_the_summary_is_one_document(
    options: EngineOptions, queries: Callable[..., Path], tmp_path: Path
) -> None:
    file = tmp_path / "rollouts.jsonl"
    arguments = ["--samples", "8", "--max-tokens", "12", "--seed", "0", "--output", file, "--json"]
    first = run_command([queries(3), *options.valid, *arguments])
    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout)["rollouts"]["new"] == 24
    for row in rows_by_sample(file).values():
        assert row["policy"] == "tiny"
        assert row["mean_logprob"] <= 0
        assert row["finish_reason"] in ("stop", "length")
    assert len(rows_by_sample(file)) == 24


def test_a_killed_run_is_resumed(options: EngineOptions, queries: Callable[..., Path], tmp_path: Path) -> None:
    file, undisturbed = tmp_path / "rollouts.jsonl", tmp_path / "undisturbed.jsonl"
    arguments = [str(queries(QUERIES)), *options.valid, "--samples", str(SAMPLES), "--max-tokens", "8", "--seed", "0"]
    process = subprocess.Popen([*COMMAND, *arguments, "--output", str(file)], start_new_session=True)
    wait_until(lambda: file.exists() and file.stat().st_size > 0, process)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    wait_until(lambda: group_is_gone(process.pid))
    kept = file.read_bytes().count(b"\n")
    assert 0 < kept < QUERIES * SAMPLES
    again = run_command([*arguments, "--output", file])
    assert again.returncode == 0, again.stderr
    assert len(rows_by_sample(file)) == QUERIES * SAMPLES
    assert run_command([*arguments, "--output", undisturbed]).returncode == 0
    assert texts(file) == texts(undisturbed)


def test_sigterm_ends_the_run(options: EngineOptions, queries: Callable[..., Path], tmp_path: Path) -> None:
    file = tmp_path / "rollouts.jsonl"
    arguments = [str(queries(QUERIES)), *options.valid, "--samples", str(SAMPLES), "--max-tokens", "8"]
    process = subprocess.Popen([*COMMAND, *arguments, "--output", str(file)], start_new_session=True)
    wait_until(lambda: file.exists() and file.stat().st_size > 0, process)
    process.terminate()
    assert process.wait(WITHIN_S) == 130
    wait_until(lambda: group_is_gone(process.pid))
    assert 0 < len(rows_by_sample(file)) < QUERIES * SAMPLES


def test_a_prompt_that_is_too_long_is_reported_and_the_others_are_kept(
    options: EngineOptions, queries: Callable[..., Path], tmp_path: Path
) -> None:
    file = tmp_path / "rollouts.jsonl"
    arguments = [queries(2, "two " * 300), *options.valid, "--samples", "2", "--max-tokens", "4", "--output", file]
    ended = run_command(arguments)
    assert ended.returncode == 1
    assert len(rows_by_sample(file)) == 4
    message = error_of(ended.stderr)
    assert message.startswith("error: 2 rollouts failed")
    assert "256" in message


def test_a_missing_model_is_reported(options: EngineOptions, queries: Callable[..., Path], tmp_path: Path) -> None:
    ended = run_command([queries(2), *options.missing_model, "--output", tmp_path / "rollouts.jsonl"])
    assert ended.returncode == 1
    assert ended.stdout == ""
    message = error_of(ended.stderr)
    assert "no-model" in message or "tinny" in message


def error_of(stderr: str) -> str:
    """The error message; Python may print warnings about vLLM's processes after it."""
    sentences = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert len(sentences) == 1
    return sentences[0]
