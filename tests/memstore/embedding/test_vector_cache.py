"""The vector cache: appended vectors survive reopening, merging and crashes; invalid files are not read."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memstore.embedding import blocks
from memstore.embedding.cache import SMALL_BLOCKS, VectorCache
from memstore.errors import EmbedderError, InputError, StoreError, StoreFullError
from memstore.records.ids import vector_key

D = 4


def keys(*numbers: int) -> list[str]:
    return [vector_key(str(number)) for number in numbers]


def rows(*numbers: int) -> np.ndarray:
    """The vector of each number."""
    return np.array([[number, number + 0.25, -number, 1] for number in numbers], dtype=np.float32).reshape(-1, D)


def held(cache: VectorCache, *numbers: int) -> bool:
    found = cache.lookup(keys(*numbers))
    return bool((found >= 0).all()) and np.array_equal(cache.vectors(found), rows(*numbers))


def test_an_empty_cache_holds_nothing(tmp_path: Path) -> None:
    cache = VectorCache.open(tmp_path / "a" / "b", D)
    assert len(cache) == 0
    assert cache.lookup(keys(1, 2)).tolist() == [-1, -1]
    assert cache.vectors(np.zeros(0, np.int64)).shape == (0, D)
    assert cache.lookup([]).shape == (0,)


def test_rows_come_in_the_order_asked(tmp_path: Path) -> None:
    cache = VectorCache.open(tmp_path, D)
    cache.append(keys(5, 1, 3), rows(5, 1, 3))
    cache.append(keys(2, 4), rows(2, 4))
    assert len(cache) == 5
    assert held(cache, 4, 1, 5, 2, 3, 1)
    assert cache.lookup(keys(1, 9, 2)).tolist()[1] == -1


def test_vectors_survive_reopening(tmp_path: Path) -> None:
    cache = VectorCache.open(tmp_path, D)
    cache.append(keys(1, 2), rows(1, 2))
    cache.close()
    assert held(VectorCache.open(tmp_path, D), 2, 1)


def test_an_existing_key_keeps_its_vector_and_a_repeated_key_its_first(tmp_path: Path) -> None:
    cache = VectorCache.open(tmp_path, D)
    cache.append(keys(1), rows(1))
    cache.append(keys(1, 2, 2), rows(7, 2, 9))
    assert len(cache) == 2
    assert held(cache, 1, 2)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(0, 60), max_size=12), max_size=2 * SMALL_BLOCKS))
def test_any_sequence_of_appends_and_reopenings_keeps_all_vectors(calls: list[list[int]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        expected: set[int] = set()
        cache = VectorCache.open(folder, D)
        for number, call in enumerate(calls):
            cache.append(keys(*call), rows(*call))
            expected.update(call)
            if number % 3 == 2:
                cache.close()
                cache = VectorCache.open(folder, D)
            assert len(cache) == len(expected)
            assert held(cache, *sorted(expected))
        cache.close()
        assert held(VectorCache.open(folder, D), *sorted(expected, reverse=True))


def test_many_small_blocks_become_one(tmp_path: Path) -> None:
    cache = VectorCache.open(tmp_path, D)
    for number in range(SMALL_BLOCKS + 1):
        cache.append(keys(number), rows(number))
    cache.close()
    cache = VectorCache.open(tmp_path, D)
    assert len(list(tmp_path.glob("*.safetensors"))) == 1
    assert held(cache, *range(SMALL_BLOCKS + 1))
    cache.append(keys(99), rows(99))
    assert held(VectorCache.open(tmp_path, D), *range(SMALL_BLOCKS + 1), 99)


def test_a_crash_between_merging_and_deleting_keeps_each_vector_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = VectorCache.open(tmp_path, D)
    for number in range(SMALL_BLOCKS + 1):
        cache.append(keys(number), rows(number))
    cache.close()

    def crash(self: Path, missing_ok: bool = False) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", crash)
        with pytest.raises(KeyboardInterrupt):
            VectorCache.open(tmp_path, D)
    assert len(list(tmp_path.glob("*.safetensors"))) == SMALL_BLOCKS + 2
    cache = VectorCache.open(tmp_path, D)
    assert len(cache) == SMALL_BLOCKS + 1
    assert held(cache, *range(SMALL_BLOCKS + 1))
    assert len(list(tmp_path.glob("*.safetensors"))) == 1


@pytest.mark.parametrize("damage", ["short", "long", "empty", "header", "keys", "vectors", "foreign", "random"])
def test_an_invalid_file_is_moved_to_damaged(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    cache = VectorCache.open(tmp_path, D)
    cache.append(keys(1, 2), rows(1, 2))
    cache.append(keys(3), rows(3))
    cache.close()
    victim = tmp_path / "block-000000.safetensors"
    data = victim.read_bytes()
    where = int.from_bytes(data[:8], "little") + 8
    victim.write_bytes(
        {
            "short": data[:-5],
            "long": data + b"x",
            "empty": b"",
            "header": data[:8] + b"}" + data[9:],
            "keys": data[:-32] + bytes(32),
            "vectors": data[:where] + bytes(16) + data[where + 16 :],
            "foreign": data.replace(blocks.FORMAT.encode(), b"x" * len(blocks.FORMAT)),
            "random": os.urandom(500),
        }[damage]
    )
    cache = VectorCache.open(tmp_path, D)
    assert len(cache) == 1
    assert held(cache, 3)
    assert (tmp_path / "damaged" / victim.name).exists()
    assert victim.name in caplog.text
    cache.append(keys(1, 2), rows(1, 2))
    assert held(VectorCache.open(tmp_path, D), 1, 2, 3)


def test_a_different_dimension_is_rejected_and_no_file_is_moved(tmp_path: Path) -> None:
    cache = VectorCache.open(tmp_path, D)
    cache.append(keys(1), rows(1))
    cache.close()
    with pytest.raises(EmbedderError, match="4 dimensions"):
        VectorCache.open(tmp_path, D + 1)
    assert held(VectorCache.open(tmp_path, D), 1)


@pytest.mark.parametrize(
    ("names", "vectors"),
    [
        (["xyz"], rows(1)),
        (["a" * 31], rows(1)),
        (["a" * 30, "b" * 34], rows(1, 2)),
        (["a" * 32], rows(1, 2)),
        (["a" * 32], rows(1)[:, :2]),
        (["a" * 32], np.full((1, D), np.nan, np.float32)),
    ],
    ids=["no-hex", "short", "shifted", "count", "dimension", "nan"],
)
def test_invalid_keys_and_vectors_are_rejected(tmp_path: Path, names: list[str], vectors: np.ndarray) -> None:
    cache = VectorCache.open(tmp_path, D)
    with pytest.raises(InputError):
        cache.append(names, vectors)
    assert len(cache) == 0
    assert not list(tmp_path.iterdir())


def test_rows_out_of_range_are_rejected(tmp_path: Path) -> None:
    cache = VectorCache.open(tmp_path, D)
    cache.append(keys(1), rows(1))
    for row in (-1, 1):
        with pytest.raises(InputError, match="not in the vector cache"):
            cache.vectors(np.array([0, row]))


def test_a_closed_cache_raises_an_error(tmp_path: Path) -> None:
    cache = VectorCache.open(tmp_path, D)
    cache.close()
    cache.close()
    with pytest.raises(StoreError, match="closed"):
        cache.lookup(keys(1))


def test_a_full_disk_leaves_the_cache_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = VectorCache.open(tmp_path, D)
    cache.append(keys(1), rows(1))

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StoreFullError, match="no space left"):
            cache.append(keys(2), rows(2))
    assert [path.name for path in tmp_path.iterdir()] == ["block-000000.safetensors"]
    cache.append(keys(3), rows(3))
    assert held(cache, 1, 3)
    assert cache.lookup(keys(2)).tolist() == [-1]


WRITER = """
import sys
from pathlib import Path
import numpy as np
from memstore.embedding.cache import VectorCache
from memstore.records.ids import vector_key
cache = VectorCache.open(Path(sys.argv[1]), 4)
for number in range(len(cache), 1_000_000, 3):
    chosen = range(number, number + 3)
    vectors = np.array([[n, n + 0.25, -n, 1] for n in chosen], dtype=np.float32)
    cache.append([vector_key(str(n)) for n in chosen], vectors)
    print(number + 3, flush=True)
"""


def test_every_acknowledged_append_survives_kill_9(tmp_path: Path) -> None:
    for lines in (20, 100, 1):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        printed = "".join(process.stdout.readline() for _ in range(lines))
        os.kill(process.pid, signal.SIGKILL)
        printed += process.stdout.read()  # not communicate(): it reads the pipe past what readline() has buffered
        process.wait()
        done = int(printed[: printed.rindex("\n")].split("\n")[-1])  # the last line may be cut
        cache = VectorCache.open(tmp_path, D)
        assert done <= len(cache) <= done + 3
        assert held(cache, *range(len(cache)))
        assert not (tmp_path / "damaged").exists()
        cache.close()
