"""Verbs that are killed (kill -9) before a write, or run out of disk space, leave nothing half made.

The memory opens, and the same command makes of it what an undisturbed run makes, by digest and without another file.
`benchmarks/kills.py` does the same at 25 instants and before every write; these are the writes that differ in kind.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memstore.testing.killed import KillServer

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "kills.py"
TRANSACTION, COMMITTED = "Database.transaction", "WriteAheadLog.record_length"

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("killed verbs")]


@pytest.fixture(scope="module")
def kills() -> Iterator[Any]:
    """The module of the benchmark."""
    spec = importlib.util.spec_from_file_location("kills", BENCHMARK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["kills"] = module  # its dataclasses look themselves up
    path = list(sys.path)
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        del sys.modules["kills"]
        sys.path[:] = path


@pytest.fixture(scope="module")
def base(kills: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Memories of few rollouts, one of them trained and one of them damaged, and a snapshot."""
    with KillServer() as server:
        yield kills.Base(kills.Command(server), tmp_path_factory.mktemp("base"), queries=15)


@pytest.mark.parametrize(
    ("verb", "writes", "least"),
    [
        ("train", {"rename"}, 1),
        ("snapshot", {"_write_table", "_write_matrix", "_write_arrays", "copyfile", "rename"}, 7),
        ("label", {TRANSACTION}, 2),
        (
            "restore",
            {"Path.write_text", TRANSACTION, "VectorCache.append", "EmbeddedVectors.flush", "copyfile"},
            9,
        ),
        ("reembed", {"VectorCache.append", TRANSACTION, "EmbeddedVectors.discard"}, 5),
        ("repair", {"rename", TRANSACTION, "EmbeddedVectors.delete", "EmbeddedVectors.upsert"}, 6),
    ],
)
def test_a_killed_verb_is_finished_by_the_next_run(
    kills: Any, base: Any, tmp_path: Path, verb: str, writes: set[str], least: int
) -> None:
    trial = kills.Trial(verb, base, tmp_path)
    trial.at_writes(writes)
    assert trial.tally.faults == []
    assert trial.tally.writes >= least


# LadybugDB may end the process if its log cannot grow in the middle of a commit, so `label` and `restore` are left out.
@pytest.mark.parametrize("verb", ["snapshot", "reembed", "repair"])
def test_a_verb_without_space_ends_in_one_sentence_and_can_be_repeated(
    kills: Any, base: Any, tmp_path: Path, verb: str
) -> None:
    trial = kills.Trial(verb, base, tmp_path)
    trial.at_full_disks(3)
    assert trial.tally.faults == []
    assert trial.tally.full > 0
