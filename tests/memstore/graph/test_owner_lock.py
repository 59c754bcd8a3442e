"""One owner at a time, by name and pid."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from memstore.errors import LocationError, LockedError
from memstore.graph import lock
from memstore.graph.ladybug import LadybugGraph
from memstore.graph.lock import OwnerLock

HOLDER = """
import sys
from pathlib import Path
from memstore.graph.lock import OwnerLock
lock = OwnerLock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_the_owner_is_named_and_its_lock_ends_with_it(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(LockedError, match=rf"process {holder.pid} \(since 20.*memstore serve") as refused:
        OwnerLock(tmp_path)
    assert refused.value.pid == holder.pid
    holder.kill()
    holder.wait()
    OwnerLock(tmp_path).release()


def test_opening_a_graph_names_the_owner(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(LockedError, match=str(holder.pid)):
        LadybugGraph.open(tmp_path, create=True)
    (tmp_path / "graph.lbdb").touch()
    with pytest.raises(LockedError, match=str(holder.pid)):
        LadybugGraph.repair(tmp_path)


def test_a_second_lock_of_the_same_process_is_refused(tmp_path: Path) -> None:
    held = OwnerLock(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path)
    for folder in (tmp_path, tmp_path / "link"):
        with pytest.raises(LockedError, match="this process") as refused:
            OwnerLock(folder)
        assert refused.value.pid == os.getpid()
    held.release()
    held.release()
    OwnerLock(tmp_path).release()


def test_the_kernel_lock_is_checked_without_the_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = OwnerLock(tmp_path)
    monkeypatch.setattr(lock, "_held", {})
    with pytest.raises(LockedError, match=str(os.getpid())):
        OwnerLock(tmp_path)
    monkeypatch.undo()
    held.release()


def test_the_signature_of_a_dead_owner_is_not_a_lock(tmp_path: Path) -> None:
    (tmp_path / "owner.lock").write_text("1 2020-01-01T00:00:00+00:00\n" * 9)
    held = OwnerLock(tmp_path)
    assert (tmp_path / "owner.lock").read_text().split()[0] == str(os.getpid())
    held.release()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_write_permission_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(LocationError, match="cannot be written"):
        OwnerLock(tmp_path)


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EIO])
def test_a_file_system_without_locks_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def flock(file: int, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patched:
        patched.setattr("fcntl.flock", flock)
        with pytest.raises(LocationError, match="local disk"):
            OwnerLock(tmp_path)
    OwnerLock(tmp_path).release()


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.ENOSPC, errno.EDQUOT])
def test_a_folder_that_cannot_be_written_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def failing(*arguments: object) -> int:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patched:
        patched.setattr("os.open", failing)
        with pytest.raises(LocationError, match="cannot be written"):
            OwnerLock(tmp_path)
    OwnerLock(tmp_path).release()
