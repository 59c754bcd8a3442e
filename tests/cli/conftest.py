"""Fixtures: a memory built by the command, and the command run as a process or in this process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from memstore_cli.main import run

QUERIES, ROLLOUTS = 40, 4
UNLABELLED = 8
"""Number of queries at the end whose rollouts have no ground truth."""


class Done(NamedTuple):
    """Exit code and output of the command."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on stdout."""
        return json.loads(self.out)


Command = Callable[..., Done]


def sums(queries: int = QUERIES, rollouts: int = ROLLOUTS, unlabelled: int = UNLABELLED) -> list[dict[str, Any]]:
    """Rollouts of sums; every third query has one wrong answer, every fifth has only wrong ones."""
    rows = []
    for number in range(queries):
        a, b = 10 + number, 3 + 2 * number
        for sample in range(rollouts):
            wrong = number % 5 == 4 or (number % 3 == 2 and sample == 0)
            answer = a + b + (1 + sample % 2 if wrong else 0)
            rows.append(
                {
                    "query_id": f"sum-{number:02d}",
                    "query": f"Anna has {a} apples and buys {b} more. How many apples has she?",
                    "dataset": "sums",
                    "domain": "math",
                    "gold": str(a + b),
                    "thinking": f"{'I guess. ' if wrong else ''}Attempt {sample}: {a} + {b} = {answer}.",
                    "answer": str(answer),
                    "policy": "small",
                    "run": "first",
                    "sample_index": sample,
                    "reward": None if number >= queries - unlabelled else float(not wrong),
                }
            )
    return rows


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def environment(**more: str) -> dict[str, str]:
    """This process's environment without MEMSTORE_* variables."""
    return {key: value for key, value in os.environ.items() if not key.startswith("MEMSTORE_")} | more


def start(*words: str | Path, **options: Any) -> subprocess.Popen[str]:
    """Start the installed command as a process."""
    command = [str(Path(sys.executable).with_name("memstore")), *map(str, words)]
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, text=True, **({"env": environment()} | streams | options))


@pytest.fixture(scope="session")
def process() -> Command:
    """Run the installed command as a process."""

    def call(*words: str | Path, **options: Any) -> Done:
        with start(*words, **options) as running:
            out, err = running.communicate(timeout=200)
        return Done(running.returncode, out, err)

    return call


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run the command in this process, which is faster and runs the same code from `main` on."""
    for key in list(os.environ):
        if key.startswith("MEMSTORE_"):
            monkeypatch.delenv(key)

    def call(*words: str | Path) -> Done:
        capfd.readouterr()
        code = run([str(word) for word in words])
        captured = capfd.readouterr()
        return Done(code, captured.out, captured.err)

    return call


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, process: Command) -> tuple[Path, Done]:
    """A memory of sums built by `memstore ingest --json`, and the command's result; tests must not change it."""
    folder = tmp_path_factory.mktemp("built")
    file = write_rows(folder / "sums.jsonl", sums())
    done = process("ingest", file, "--memory", folder / "memory", "--json")
    assert done.code == 0, done.err
    return folder / "memory", done


@pytest.fixture(scope="session")
def memory(built: tuple[Path, Done]) -> Path:
    """The folder of the built memory."""
    return built[0]
