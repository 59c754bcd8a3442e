"""`memstore rollout` with a real vLLM: what it writes, a run that is killed and gone on with, what cannot be asked."""

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
"""More than one call of vLLM: it is killed after the first."""


class Way(NamedTuple):
    """How the command is told whom to ask."""

    to_the_model: list[str]
    to_none: list[str]


@pytest.fixture(params=["server", "in process"])
def way(request: pytest.FixtureRequest, tiny_model: Path, tmp_path: Path) -> Way:
    """Both ways to vLLM."""
    if request.param == "server":
        server = request.getfixturevalue("vllm_server")
        return Way(["--endpoint", server.url, "--model", "tiny"], ["--endpoint", server.url, "--model", "tinny"])
    options = {"dtype": "float32", "enforce_eager": True, "max_model_len": 256, "max_num_seqs": 64}
    here = ["--vllm", "--vllm-options", json.dumps(options), "--policy", "tiny", "--model"]
    return Way([*here, str(tiny_model)], [*here, str(tmp_path / "no-model")])


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


def drawn(file: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """The rows by query and sample, each of which is there once."""
    rows = rows_of(file)
    found = {(row["query_id"], row["sample_index"]): row for row in rows}
    assert len(found) == len(rows)
    return found


def texts(file: Path) -> dict[tuple[str, int], tuple[str, ...]]:
    """What was written for each sample. Log probabilities differ in their last digits with what is computed beside."""
    return {
        place: tuple(row.get(name, "") for name in ("thinking", "answer", "response"))
        for place, row in drawn(file).items()
    }


def done(arguments: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=WITHIN_S, check=False
    )


def until(what: Callable[[], bool], process: subprocess.Popen[bytes] | None = None) -> None:
    """Return when it holds, or the process has ended."""
    deadline = time.monotonic() + WITHIN_S
    while not what() and (process is None or process.poll() is None):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def group_is_gone(group: int) -> bool:
    """Does no process of the group run? A zombie that nobody has asked for does not."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            state, _, of_group = stat.read_text().rpartition(")")[2].split()[:3]
            if int(of_group) == group and state != "Z":
                return False
    return True


def test_the_command_writes_every_rollout_and_says_so_in_one_document(
    way: Way, queries: Callable[..., Path], tmp_path: Path
) -> None:
    file = tmp_path / "rollouts.jsonl"
    asked = ["--samples", "8", "--max-tokens", "12", "--seed", "0", "--output", file, "--json"]
    first = done([queries(3), *way.to_the_model, *asked])
    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout)["rollouts"]["new"] == 24
    for row in drawn(file).values():
        assert row["policy"] == "tiny"
        assert row["mean_logprob"] <= 0
        assert row["finish_reason"] in ("stop", "length")
    assert len(drawn(file)) == 24


def test_a_killed_run_is_gone_on_with(way: Way, queries: Callable[..., Path], tmp_path: Path) -> None:
    file, undisturbed = tmp_path / "rollouts.jsonl", tmp_path / "undisturbed.jsonl"
    asked = [str(queries(QUERIES)), *way.to_the_model, "--samples", str(SAMPLES), "--max-tokens", "8", "--seed", "0"]
    process = subprocess.Popen([*COMMAND, *asked, "--output", str(file)], start_new_session=True)
    until(lambda: file.exists() and file.stat().st_size > 0, process)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    until(lambda: group_is_gone(process.pid))
    kept = file.read_bytes().count(b"\n")
    assert 0 < kept < QUERIES * SAMPLES
    again = done([*asked, "--output", file])
    assert again.returncode == 0, again.stderr
    assert len(drawn(file)) == QUERIES * SAMPLES
    assert done([*asked, "--output", undisturbed]).returncode == 0
    assert texts(file) == texts(undisturbed)


def test_a_run_that_is_told_to_end_does(way: Way, queries: Callable[..., Path], tmp_path: Path) -> None:
    file = tmp_path / "rollouts.jsonl"
    asked = [str(queries(QUERIES)), *way.to_the_model, "--samples", str(SAMPLES), "--max-tokens", "8"]
    process = subprocess.Popen([*COMMAND, *asked, "--output", str(file)], start_new_session=True)
    until(lambda: file.exists() and file.stat().st_size > 0, process)
    process.terminate()
    assert process.wait(WITHIN_S) == 130
    until(lambda: group_is_gone(process.pid))
    assert 0 < len(drawn(file)) < QUERIES * SAMPLES


def test_a_prompt_that_is_too_long_is_told_and_the_others_are_kept(
    way: Way, queries: Callable[..., Path], tmp_path: Path
) -> None:
    file = tmp_path / "rollouts.jsonl"
    asked = [queries(2, "two " * 300), *way.to_the_model, "--samples", "2", "--max-tokens", "4", "--output", file]
    ended = done(asked)
    assert ended.returncode == 1
    assert len(drawn(file)) == 4
    said = error_of(ended.stderr)
    assert said.startswith("error: 2 rollouts could not be had")
    assert "256" in said


def test_a_model_that_is_not_there_is_one_sentence(way: Way, queries: Callable[..., Path], tmp_path: Path) -> None:
    ended = done([queries(2), *way.to_none, "--output", tmp_path / "rollouts.jsonl"])
    assert ended.returncode == 1
    assert ended.stdout == ""
    said = error_of(ended.stderr)
    assert "no-model" in said or "tinny" in said


def error_of(stderr: str) -> str:
    """The sentence; behind it, Python says what vLLM's processes left to the system."""
    sentences = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert len(sentences) == 1
    return sentences[0]
