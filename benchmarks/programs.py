"""Measures the sandbox: agreement with data sets, and programs per second on one core.

    python benchmarks/programs.py FILE... [--programs 300] [--core 0]

FILE is a `.jsonl.gz` of code rollouts (`response` or `answer`, `gold`, `reward`). First, all programs run on all
cores: agreement with `reward`, outcomes by kind, misses by kind. Then `--programs` right programs of the first file
run one after another, with this process and the sandbox on one core: in reused boxes, in new boxes for each, and, for
comparison, in a new interpreter for each program and its tests without a sandbox.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from memstore.text import extract_answer
from memstore_rl.sandbox import CallTests, Sandbox, Tests, read_tests
from memstore_rl.sandbox.prompt import program_of, read_prompt


def job_of(row: dict[str, Any]) -> tuple[str, Tests] | None:
    """Return the program of a row and its tests; None if the row has no answer."""
    answer = extract_answer(row["response"], "code") if "response" in row else row["answer"]
    if not answer.strip():
        return None
    return program_of(answer, read_prompt(row["query"])), read_tests(row["gold"], row["query"])


def agreement(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Print the agreement of outcomes with rewards."""
    jobs = [job_of(row) for row in rows]
    started = time.perf_counter()
    with Sandbox() as sandbox:
        outcomes = iter(sandbox.run_all([job for job in jobs if job is not None]))
    seconds = time.perf_counter() - started
    kinds: Counter[str] = Counter()
    misses: Counter[str] = Counter()
    for row, job in zip(rows, jobs, strict=True):
        outcome = next(outcomes) if job else None
        kind, reward = (outcome.kind, outcome.reward) if outcome else ("no answer", 0.0)
        kinds[kind] += 1
        if reward != row["reward"]:
            misses[f"{kind}, expected {row['reward']:g}" + (f" ({outcome.detail})" if outcome else "")] += 1
    print(f"{path.name}: {len(rows)} rollouts, {1 - misses.total() / len(rows):.2%} agree, {seconds:.0f} s")
    print(f"  outcomes: {dict(kinds.most_common())}\n  misses: {dict(misses.most_common())}")


def speed(jobs: Sequence[tuple[str, Tests]], core: int) -> None:
    """Print programs per second on one core."""
    os.sched_setaffinity(0, {core})
    with Sandbox(pairs=1) as sandbox:
        warm = per_second(lambda job: sandbox.run(*job).kind == "passed", jobs)
    print(f"reused boxes: {warm:.0f} programs per second")
    print(f"new boxes for each: {per_second(_in_new_boxes, jobs[:50]):.1f}")
    print(f"a new interpreter for each, no sandbox: {per_second(_bare, jobs[:100]):.1f}")


def per_second(judge: Callable[[tuple[str, Tests]], bool], jobs: Sequence[tuple[str, Tests]]) -> float:
    """Return jobs per second; each job must pass."""
    started = time.perf_counter()
    for job in jobs:
        if not judge(job):
            raise SystemExit(f"this program does not pass here:\n{job[0]}")
    return len(jobs) / (time.perf_counter() - started)


def _in_new_boxes(job: tuple[str, Tests]) -> bool:
    with Sandbox(pairs=1) as sandbox:
        return sandbox.run(*job).kind == "passed"


def _bare(job: tuple[str, Tests]) -> bool:
    program, tests = job
    assert isinstance(tests, CallTests)
    call = f"\n{tests.call}({tests.names[-1]})\n" if tests.call else ""
    source = f"{program}\n{tests.tests}{call}"
    return (
        subprocess.run([sys.executable, "-I", "-S", "-c", source], stdout=subprocess.DEVNULL, check=False).returncode
        == 0
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--programs", type=int, default=300)
    parser.add_argument("--core", type=int, default=0)
    parser.add_argument("--speed-only", action="store_true")
    options = parser.parse_args()
    right: list[tuple[str, Tests]] = []
    for path in options.files:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        if not options.speed_only:
            agreement(path, rows)
        if path == options.files[0]:
            right = [job for row in rows if row["reward"] == 1.0 and (job := job_of(row)) is not None]
    step = max(len(right) // options.programs, 1)
    speed(right[::step][: options.programs], options.core)


if __name__ == "__main__":
    main()
