"""The embedded vector store: ownership of the folder, durability after kill -9, a full disk, a damaged file."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from memstore.errors import CorruptStoreError, InputError, LocationError, LockedError, StoreFullError
from memstore.testing.conformance.vectors import names, unit_vectors
from memstore.vectors.embedded import FILE, EmbeddedVectors

FINGERPRINT = "tiny_16_c0ffee00"
DIMENSION = 16


def open_vectors(folder: Path, **options: object) -> EmbeddedVectors:
    return EmbeddedVectors.open(folder, **{"fingerprint": FINGERPRINT, "dimension": DIMENSION, **options})  # type: ignore[arg-type]


def some(count: int) -> np.ndarray:
    return unit_vectors(count, dimension=DIMENSION)


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds `tmp_path / "vectors"` open."""
    code = (
        "import sys; from pathlib import Path; from memstore.vectors.embedded import EmbeddedVectors\n"
        f"v = EmbeddedVectors.open(Path(sys.argv[1]), fingerprint={FINGERPRINT!r}, dimension={DIMENSION})\n"
        "print('open', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "vectors")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    yield process
    process.kill()
    process.communicate()


def test_a_folder_owned_by_another_process_is_refused_with_its_pid(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    with pytest.raises(LockedError, match=str(holder.pid)) as caught:
        open_vectors(tmp_path / "vectors")
    assert caught.value.pid == holder.pid


def test_it_opens_after_the_other_process_was_killed(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    holder.kill()
    holder.wait()
    with open_vectors(tmp_path / "vectors") as store:
        assert store.count() == 0


def test_a_second_store_in_this_process_is_refused(tmp_path: Path) -> None:
    with open_vectors(tmp_path / "vectors"), pytest.raises(LockedError, match="this process"):
        open_vectors(tmp_path / "vectors")
    open_vectors(tmp_path / "vectors").close()


def test_two_folders_are_independent(tmp_path: Path) -> None:
    with open_vectors(tmp_path / "a") as a, open_vectors(tmp_path / "b") as b:
        a.upsert("query", ["q-1"], some(1))
        assert (a.count(), b.count()) == (1, 0)


WRITER = f"""
import sys
from pathlib import Path
from memstore.testing.conformance.vectors import names, unit_vectors
from memstore.vectors.embedded import EmbeddedVectors
store = EmbeddedVectors.open(Path(sys.argv[1]), fingerprint={FINGERPRINT!r}, dimension={DIMENSION})
ids, vectors = names(200_000), unit_vectors(200_000, dimension={DIMENSION})
for start in range(0, len(ids), 250):
    store.upsert("thinking", ids[start:start + 250], vectors[start:start + 250])
    if start % 2500 == 0:
        store.flush()
    print(start + 250, flush=True)
"""


def test_every_acknowledged_row_survives_kill_9(tmp_path: Path) -> None:
    vectors = unit_vectors(200_000, dimension=DIMENSION)
    for lines in (1, 5, 31):
        folder = tmp_path / f"killed-{lines}"
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL
        )
        assert process.stdout is not None
        printed = "".join(process.stdout.readline() for _ in range(lines))
        os.kill(process.pid, signal.SIGKILL)
        printed += process.stdout.read()  # not communicate(): it reads the pipe past what readline() has buffered
        process.wait()
        acknowledged = 250 * printed.count("\n")
        with open_vectors(folder) as store:
            fetched = store.fetch(names(acknowledged))
            assert fetched.found.all(), (lines, acknowledged)
            assert np.array_equal(fetched.vectors, vectors[:acknowledged])
            assert acknowledged <= store.count() <= acknowledged + 250


def test_a_full_disk_is_reported_and_loses_no_acknowledged_row(tmp_path: Path) -> None:
    with open_vectors(tmp_path / "vectors") as store:
        store.upsert("thinking", names(100), some(100))
        store.flush()
        assert store._database is not None
        pages = store._database.execute("PRAGMA page_count").fetchone()[0]
        store._database.execute(f"PRAGMA max_page_count = {pages + 2}")
        with pytest.raises(StoreFullError, match="no space left"):
            store.upsert("thinking", names(900)[100:], some(800))
        assert store.missing(names(900)) == names(900)[100:], "the failed write left nothing"
    with open_vectors(tmp_path / "vectors") as store:
        store.upsert("thinking", names(900)[100:], some(800))
        assert store.count() == 900


@pytest.mark.parametrize("limit", [512, 4_096, 20_000, 32_768, 40_000, 60_000])
def test_a_limit_on_the_size_of_files_is_reported_as_missing_space(tmp_path: Path, limit: int) -> None:
    # As a quota does; SQLite calls it a disk I/O error. The file of shared memory is 32 KiB.
    with open_vectors(tmp_path / "vectors") as store:
        store.upsert("thinking", names(100), some(100))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(StoreFullError, match="no space left"), open_vectors(tmp_path / "vectors") as store:
            store.upsert("thinking", names(900)[100:], some(800))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with open_vectors(tmp_path / "vectors") as store:
        assert store.missing(names(900)) == names(900)[100:]


@pytest.mark.parametrize("damage", [b"not a database" * 500, b""], ids=["foreign", "zeroed"])
def test_a_damaged_file_is_reported_with_its_repair(tmp_path: Path, damage: bytes) -> None:
    folder = tmp_path / "vectors"
    with open_vectors(folder) as store:
        store.upsert("thinking", names(500), some(500))
    data = (folder / FILE).read_bytes()
    (folder / FILE).write_bytes(damage or data[:4096] + bytes(len(data) - 4096))
    for _ in range(2):
        with pytest.raises(CorruptStoreError, match="memstore verify --repair"), open_vectors(folder) as store:
            store.fetch(names(500))


def test_without_create_nothing_is_created(tmp_path: Path) -> None:
    with pytest.raises(LocationError, match="no vectors"):
        open_vectors(tmp_path / "vectors", create=False)
    assert not (tmp_path / "vectors").exists()
    open_vectors(tmp_path / "vectors").close()
    with pytest.raises(LocationError, match="no collection"):
        open_vectors(tmp_path / "vectors", fingerprint="another_16_00000000", create=False)
    open_vectors(tmp_path / "vectors", create=False).close()


def test_invalid_names_are_refused(tmp_path: Path) -> None:
    for options in ({"namespace": 'a" or "1'}, {"namespace": ""}, {"fingerprint": "a/b"}):
        with pytest.raises(InputError):
            open_vectors(tmp_path / "vectors", **options)
    assert not (tmp_path / "vectors").exists()


def test_a_store_that_was_not_closed_lets_the_process_end(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from memstore.testing.conformance.vectors import names, unit_vectors\n"
        "from memstore.vectors.embedded import EmbeddedVectors\n"
        f"v = EmbeddedVectors.open(Path(sys.argv[1]), fingerprint={FINGERPRINT!r}, dimension={DIMENSION})\n"
        f"v.upsert('query', names(10), unit_vectors(10, dimension={DIMENSION}))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "vectors")], capture_output=True, text=True, check=True
    )
    assert result.stderr == ""
    with open_vectors(tmp_path / "vectors") as store:
        assert store.count() == 10
