"""Fuzzing of everything that reads model-written text and programs: it returns, in bounded time, the same every time.

The suite tries a few examples of each target. `make fuzz` tries new ones for a minute, or for
`make fuzz FUZZ_SECONDS=3600`, and prints for each target the examples tried, the slowest one and the peak memory. A
failure prints its seed: `MEMSTORE_FUZZ_SEED=SEED` in front of the same command starts with that example.
"""

from __future__ import annotations

import datetime as dt
import os
import random
import resource
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import numpy as np
import pytest

from memstore.errors import RecordError
from memstore.records.columns import KnownQuery, Occurrences, assign_ids, to_columns
from memstore.records.record import RecordDefaults, parse_record
from memstore.snapshots.from_rollouts import block_snapshot
from memstore.snapshots.snapshot import Manifest, Snapshot
from memstore.testing import hostile
from memstore.testing.doubles.embedder import HashEmbedder
from memstore.text import canonical_answer, extract_answer, infer_domain, split_response, unfinished_thinking
from memstore.text.chat import decoded_prompt, plain_output
from memstore.text.special_tokens import assistant_text
from memstore.types import DOMAINS
from memstore_gnn.features.assemble import group_features
from memstore_gnn.programs import worker
from memstore_gnn.programs.outcomes import UNKNOWN, Task

SECONDS = float(os.environ.get("MEMSTORE_FUZZ_SECONDS", "0"))
"""For all targets together; 0: a few examples of each."""
SEED = os.environ.get("MEMSTORE_FUZZ_SEED")
MANIFEST = Manifest("s-fuzz", 1, "test", "test", "k=5 floor=0", "default", "2026-01-01T00:00:00Z")


class TooSlow(BaseException):
    """An example is over its limit of CPU time. Not an Exception, so that no code under test catches it."""


class Target(NamedTuple):
    """What is fuzzed."""

    check: Callable[[random.Random], None]
    cpu_seconds: float
    """Limit for one example, in this process."""
    examples: int
    """In the suite."""


def check_split(chance: random.Random) -> None:
    text, domain = hostile.response(chance), chance.choice(DOMAINS)
    split = split_response(text, domain)
    assert split == split_response(text, domain)
    assert split_response(assistant_text(text), domain).answer == split.answer
    assert isinstance(decoded_prompt(text).query + plain_output(text) + unfinished_thinking(text), str)


def check_extract(chance: random.Random) -> None:
    text, domain = hostile.response(chance), chance.choice(DOMAINS)
    answer = extract_answer(text, domain)
    assert answer == extract_answer(text, domain)
    assert isinstance(answer, str)


def check_canonical(chance: random.Random) -> None:
    text, query, domain = hostile.response(chance), hostile.query(chance), chance.choice(DOMAINS)
    for answer in (split_response(text, domain).answer, text, hostile.program(chance)):
        value, shown = canonical_answer(answer, domain, query)
        assert (value, shown) == canonical_answer(answer, domain, query)
        assert bool(value) == bool(shown)
        if domain != "code":
            assert canonical_answer(value, domain, query).value == value
    assert infer_domain(query, text) in DOMAINS
    assert infer_domain(text, query) in DOMAINS


def check_features(chance: random.Random) -> None:
    """Features of rollouts that went through the reader of rows are finite, and equal when computed again."""
    rows = []
    for _ in range(chance.randint(1, 4)):
        query = hostile.query(chance) or "?"
        rows += [{"query": query, "response": hostile.response(chance) + "!"} for _ in range(chance.randint(1, 4))]
    first = _features(rows)
    assert np.isfinite(first).all()
    np.testing.assert_array_equal(first, _features(rows))


def _features(rows: list[dict[str, str]]) -> np.ndarray:
    return group_features(_snapshot(rows)).table.values


def _snapshot(rows: list[dict[str, str]]) -> Snapshot:
    records, seen = [], Occurrences()
    for row in rows:
        with suppress(RecordError):  # e.g. a null character
            records.append(assign_ids(parse_record(row, RecordDefaults()), "", seen))
    records = records or [assign_ids(parse_record({"query": "q", "response": "r"}, RecordDefaults()), "", seen)]
    known = {row.query_id: KnownQuery(infer_domain(row.record.query, None), None, row.record.query) for row in records}
    columns = to_columns(records, known, batch={"id": ""}, created_at=dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
    vectors = HashEmbedder().embed(list(columns.texts.values()))
    return block_snapshot(MANIFEST, columns.block, list(columns.texts), vectors)


def check_programs(chance: random.Random) -> None:
    """Outcomes in the worker are the same in any order and company. A program over a time limit may be unknown."""
    tasks = [Task(hostile.program(chance), "f", ("([3, -1, 2],)", "('ab',)", "(7,)")) for _ in range(12)]
    first = worker.outcomes(tasks, [0] * len(tasks))
    assert [len(found) for found in first] == [3] * len(tasks)
    worker._cache.clear()
    second = worker.outcomes(tasks[::-1], [0] * len(tasks))[::-1]
    worker._cache.clear()
    over_time = [UNKNOWN] * 3
    for task, one, other in zip(tasks, first, second, strict=True):
        assert one == other or over_time in (one, other), task.source


TARGETS = {
    "split": Target(check_split, 2.0, 300),
    "extract": Target(check_extract, 2.0, 300),
    "canonical": Target(check_canonical, 4.0, 200),
    "features": Target(check_features, 10.0, 4),
    "programs": Target(check_programs, 10.0, 2),
}


@contextmanager
def cpu_limit(seconds: float) -> Iterator[None]:
    """Raise TooSlow where the block is when it has used this CPU time."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TooSlow(f"more than {seconds:g} s of CPU time")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def cpu_seconds() -> float:
    """CPU time of this process and of its ended children."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def peak_mib() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) >> 10


def run_example(name: str, seed: str) -> float:
    """Try one example and return its CPU seconds; print its seed if it fails."""
    target, begun = TARGETS[name], cpu_seconds()
    try:
        with cpu_limit(target.cpu_seconds):
            target.check(random.Random(f"{name} {seed}"))
    except BaseException:
        print(f"{name}: failed at MEMSTORE_FUZZ_SEED={seed}")
        raise
    return cpu_seconds() - begun


@pytest.mark.parametrize("name", TARGETS)
def test_every_example_has_an_outcome(name: str) -> None:
    for number in range(TARGETS[name].examples):
        run_example(name, str(number))


@pytest.mark.skipif(not SECONDS, reason="set MEMSTORE_FUZZ_SECONDS to fuzz for longer")
@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", TARGETS)
def test_fuzz_for_a_while(name: str) -> None:
    base = SEED or str(random.SystemRandom().randrange(10**9))
    reset_peak()
    begun, count, slowest, failed = time.monotonic(), 0, (0.0, ""), []
    while time.monotonic() - begun < SECONDS / len(TARGETS):
        seed = f"{base}.{count}" if count or SEED is None else base
        try:
            slowest = max(slowest, (run_example(name, seed), seed))
        except (Exception, TooSlow):
            traceback.print_exc()
            failed.append(seed)
        count += 1
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10
    print(
        f"{name}: {count} examples in {time.monotonic() - begun:.0f} s, {len(failed)} failed, slowest "
        f"{slowest[0]:.2f} s of CPU time (seed {slowest[1]}), peak memory {peak_mib()} MiB, of a worker so far "
        f"{children} MiB",
        flush=True,
    )
    assert not failed
