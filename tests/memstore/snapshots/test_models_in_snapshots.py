"""Files of reward models are copied with a snapshot and put back with it."""

from __future__ import annotations

import os
from pathlib import Path

from memstore.snapshots.atomic_folder import atomic_folder
from memstore.snapshots.models import copy_models


def test_models_are_copied_once_and_whole(tmp_path: Path) -> None:
    for name in ("m-1", "m-2", ".m-3.77"):  # the last is half a copy
        (tmp_path / "a" / name).mkdir(parents=True)
        (tmp_path / "a" / name / "model.json").write_text(name)
    (tmp_path / "a" / "file").touch()
    (tmp_path / "b" / "m-2").mkdir(parents=True)
    (tmp_path / "b" / "m-2" / "model.json").write_text("own")
    assert copy_models(tmp_path / "a", tmp_path / "b") == ["m-1"]
    assert (tmp_path / "b" / "m-1" / "model.json").read_text() == "m-1"
    assert (tmp_path / "b" / "m-2" / "model.json").read_text() == "own"
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == ["m-1", "m-2"]
    assert copy_models(tmp_path / "a", tmp_path / "b") == []
    assert copy_models(tmp_path / "none", tmp_path / "b") == []


def test_only_named_models_are_copied(tmp_path: Path) -> None:
    for name in ("m-1", "m-2"):
        (tmp_path / "a" / name).mkdir(parents=True)
    assert copy_models(tmp_path / "a", tmp_path / "b", {"m-2", "m-3"}) == ["m-2"]


def test_what_a_killed_process_left_is_deleted_and_what_another_builds_stays(tmp_path: Path) -> None:
    """Also if both have one pid, as the processes of two containers."""
    own = tmp_path / f".new.{os.getpid()}"
    for left in (own, tmp_path / f".new.{2**30}", tmp_path / f".new.{2**30}-1", tmp_path / ".new.notes"):
        left.mkdir()
        (left / "half").touch()
    with atomic_folder(tmp_path / "new", "snapshot") as building:
        assert building == own
        assert not list(building.iterdir())
        with atomic_folder(tmp_path / "new", "snapshot") as second:  # finds the first in use
            assert second.name == f".new.{os.getpid()}-1"
        (tmp_path / "new").rmdir()
        assert building.is_dir()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".new.notes", "new"]
