"""What is Milvus Lite's own: its lock, its port, its log after a kill, a full disk, a broken folder."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from memstore.errors import CorruptStoreError, InputError, LocationError, LockedError, StoreError, StoreFullError
from memstore.testing.vector_conformance import names, unit_vectors
from memstore.vectors.milvus import MilvusVectors

FINGERPRINT = "tiny_16_c0ffee00"
DIMENSION = 16


def open_vectors(folder: Path, **options: object) -> MilvusVectors:
    return MilvusVectors.open(folder, **{"fingerprint": FINGERPRINT, "dimension": DIMENSION, **options})  # type: ignore[arg-type]


def some(count: int) -> np.ndarray:
    return unit_vectors(count, dimension=DIMENSION)


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds `tmp_path / "vectors"` open."""
    code = (
        "import sys; from memstore.vectors.milvus import MilvusVectors\n"
        f"v = MilvusVectors.open(sys.argv[1], fingerprint={FINGERPRINT!r}, dimension={DIMENSION})\n"
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


def test_a_folder_held_by_another_process_names_it(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(LockedError, match=str(holder.pid)) as caught:
        open_vectors(tmp_path / "vectors")
    assert caught.value.pid == holder.pid


def test_it_opens_when_the_other_process_is_gone(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    holder.kill()
    holder.wait()
    with open_vectors(tmp_path / "vectors") as store:
        assert store.count() == 0


def test_a_second_store_in_this_process_is_refused(tmp_path: Path) -> None:
    with open_vectors(tmp_path / "vectors"), pytest.raises(LockedError, match="this process"):
        open_vectors(tmp_path / "vectors")
    open_vectors(tmp_path / "vectors").close()


def test_two_folders_at_once_stay_apart(tmp_path: Path) -> None:
    with open_vectors(tmp_path / "a") as a, open_vectors(tmp_path / "b") as b:
        a.upsert("query", ["q-1"], some(1))
        assert (a.count(), b.count()) == (1, 0)


LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F"}
"""127.0.0.1 and ::ffff:127.0.0.1."""


def listening() -> set[tuple[str, str]]:
    """(address, inode) of every TCP socket of this process that listens, addresses as the kernel writes them."""
    own, found = set(), set()
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            own.add(os.readlink(link))
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in own:
                found.add((fields[1].rpartition(":")[0], fields[9]))
    return found


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/net")
def test_it_listens_on_loopback_only_and_stops_with_close(tmp_path: Path) -> None:
    before = listening()
    with open_vectors(tmp_path / "vectors"):
        opened = listening() - before
        assert opened
        assert {address for address, _ in opened} <= LOOPBACK
    assert listening() - before == set()


WRITER = f"""
import sys
import numpy as np
from memstore.testing.vector_conformance import names, unit_vectors
from memstore.vectors.milvus import MilvusVectors
store = MilvusVectors.open(sys.argv[1], fingerprint={FINGERPRINT!r}, dimension={DIMENSION})
ids, vectors = names(200_000), unit_vectors(200_000, dimension={DIMENSION})
for start in range(0, len(ids), 250):
    store.upsert("thinking", ids[start:start + 250], vectors[start:start + 250])
    if start % 2500 == 0:
        store.flush()
    print(start + 250, flush=True)
"""


def test_every_acknowledged_row_survives_kill_9(tmp_path: Path) -> None:
    vectors = unit_vectors(200_000, dimension=DIMENSION)
    for wait in (0.15, 0.4, 0.8):
        folder = tmp_path / f"killed-{wait}"
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL
        )
        assert process.stdout is not None
        printed = process.stdout.readline()
        time.sleep(wait)
        os.kill(process.pid, signal.SIGKILL)
        printed += process.stdout.read()  # not communicate(): it reads the pipe past what readline() has buffered
        process.wait()
        acknowledged = 250 * printed.count("\n")
        with open_vectors(folder) as store:
            fetched = store.fetch(names(acknowledged))
            assert fetched.found.all(), (wait, acknowledged)
            assert np.array_equal(fetched.vectors, vectors[:acknowledged])
            assert acknowledged <= store.count() <= acknowledged + 250


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_says_so_and_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    folder = tmp_path / "vectors"
    with open_vectors(folder) as store:
        store.upsert("thinking", names(100), some(100))
        store.flush()
        log = next(folder.glob("collections/*/wal"))
        (log / "wal_data_000002.arrow").symlink_to("/dev/full")
        with pytest.raises(StoreFullError, match="no space left"):
            store.upsert("thinking", names(200)[100:], some(100))
        with pytest.raises(StoreError, match="open them again"):
            store.upsert("thinking", names(300)[200:], some(100))
    (log / "wal_data_000002.arrow").unlink(missing_ok=True)
    with open_vectors(folder) as store:
        assert store.missing(names(100)) == []
        store.upsert("thinking", names(200)[100:], some(100))
        assert store.count() == 200


def test_a_broken_folder_says_what_to_do(tmp_path: Path) -> None:
    folder = tmp_path / "vectors"
    with open_vectors(folder) as store:
        store.upsert("thinking", names(100), some(100))
    data = next(folder.rglob("*.parquet"))
    data.write_bytes(data.read_bytes()[:200])
    with pytest.raises(CorruptStoreError, match="memstore verify --repair"):
        open_vectors(folder)
    with pytest.raises(CorruptStoreError):
        open_vectors(folder)


def test_without_create_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(LocationError, match="no vectors"):
        open_vectors(tmp_path / "vectors", create=False)
    assert not (tmp_path / "vectors").exists()
    open_vectors(tmp_path / "vectors").close()
    with pytest.raises(LocationError, match="no collection"):
        open_vectors(tmp_path / "vectors", fingerprint="another_16_00000000", create=False)
    open_vectors(tmp_path / "vectors", create=False).close()


def test_names_that_could_not_stand_in_an_expression_are_refused(tmp_path: Path) -> None:
    for options in ({"namespace": 'a" or "1'}, {"namespace": ""}, {"fingerprint": "a/b"}):
        with pytest.raises(InputError):
            open_vectors(tmp_path / "vectors", **options)
    assert not (tmp_path / "vectors").exists()


def test_a_fault_prints_nothing_and_is_one_sentence(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from memstore.errors import StoreError\n"
        "from memstore.testing.vector_conformance import names, unit_vectors\n"
        "from memstore.vectors.milvus import MilvusVectors\n"
        f"v = MilvusVectors.open(sys.argv[1], fingerprint={FINGERPRINT!r}, dimension={DIMENSION})\n"
        "v._client.drop_collection(v._collection)\n"
        "try: v.count('query')\n"
        "except StoreError as error: print(error)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "vectors")], capture_output=True, text=True, check=True
    )
    assert result.stderr == ""
    assert len(result.stdout.splitlines()) == 1
    assert str(tmp_path / "vectors") in result.stdout


def test_no_server_answers(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no Milvus answers at http://127\.0\.0\.1:9"):
        MilvusVectors.open("http://127.0.0.1:9", fingerprint=FINGERPRINT, dimension=DIMENSION)


def test_a_store_that_nobody_closed_lets_the_process_end(tmp_path: Path) -> None:
    code = (
        "import sys; from memstore.testing.vector_conformance import names, unit_vectors\n"
        "from memstore.vectors.milvus import MilvusVectors\n"
        f"v = MilvusVectors.open(sys.argv[1], fingerprint={FINGERPRINT!r}, dimension={DIMENSION})\n"
        f"v.upsert('query', names(10), unit_vectors(10, dimension={DIMENSION}))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "vectors")], capture_output=True, text=True, check=True
    )
    assert result.stderr == ""
    with open_vectors(tmp_path / "vectors") as store:
        assert store.count() == 10
