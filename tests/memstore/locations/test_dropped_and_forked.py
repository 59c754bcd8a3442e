"""A memory that was dropped without `close`, opened by a relative path, or copied by a fork."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from memstore.errors import LockedError, StoreError
from memstore.memory import Memory
from memstore.testing.doubles.embedder import HashEmbedder

CHILD_SECONDS = 60


@pytest.fixture
def rollouts(tmp_path: Path) -> Path:
    path = tmp_path / "r.jsonl"
    path.write_text("".join(json.dumps({"query": f"{n}+2?", "response": f"#### {n + 2}"}) + "\n" for n in range(4)))
    return path


def filled(folder: Path, rollouts: Path) -> Memory:
    memory = Memory.open(folder, create=True, embedder=HashEmbedder())
    memory.ingest([rollouts])
    return memory


def test_a_dropped_memory_is_closed_and_can_be_opened_again(tmp_path: Path, rollouts: Path) -> None:
    filled(tmp_path / "m", rollouts)
    with Memory.open(tmp_path / "m", embedder=HashEmbedder()) as memory:
        assert memory.stats().thinkings == 4


def test_a_dropped_memory_in_a_reference_cycle_can_be_opened_again(tmp_path: Path, rollouts: Path) -> None:
    cycle: list[object] = [filled(tmp_path / "m", rollouts)]
    cycle.append(cycle)
    del cycle
    Memory.open(tmp_path / "m", embedder=HashEmbedder()).close()


def test_a_memory_that_is_held_is_still_refused(tmp_path: Path, rollouts: Path) -> None:
    with filled(tmp_path / "m", rollouts), pytest.raises(LockedError, match="open in this process already"):
        Memory.open(tmp_path / "m", embedder=HashEmbedder())


def test_the_rows_of_a_result_keep_a_dropped_memory_open(tmp_path: Path, rollouts: Path) -> None:
    rows = filled(tmp_path / "m", rollouts).cypher("MATCH (q:Query) RETURN q.text").rows
    assert len(list(rows)) == 4


def test_a_memory_opened_by_a_relative_path_survives_a_change_of_the_working_directory(
    tmp_path: Path, rollouts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    with Memory.open("m", create=True, embedder=HashEmbedder()) as memory:
        monkeypatch.chdir(tmp_path / "sub")
        memory.ingest([rollouts])
        assert memory.stats().thinkings == 4
        assert str(memory.location) == "m"
        assert memory.models_folder == tmp_path / "m" / "models"
    assert not list((tmp_path / "sub").iterdir())


USES: dict[str, Callable[[Memory], object]] = {
    "stats": lambda memory: memory.stats(),
    "cypher": lambda memory: memory.cypher("MATCH (q:Query) RETURN q.text"),
    "snapshot": lambda memory: memory.snapshot(),
    "vectors": lambda memory: memory.vectors.count(),
    "cache": lambda memory: memory.cache.lookup(["x"]),
    "close": lambda memory: memory.close(),
}


@pytest.mark.parametrize("name", USES)
def test_a_forked_child_gets_an_error_at_once(tmp_path: Path, rollouts: Path, name: str) -> None:
    with filled(tmp_path / "m", rollouts) as memory:
        assert _outcome_in_child(lambda: USES[name](memory)) == "StoreError: opened before this process was forked"
        assert memory.stats().thinkings == 4


def test_a_forked_child_that_drops_the_memory_ends(tmp_path: Path, rollouts: Path) -> None:
    memories = [filled(tmp_path / "m", rollouts)]
    assert _outcome_in_child(memories.clear) == "no error"
    assert memories[0].stats().thinkings == 4
    memories[0].close()


def _outcome_in_child(use: Callable[[], object]) -> str:
    """Call a function in a forked child; the alarm ends a child that hangs."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(CHILD_SECONDS)
        outcome = "no error"
        try:
            use()
        except StoreError as error:
            outcome = "StoreError: opened before this process was forked"
            if "was opened before this process was forked" not in str(error):
                outcome = str(error)
        except Exception as error:  # any other error must reach the parent's comparison
            outcome = repr(error)
        os.write(writer, outcome.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        outcome = pipe.read()
    os.waitpid(child, 0)
    return outcome


DROPPED_IN_A_CYCLE = """
import gc, subprocess, sys
from pathlib import Path
from memstore.graph.ladybug import LadybugGraph

gc.disable()
cycle = [LadybugGraph.open(Path(sys.argv[1]), create=True)]
cycle.append(cycle)
del cycle
subprocess.run(["true"], preexec_fn=gc.collect, check=True, timeout=60)
"""


def test_a_forked_child_does_not_collect_a_dropped_graph(tmp_path: Path) -> None:
    """A `preexec_fn`, such as Ray's, runs Python in the child. The graph's destructor would never return there."""
    done = subprocess.run(
        [sys.executable, "-c", DROPPED_IN_A_CYCLE, str(tmp_path / "graph")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
