"""Files of reward models are copied with a snapshot and put back with it."""

from __future__ import annotations

from pathlib import Path

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
