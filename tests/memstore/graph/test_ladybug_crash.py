"""Crashes leave complete calls, and no call that had returned is lost."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memstore.errors import CorruptStoreError
from memstore.graph.ladybug import LadybugGraph
from memstore.testing.conformance.graph_blocks import Rollout, dump, make_block
from memstore.testing.conformance.graph_writes import operations
from memstore.testing.doubles.graph import MemoryGraph

WRITER = """
import sys
from pathlib import Path
from memstore.graph.ladybug import LadybugGraph
from memstore.testing.conformance.graph_writes import operations
graph = LadybugGraph.open(Path(sys.argv[1]), create=True)
for number, operation in enumerate(operations(10_000)):
    operation(graph)
    print(number, flush=True)
"""


def states(last: int) -> Iterator[dict[str, Any]]:
    """Content of the graph before the first operation and after each operation up to `last`."""
    model = MemoryGraph()
    yield dump(model)
    for _, operation in zip(range(last + 1), operations(last + 2), strict=False):
        operation(model)
        yield dump(model)


@pytest.mark.parametrize("seed", range(4))
def test_a_killed_writer_leaves_complete_calls(tmp_path: Path, seed: int) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path / "graph")], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    lines = 1 + random.Random(seed).randrange(40)
    printed = "".join(writer.stdout.readline() for _ in range(lines))
    writer.send_signal(signal.SIGKILL)
    returned = int((printed + writer.stdout.read()).split()[-1])
    writer.wait()
    writer.stdout.close()

    with LadybugGraph.open(tmp_path / "graph", create=False) as graph:
        found = dump(graph)
    expected = list(states(returned + 1))
    assert found in (expected[returned + 1], expected[returned + 2]), f"{returned} calls had returned"


@pytest.fixture(scope="module")
def torn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """A graph after a kill, with four blocks in its log, and its content after 0, 1, ... of them."""
    folder = tmp_path_factory.mktemp("torn")
    graph = LadybugGraph.open(folder / "alive", create=True)
    graph.checkpoint()
    contents = [dump(graph)]
    for number in range(4):
        graph.write_block(make_block(*(Rollout(f"t{number}-{i}", f"q{i}", "4", text="x" * 500) for i in range(30))))
        contents.append(dump(graph))
    shutil.copytree(folder / "alive", folder / "killed")
    graph.close()
    return folder / "killed", contents


def log_of(folder: Path) -> Path:
    return folder / "graph.lbdb.wal"


@pytest.mark.parametrize("cut", [1, 37, 5_000, 0.3, 0.6])
def test_repair_recovers_a_truncated_log(tmp_path: Path, torn: tuple[Path, list[dict[str, Any]]], cut: float) -> None:
    killed, contents = torn
    folder = shutil.copytree(killed, tmp_path / "graph")
    size = log_of(folder).stat().st_size
    with log_of(folder).open("rb+") as log:
        log.truncate(size - cut if isinstance(cut, int) else int(size * cut))
    with pytest.raises(CorruptStoreError, match="memstore verify --repair"):
        LadybugGraph.open(folder, create=False)
    said = LadybugGraph.repair(folder)
    assert said is not None
    assert "lost" in said
    assert len(list((folder / "quarantine").iterdir())) == 1
    with LadybugGraph.open(folder, create=False) as graph:
        assert dump(graph) in contents[:-1]
        assert isinstance(cut, float) or dump(graph) == contents[-2]


@pytest.mark.parametrize("share", [0.01, 0.3, 0.99])
@pytest.mark.parametrize("before", [0, 3])
def test_opening_cuts_off_a_truncated_last_record(tmp_path: Path, before: int, share: float) -> None:
    """After a kill during a write, opening recovers every call that had returned, and nothing else."""
    contents = []
    with LadybugGraph.open(tmp_path / "alive", create=True) as graph:
        graph.checkpoint()
        for number in range(before + 1):
            contents.append(dump(graph))
            shutil.rmtree(tmp_path / "killed", ignore_errors=True)
            shutil.copytree(tmp_path / "alive", tmp_path / "killed")
            graph.write_block(make_block(*(Rollout(f"t{number}-{i}", f"q{i}", "4") for i in range(30))))
        whole = log_of(tmp_path / "alive").read_bytes()
    kept = log_of(tmp_path / "killed").stat().st_size if before else 0
    log_of(tmp_path / "killed").write_bytes(whole[: kept + int((len(whole) - kept) * share)])
    with LadybugGraph.open(tmp_path / "killed", create=False) as graph:
        assert dump(graph) == contents[-1]
        graph.write_block(make_block(Rollout("later", "q0", "4")))
    assert not list((tmp_path / "killed").glob("*.torn"))
    assert LadybugGraph.repair(tmp_path / "killed") is None


@pytest.mark.parametrize("seed", range(4))
def test_noise_at_the_end_of_a_log_is_cut_off_or_repaired(
    tmp_path: Path, torn: tuple[Path, list[dict[str, Any]]], seed: int
) -> None:
    """LadybugDB ends the replay of noise with one of many messages."""
    killed, contents = torn
    chance = random.Random(seed)
    for number in range(3):
        folder = shutil.copytree(killed, tmp_path / f"{number}")
        log = log_of(folder)
        log.write_bytes(log.read_bytes() + chance.randbytes(chance.randrange(1, 2000)))
        beyond = shutil.copytree(folder, tmp_path / f"{number} beyond")
        with LadybugGraph.open(beyond, create=False) as graph:  # a write that never returned
            assert dump(graph) == contents[-1]
        log.with_name(f"{log.name}.whole").write_text(f"{log.stat().st_size:020}")
        with pytest.raises(CorruptStoreError, match="memstore verify --repair"):
            LadybugGraph.open(folder, create=False)
        assert LadybugGraph.repair(folder)
        with LadybugGraph.open(folder, create=False) as graph:
            assert dump(graph) == contents[-1]


def test_calls_that_had_returned_are_never_cut_off(tmp_path: Path, torn: tuple[Path, list[dict[str, Any]]]) -> None:
    """A log that is damaged before its truncated end is left for `verify --repair`."""
    folder = shutil.copytree(torn[0], tmp_path / "graph")
    with log_of(folder).open("rb+") as log:
        log.seek(log_of(folder).stat().st_size // 2)
        log.write(random.Random(0).randbytes(300))
        log.seek(0, 2)
        log.write(b"torn")
    broken = log_of(folder).read_bytes()
    with pytest.raises(CorruptStoreError, match="memstore verify --repair"):
        LadybugGraph.open(folder, create=False)
    assert log_of(folder).read_bytes() == broken


REPAIR = """
import resource, signal, sys
from pathlib import Path
from memstore.errors import StoreFullError
from memstore.graph.ladybug import LadybugGraph
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
try:
    LadybugGraph.repair(Path(sys.argv[1]))
    print("repaired")
except StoreFullError as error:
    print("no space left" in str(error))
"""


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.8, 0.9, 0.99])
def test_repair_without_space_says_so_and_is_repeated(
    tmp_path: Path, torn: tuple[Path, list[dict[str, Any]]], share: float
) -> None:
    killed, contents = torn
    folders = [shutil.copytree(killed, tmp_path / name) for name in ("graph", "undisturbed")]
    for folder in folders:
        with log_of(folder).open("rb+") as log:
            log.truncate(log_of(folder).stat().st_size - 37)
    LadybugGraph.repair(folders[1])
    limit = int(share * (folders[1] / "graph.lbdb").stat().st_size)
    done = subprocess.run(
        [sys.executable, "-c", REPAIR, str(folders[0]), str(limit)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
    LadybugGraph.repair(folders[0])
    with LadybugGraph.open(folders[0], create=False) as graph:
        assert dump(graph) == contents[-2]


def test_repair_recovers_a_log_that_is_damaged_in_the_middle(
    tmp_path: Path, torn: tuple[Path, list[dict[str, Any]]]
) -> None:
    killed, contents = torn
    folder = shutil.copytree(killed, tmp_path / "graph")
    with log_of(folder).open("rb+") as log:
        log.seek(log_of(folder).stat().st_size // 2)
        log.write(random.Random(0).randbytes(300))
    with pytest.raises(CorruptStoreError):
        LadybugGraph.open(folder, create=False)
    assert LadybugGraph.repair(folder)
    with LadybugGraph.open(folder, create=False) as graph:
        assert dump(graph) in contents[:-1]
    assert LadybugGraph.repair(folder) is None


def test_an_intact_log_is_replayed_and_needs_no_repair(tmp_path: Path, torn: tuple[Path, list[dict[str, Any]]]) -> None:
    killed, contents = torn
    folder = shutil.copytree(killed, tmp_path / "graph")
    assert LadybugGraph.repair(folder) is None
    with LadybugGraph.open(folder, create=False) as graph:
        assert dump(graph) == contents[-1]


def test_repair_refuses_a_damaged_database_file(tmp_path: Path, torn: tuple[Path, list[dict[str, Any]]]) -> None:
    folder = shutil.copytree(torn[0], tmp_path / "graph")
    with (folder / "graph.lbdb").open("rb+") as file:
        file.truncate(6_000)
    for attempt in (lambda: LadybugGraph.open(folder, create=False), lambda: LadybugGraph.repair(folder)):
        with pytest.raises(CorruptStoreError):
            attempt()
    log_of(folder).unlink()
    with pytest.raises(CorruptStoreError, match="restore a snapshot"):
        LadybugGraph.repair(folder)
